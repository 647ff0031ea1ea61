"""What a worker does beside serving: it collects what it earned, answers games against it, and deletes what is old."""

import asyncio
import logging
import shutil
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from efedllm.chain.chain import Chain
from efedllm.chain.dispute_game import DisputeGame
from efedllm.chain.transactions import Sender

from .collector import Collector
from .defender import Build, Defender
from .keeping import Windows
from .notices import Notices
from .options import Options, rules
from .store import Store
from .sweeper import Sweeper

log = logging.getLogger("efedllm.worker")

MAX_POLL_SECONDS = 30.0


@dataclass
class Beside:
    """`worker`: cold address; `sender`: of its hot key."""

    options: Options
    chain: Chain
    worker: str
    store: Store
    sender: Sender
    notices: Notices
    _ending: asyncio.Event = field(default_factory=asyncio.Event)
    _collecting: asyncio.Task[None] | None = None
    _others: list[asyncio.Task[None]] = field(default_factory=list)
    _defender: Defender | None = None

    async def start(self) -> None:
        """Raises ChainError."""
        if self.options.claims:
            collecting_rules = rules(self.options, self.chain.deployment)
            collector = Collector(self.chain, self.worker, self.store, self.sender, collecting_rules, self.notices)
            self._collecting = start(collector.run(self._ending))
        if (game := self.chain.game) is not None:
            parameters = self.chain.deployment.parameters
            windows = Windows(parameters.challenge_window_seconds, await game.number("forceGrace"))
            self._defender = await self._make_defender(game)
            sweeper = Sweeper(self.chain, self.worker, self.store, windows)
            self._others = [start(self._defender.run(self._ending)), start(sweeper.run(self._ending))]

    async def end(self, seconds: float) -> None:
        """The last claim within so many seconds; whatever else is under way is broken off, and goes on when this worker
        is started again."""
        self._ending.set()
        if self._collecting is not None:
            await asyncio.wait({self._collecting}, timeout=max(1.0, seconds))
            self._collecting.cancel()
        if self._defender is not None:
            await self._defender.tell_open()
        for task in self._others:
            task.cancel()
        await asyncio.gather(*self._others, return_exceptions=True)

    async def _make_defender(self, game: DisputeGame) -> Defender:
        scratch = self.store.path.with_suffix(".traces")
        shutil.rmtree(scratch, ignore_errors=True)  # what a killed process left
        scratch.mkdir(parents=True, exist_ok=True)
        poll = min(MAX_POLL_SECONDS, await game.number("moveDeadline") / 10)
        build = _build(self.options, scratch)
        return Defender(self.chain, game, self.worker, self.store, self.sender, build, self.notices, poll)


def _build(options: Options, scratch: Path) -> Build:
    """Chooses a back end, which takes a moment, only once there is a dispute."""

    @cache
    def tracer() -> Build:
        from efedllm.numerics.backend import select

        from .tracing import Tracer

        return Tracer(options.model, select(options.backend), scratch)

    return lambda model, inputs: tracer()(model, inputs)


def start(work: Coroutine[object, object, None]) -> asyncio.Task[None]:
    """A task beside the serving, whose defects are not lost."""
    task = asyncio.create_task(work)

    def report(ended: asyncio.Task[None]) -> None:
        if not ended.cancelled() and (error := ended.exception()) is not None:
            log.error("a defect of this program", exc_info=error)

    task.add_done_callback(report)
    return task
