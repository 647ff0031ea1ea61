"""Games against one worker on a chain made of lists: for tests of who plays them, not of the rules (`referee.py`).

Every transaction is a block, and so is every event; time passes only when it is told to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from efedllm.chain.binding import Call
from efedllm.chain.errors import ChainUnreachable, EarlierTransaction, Reverted
from efedllm.chain.event_reader import Cursor, Page
from efedllm.chain.game_events import Answered, Demanded, Ended, Opened
from efedllm.chain.origin import Event, Origin
from efedllm.protocol.descent import Descent
from efedllm.protocol.game import CHALLENGER_MOVES, Game, Phase, Side
from efedllm.protocol.merkle import depth_of, token_leaf, tree_root
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.objects import Receipt
from tests.support.referee import CHALLENGER, Broken, Referee
from worker.defence import Move, PostTrace, Reveal, RevealLeaf

MOVE_SECONDS = 100
ADDRESS = "0x" + "dd" * 20


@dataclass(frozen=True)
class FakeCall(Call):
    effect: Callable[[], None] = lambda: None


@dataclass
class FakeDisputes:
    """Stands for chain, contract, event reader and sender at once. `fails`: what the next transactions raise."""

    model: ModelSpec
    games: dict[int, Referee] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    time: int = 1000
    block: int = 1
    moves: list[tuple[int, str]] = field(default_factory=list)
    fails: list[Exception] = field(default_factory=list)
    is_down: bool = False
    lag: int = 0
    branch: int = 0
    first_block: int = 1

    # what a chain is asked for

    @property
    def chain(self) -> Any:
        block = lambda: self._answer(SimpleNamespace(number=self.block - self.lag, timestamp=self.time))  # noqa: E731
        return SimpleNamespace(
            rpc=SimpleNamespace(block=block),
            events=lambda _: self,
            models=SimpleNamespace(spec_of=lambda _: self._answer(self.model)),
            deployment=SimpleNamespace(token_decimals=0, token_symbol="WORK"),
        )

    async def _answer(self, value: Any) -> Any:
        if self.is_down:
            raise ChainUnreachable("here")
        return value

    async def read(self, cursor: Cursor | None) -> AsyncIterator[Page]:
        await self._answer(None)
        done = cursor.block if cursor else 0
        for block in range(done + 1, self.block + 1):
            events = tuple(event for event in self.events if event.origin.block_number == block)
            yield Page(Cursor(block, block.to_bytes(32)), events)

    async def holds(self, cursor: Cursor) -> bool:
        return True

    async def games_of(self, ids: Sequence[int], block: int) -> list[Game | None]:
        return [self.games[one].game if one in self.games else None for one in ids]

    # transactions

    def post_trace(self, game_id: int, digest: bytes, body_root: bytes) -> Call:
        assert self.games[game_id].digest == digest
        return self._move(game_id, "postTrace", PostTrace(body_root))

    def reveal(self, game_id: int, children: Sequence[bytes]) -> Call:
        return self._move(game_id, "reveal", Reveal(tuple(children)))

    def reveal_leaf(self, game_id: int, paper: Any, leaf: bytes) -> Call:
        assert paper.receipt == self.games[game_id].receipt
        return self._move(game_id, "revealLeaf", RevealLeaf(leaf))

    def answer_demand(self, game_id: int, receipt: Receipt, tokens: bytes, siblings: Sequence[bytes]) -> Call:
        def effect() -> None:
            referee = self.games[game_id]
            if self.time > referee.game.deadline or referee.game.phase is not Phase.DEMAND:
                raise Reverted("refused", "TooLate")
            words = [token_leaf(int.from_bytes(tokens[at : at + 4], "little")) for at in range(0, len(tokens), 4)]
            assert len(siblings) == max(0, depth_of(receipt.promptCount + receipt.generated) - 10)
            assert siblings or tree_root(words) == receipt.tokenRoot
            self._set(game_id, phase=Phase.ANSWERED, deadline=self.time + MOVE_SECONDS)
            self._tell(lambda origin: Answered(origin, game_id, tokens, 1, 1, self.time + MOVE_SECONDS))

        return self._call(game_id, "answerDemand", effect)

    def timeout(self, game_id: int, receipt: Receipt) -> Call:
        def effect() -> None:
            game = self.games[game_id].game
            if game.phase not in CHALLENGER_MOVES | {Phase.ANSWERED} or self.time <= game.deadline:
                raise Reverted("refused", "TooEarly")
            self.end(game_id, Phase.WORKER_WON)

        return self._call(game_id, "timeout", effect)

    async def send_all(self, calls: Sequence[FakeCall]) -> list[Any]:
        await self._answer(None)
        if self.fails:
            raise self.fails.pop(0)
        for call in calls:
            call.effect()
        return [SimpleNamespace(block_number=self.block) for _ in calls]

    def _move(self, game_id: int, name: str, move: Move) -> Call:
        def effect() -> None:
            referee = self.games[game_id]
            if self.time > referee.game.deadline:
                raise Reverted("refused", "TooLate")
            try:
                referee.take(move)
            except Broken as error:
                raise Reverted(str(error)) from error
            self._set(game_id, deadline=self.time + MOVE_SECONDS)

        return self._call(game_id, name, effect)

    def _call(self, game_id: int, name: str, effect: Callable[[], None]) -> Call:
        def mined() -> None:
            effect()
            self.moves.append((game_id, name))
            self.block += 1

        return FakeCall(ADDRESS, b"", name, 0, mined)

    # what others do

    def open(self, descent: Descent, receipt: Receipt, digest: bytes, chunk: int | None = None) -> int:
        """A game, or with `chunk` a demand."""
        game_id = len(self.games) + 1
        referee = self.games[game_id] = Referee.open(descent, receipt, digest, self.time + MOVE_SECONDS)
        common = (game_id, receipt.worker, CHALLENGER, receipt.requestId, digest)
        money = (True, 0, 0, 1, referee.game.deadline)
        if chunk is None:
            self._tell(lambda origin: Opened(origin, *common, 10, *money))
        else:
            self._set(game_id, phase=Phase.DEMAND, chunk=chunk)
            self._tell(lambda origin: Demanded(origin, *common, chunk, 10, 1, *money))
        return game_id

    def choose(self, game_id: int, side: Side) -> None:
        self.games[game_id].choose(side)
        self._set(game_id, deadline=self.time + MOVE_SECONDS)
        self.block += 1

    def pick(self, game_id: int, digit: int) -> None:
        if self.games[game_id].pick(digit):
            self._set(game_id, deadline=self.time + MOVE_SECONDS)
            self.block += 1

    def end(self, game_id: int, outcome: Phase) -> None:
        self._set(game_id, phase=outcome)
        game = self.games[game_id].game
        self._tell(lambda origin: Ended(origin, game_id, game.worker, CHALLENGER, outcome, 0, 5, 5, 0))

    def _set(self, game_id: int, **changes: Any) -> None:
        referee = self.games[game_id]
        referee.game = replace(referee.game, **changes)

    def _tell(self, make: Callable[[Origin], Event]) -> None:
        self.block += 1
        self.events.append(make(Origin(self.block, 0, self.block.to_bytes(32), bytes(32), ADDRESS)))


EARLIER = EarlierTransaction(ADDRESS, "something")
