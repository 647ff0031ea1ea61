"""Answers every game and demand against this worker: looks, decides (`defence.py`), sends, tells.

That there is a game is learnt from confirmed events. What is to be done in it is read from the contract at the newest
block before every move, so kills and reorganisations need no repair. Deadlines run, so the nearest comes first.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.dispute_game import DisputeGame
from efedllm.chain.errors import ChainError, EarlierTransaction, Reverted
from efedllm.chain.follower import Follower
from efedllm.chain.transactions import Sender
from efedllm.protocol.game import WORKER_MOVES
from efedllm.protocol.model_spec import ModelSpec

from .defence import (
    AnswerDemand,
    Concede,
    Due,
    Exhibit,
    Facing,
    Move,
    PostTrace,
    Reveal,
    RevealLeaf,
    agenda,
    answer,
    due,
    next_time,
)
from .dispute_news import announce
from .errors import StoreError
from .exhibits import Exhibits, Order
from .games import GameLedger
from .kept import Inputs
from .notices import Notices
from .store import Store

log = logging.getLogger("efedllm.worker")

Build = Callable[[ModelSpec, Inputs], Exhibit]
"""Builds what games about a receipt are played with; takes the model as it is registered. Raises EfedllmError."""
BATCH = 16
"""Moves that may share a block."""
LAG_SECONDS = 60.0
"""How long a node may not know yet what was mined from here."""
REPEAT_SECONDS = 300.0
"""What is in the way of a game is said again after this long."""


@dataclass(frozen=True)
class Look:
    """The games against this worker at one block; times in unix seconds."""

    block: int
    newest: int
    now: int
    games: Sequence[Facing]


class Defender:
    """`run` it as a task of the worker program, also while it drains, and where it may not serve any more."""

    def __init__(
        self,
        chain: Chain,
        game: DisputeGame,
        worker: str,
        store: Store,
        sender: Sender,
        build: Build,
        notices: Notices,
        poll_seconds: float,
        exhibits: Exhibits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`worker`: cold address; `sender`: of its hot key, or the cold one."""
        self._chain, self._game, self._worker, self._store = chain, game, worker, store
        self._sender, self._build, self._notices, self._clock = sender, build, notices, clock
        self._poll_seconds = poll_seconds
        self._follower = Follower(chain.events("DisputeGame"), GameLedger(store.games, worker))
        self._exhibits = exhibits or Exhibits()
        self._models: dict[bytes, ModelSpec] = {}
        self._acted = (0, 0.0)  # block of the last move, and until when a node may lag behind it
        self._waiting: list[Facing] = []  # games in which the next move is this worker's, as of the last look
        self._batch = BATCH
        self._said: dict[int, tuple[str, float]] = {}  # what is in the way of a game, and when that was said

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Cancel it at any time: the next start goes on."""
        try:
            while not stop.is_set():
                await self._rest(stop, await self.defend())
        finally:
            await self._exhibits.close()

    async def tell_open(self) -> None:
        """At the end of the program: what would be lost without it."""
        try:
            found = await self._look()
        except (ChainError, StoreError) as error:
            log.warning("whether games are open cannot be said: %s", error)
            return
        open_ones = [one for one in found.games if due(one.game, found.newest, found.now) is not Due.NONE]
        if open_ones:
            first = min(one.game.deadline for one in open_ones)
            when = datetime.fromtimestamp(first, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            text = f"{len(open_ones)} games against this worker are open: start it again before {when}"
            self._notices.announce(text, {"event": "open games", "count": len(open_ones), "deadline": first})

    async def defend(self) -> float:
        """Do whatever there is to do. Returns the seconds until it is worth looking again. Never raises: whatever is in
        the way is told to the operator, and tried again."""
        try:
            await self._follower.catch_up()
            self._tell()
            pause = await self._act()
        except EarlierTransaction:
            return 0.0
        except (ChainError, StoreError) as error:
            self._notices.warn("defence", f"games against this worker wait: {error}")
            for facing in self._waiting:
                self._complain(facing, str(error))
            return self._poll_seconds
        self._notices.over("defence")
        return pause

    async def _rest(self, stop: asyncio.Event, seconds: float) -> None:
        """Until then, or something was built, or the end."""
        waiting = [asyncio.ensure_future(one.wait()) for one in (stop, self._exhibits.ready)]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        self._exhibits.ready.clear()

    # looking

    async def _look(self) -> Look:
        block = await self._chain.rpc.block()
        known = await asyncio.to_thread(self._store.games.open_games)
        ids = [one.game_id for one in known]
        found = await self._game.games_of(ids, block.number)
        games = [Facing(game_id, game) for game_id, game in zip(ids, found, strict=True) if game is not None]
        return Look(block.number, block.timestamp, max(block.timestamp, int(self._clock())), games)

    async def _act(self) -> float:
        found = await self._look()
        if found.block < self._acted[0] and time.monotonic() < self._acted[1]:
            return min(1.0, self._poll_seconds)  # a node that does not know our last move: whatever it says is old
        todo = agenda(found.games, found.newest, found.now)
        self._waiting = [facing for facing, what in todo if what is not Due.END]
        for facing in found.games:
            if due(facing.game, found.newest, found.now) is Due.LATE:
                self._complain(facing, "the deadline for the next move is over: anybody can end it now")
        calls: list[tuple[Facing, Call]] = []
        orders: list[Order] = []
        for facing, what in todo:
            inputs = await asyncio.to_thread(self._store.kept.inputs, facing.game.receipt_digest)
            if inputs is None:
                self._complain(facing, "its receipt is not in this store: put back the folder that served it")
                continue
            if (call := await self._call_in_peace(facing, what, inputs, orders)) is not None:
                calls.append((facing, call))
        self._exhibits.want(orders)
        if calls and await self._send_some(calls):
            return 0.0
        until = next_time(found.games, found.newest, found.now)
        return self._poll_seconds if until is None else max(0.2, min(self._poll_seconds, until - found.now))

    async def _call_in_peace(self, facing: Facing, what: Due, inputs: Inputs, orders: list[Order]) -> Call | None:
        """`_call`, where nothing that is wrong with one game holds up the others."""
        try:
            return await self._call(facing, what, inputs, orders)
        except Reverted as error:
            self._complain(facing, str(error))
        except (ChainError, StoreError):
            raise
        except Exception as error:
            log.error("a defect of this program", exc_info=error)
            self._complain(facing, f"a defect of this program: {error}")
        return None

    async def _call(self, facing: Facing, what: Due, inputs: Inputs, orders: list[Order]) -> Call | None:
        """The transaction that is due, None if there is none yet; adds to `orders` what it needs."""
        game, digest = facing.game, facing.game.receipt_digest
        if what is Due.END:
            return self._game.timeout(facing.game_id, inputs.paper.receipt)
        if what is Due.ANSWER:
            move = await asyncio.to_thread(answer, inputs.paper.receipt, game.chunk, inputs.tokens)
        elif self._exhibits.has(digest):
            move = await self._exhibits.show(game, digest)
        else:
            if (failure := self._exhibits.failure(digest)) is not None:
                self._complain(facing, failure)
            model = await self._model(inputs.paper.request.modelId)
            orders.append(Order(digest, lambda: self._build(model, inputs)))
            return None
        return self._as_call(facing, inputs, move)

    def _as_call(self, facing: Facing, inputs: Inputs, move: Move) -> Call | None:
        game, game_id = self._game, facing.game_id
        match move:
            case PostTrace(body_root):
                return game.post_trace(game_id, facing.game.receipt_digest, body_root)
            case Reveal(children):
                return game.reveal(game_id, children)
            case RevealLeaf(leaf):
                return game.reveal_leaf(game_id, inputs.paper, leaf)
            case AnswerDemand(tokens, above):
                return game.answer_demand(game_id, inputs.paper.receipt, tokens, above)
            case Concede(reason):
                self._complain(facing, reason)
        return None

    async def _model(self, model_id: bytes) -> ModelSpec:
        """Registered models never change."""
        if model_id not in self._models:
            self._models[model_id] = await self._chain.models.spec_of(model_id)
        return self._models[model_id]

    # sending

    async def _send_some(self, calls: Sequence[tuple[Facing, Call]]) -> bool:
        """Whether anything was sent. Several moves go together; where one of them is refused, everything is looked at
        again, and then they go one by one: a game that moved on must not hold up the others."""
        batch, self._batch = self._batch, BATCH
        is_sent = False
        for at in range(0, len(calls), batch):
            part = calls[at : at + batch]
            try:
                receipts = await self._sender.send_all([call for _, call in part])
            except Reverted as error:
                if len(part) > 1:
                    self._batch = 1
                    return True
                self._refused(part[0][0], error)
                continue
            is_sent = True
            for facing, call in part:
                self._said.pop(facing.game_id, None)
                log.info("game 0x%x: %s", facing.game_id, call.label)
            self._acted = max(receipt.block_number for receipt in receipts), time.monotonic() + LAG_SECONDS
        return is_sent

    def _refused(self, facing: Facing, error: Reverted) -> None:
        if facing.game.phase in WORKER_MOVES:
            self._complain(facing, str(error))
        else:  # somebody else ended it, or the chain's clock is behind this one
            log.info("game 0x%x is not ended yet: %s", facing.game_id, error)

    # telling

    def _complain(self, facing: Facing, reason: str) -> None:
        """Loud, and again while it lasts."""
        said, at = self._said.get(facing.game_id, ("", -REPEAT_SECONDS))
        if said != reason or time.monotonic() >= at + REPEAT_SECONDS:
            self._said[facing.game_id] = reason, time.monotonic()
            left = facing.game.deadline - int(self._clock())
            log.error("game 0x%x: %s (%d s to the deadline)", facing.game_id, reason, left)

    def _tell(self) -> None:
        news = self._store.games.news()
        for one in news:
            announce(one, self._chain.deployment, self._notices)
        if news:
            self._store.games.told(news[-1].sequence)
