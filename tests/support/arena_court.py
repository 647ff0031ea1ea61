"""The arena as a challenger sees it, and a worker that plays by a script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from efedllm.chain.answers import Block
from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.dispute_game import DisputeGame, Fault
from efedllm.chain.errors import Reorganised, Reverted
from efedllm.chain.event_reader import Cursor, Page
from efedllm.chain.game_events import Demanded, Opened
from efedllm.chain.origin import Event
from efedllm.chain.transactions import Receipt, Sender
from efedllm.protocol.descent import Descent, TreeSource, leaf, reveal, spot_of
from efedllm.protocol.frames import pack_tokens
from efedllm.protocol.game import OVER, TOKENS_PER_CHUNK, Game, Paper, Phase, Side
from tests.support.arena import FEE, TIME, WINDOW, Arena
from verifier.court import Money

GAME = "0x" + "9a" * 20


class Bench(Protocol):
    """What a scripted worker needs of a chain."""

    calls: DisputeGame

    async def games(self) -> dict[int, Game]: ...

    async def send(self, call: Call) -> Receipt: ...


class ChainBench:
    """On a real chain, with the worker's hot key."""

    def __init__(self, chain: Chain, sender: Sender) -> None:
        assert chain.game is not None
        self.chain, self.calls, self._sender = chain, chain.game, sender

    async def games(self) -> dict[int, Game]:
        found = {}
        async for page in self.chain.events("DisputeGame").read():
            for event in page.events:
                if isinstance(event, Opened | Demanded):
                    try:
                        found[event.game_id] = await self.calls.game_of(event.game_id)
                    except Reverted:
                        continue  # its place is another's
        return found

    async def send(self, call: Call) -> Receipt:
        return await self._sender.send(call)


class ArenaReader:
    """Like `EventReader`, a page a block."""

    def __init__(self, arena: Arena, confirmations: int) -> None:
        self._arena, self._confirmations = arena, confirmations
        self.first_block = 1

    async def read(self, cursor: Cursor | None = None, last: int | None = None) -> AsyncIterator[Page]:
        if cursor is not None and not await self.holds(cursor):
            raise Reorganised(cursor.block)
        first = self.first_block if cursor is None else cursor.block + 1
        for number in range(first, self._arena.state.number - self._confirmations + 1):
            events = [one for one in self._arena.state.events if one.origin.block_number == number]
            yield Page(Cursor(number, self._arena.block_hash(number)), tuple(events))

    async def holds(self, cursor: Cursor) -> bool:
        return cursor.block <= self._arena.state.number and self._arena.block_hash(cursor.block) == cursor.hash


class ArenaCourt:
    """`verifier.court.Court` for one account."""

    def __init__(self, arena: Arena, address: str, before_send: Callable[[Call], None] = lambda call: None) -> None:
        self.arena, self.address, self._before_send = arena, address, before_send
        self.calls = DisputeGame(None, GAME)  # type: ignore[arg-type]  # nothing is read through it
        self.sent: list[str] = []

    async def block(self) -> Block:
        return self.arena.block()

    async def game(self, game_id: int) -> Game | None:
        return self.arena.state.games.get(game_id)

    async def fault(self, worker: str, request_id: bytes) -> Fault:
        return self.arena.state.faults.get((worker, request_id), Fault(0, 0, 0, 0))

    async def shares(self, worker: str, request_id: bytes) -> int:
        return self.arena.state.shares.get((worker, request_id, self.address), 0)

    async def money(self, worker: str, claim: int, entry: int, receipt_digest: bytes) -> Money:
        return Money(TIME + WINDOW, receipt_digest not in self.arena.state.refunded)

    async def bond(self, worker: str) -> int:
        return self.arena.bond_for(worker)

    async def demand_fee(self) -> int:
        return FEE

    async def balance(self) -> int:
        return self.arena.state.balances.get(self.address, 0)

    async def approve(self, amount: int) -> None:
        pass

    async def news(self, behind: Cursor | None) -> Sequence[Event]:
        return [event async for page in ArenaReader(self.arena, 0).read(behind) for event in page.events]

    async def send(self, call: Call) -> Receipt:
        self._before_send(call)
        receipt = self.arena.send(self.address, call)
        self.sent.append(call.label.removeprefix("DisputeGame."))
        return receipt

    async def games(self) -> dict[int, Game]:
        """All that the contract knows."""
        return dict(self.arena.state.games)

    async def gas(self, transaction_hash: bytes) -> int:
        return 21_000


@dataclass
class Defender:
    """Answers as `trees` say, which need not be true. `moves`: how many it makes before it falls silent."""

    court: Bench
    descent: Descent
    paper: Paper
    body_root: bytes
    trees: dict[Side, TreeSource]
    moves: int = 1000
    tokens: list[int] = field(default_factory=list)
    """What it answers to demands: at most one group; empty: nothing."""
    made: list[str] = field(default_factory=list)

    async def step(self) -> None:
        """One move in every game against the worker that waits for one."""
        calls = self.court.calls
        for game_id, game in (await self.court.games()).items():
            if game.worker != self.paper.receipt.worker or game.phase in OVER or len(self.made) >= self.moves:
                continue
            spot = spot_of(game)
            source = self.trees.get(game.side)
            match game.phase:
                case Phase.TRACE:
                    call = calls.post_trace(game_id, game.receipt_digest, self.body_root)
                case Phase.REVEAL if source is not None:
                    call = calls.reveal(game_id, reveal(self.descent, spot, source))
                case Phase.LEAF if source is not None:
                    call = calls.reveal_leaf(game_id, self.paper, leaf(self.descent, spot, source))
                case Phase.DEMAND if self.tokens:
                    first = TOKENS_PER_CHUNK * game.chunk
                    data = pack_tokens(self.tokens[first : first + TOKENS_PER_CHUNK])
                    call = calls.answer_demand(game_id, self.paper.receipt, data, ())
                case _:
                    continue
            await self.court.send(call)
            self.made.append(call.label)
