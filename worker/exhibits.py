"""What disputes are played with, built when it is needed: one at a time, in a thread of its own, the last few kept.

Whatever is given up here can be built again, so nothing is lost by a kill or by too many games at once.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from efedllm.errors import EfedllmError
from efedllm.protocol.game import Game

from .defence import Exhibit, Move, show

log = logging.getLogger("efedllm.worker")

ROOM = 8
"""Exhibits kept: each has a file of all residual rows, and some memory for the trees above them."""
RETRY_SECONDS = 10.0
"""After a failure the same exhibit is not built again before; others are."""

T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """An exhibit that is wanted: for the receipt with this digest. `build` may take minutes; it raises EfedllmError."""

    digest: bytes
    build: Callable[[], Exhibit]


class Exhibits:
    """To be used from one event loop. `ready` is set whenever something was built, or could not be."""

    def __init__(self, room: int = ROOM, clock: Callable[[], float] = time.monotonic) -> None:
        self._room, self._clock = room, clock
        self._kept: OrderedDict[bytes, Exhibit] = OrderedDict()
        self._failed: dict[bytes, tuple[float, str]] = {}
        self._building: asyncio.Task[None] | None = None
        # A trace is not used in two places at once: what is computed again below a row's root has its own cache.
        self._shower = ThreadPoolExecutor(max_workers=1, thread_name_prefix="show")
        self.ready = asyncio.Event()

    def has(self, digest: bytes) -> bool:
        return digest in self._kept

    def failure(self, digest: bytes) -> str | None:
        """Why the last attempt at building it failed."""
        found = self._failed.get(digest)
        return None if found is None else found[1]

    def want(self, orders: Sequence[Order]) -> None:
        """Build the first of these that is not there; whatever is being built is finished first."""
        if self._building is not None and not self._building.done():
            return
        now = self._clock()
        for order in orders:
            failed_at, _ = self._failed.get(order.digest, (now - RETRY_SECONDS, ""))
            if order.digest not in self._kept and now >= failed_at + RETRY_SECONDS:
                self._building = asyncio.create_task(self._build(order))
                return

    async def show(self, game: Game, digest: bytes) -> Move:
        """The move in a game about a receipt whose exhibit is there."""
        exhibit = self._kept[digest]
        self._kept.move_to_end(digest)
        return await asyncio.get_running_loop().run_in_executor(self._shower, show, game, exhibit)

    async def close(self) -> None:
        """Gives up everything. What is being built goes on in a thread that does not keep the program from ending."""
        if self._building is not None:
            self._building.cancel()
            await asyncio.gather(self._building, return_exceptions=True)
        while self._kept:
            await self._give_up()
        self._shower.shutdown()

    async def _build(self, order: Order) -> None:
        started = self._clock()
        try:
            exhibit = await _in_thread(order.build)
        except EfedllmError as error:
            self._failed[order.digest] = self._clock(), str(error)
        except Exception as error:  # a defect must cost this one game, and be seen
            log.error("a defect of this program", exc_info=error)
            self._failed[order.digest] = self._clock(), f"a defect of this program: {error}"
        else:
            self._failed.pop(order.digest, None)
            self._kept[order.digest] = exhibit
            log.info("built the trace of receipt 0x%s in %.1f s", order.digest.hex(), self._clock() - started)
            while len(self._kept) > self._room:
                await self._give_up()
        finally:
            self.ready.set()

    async def _give_up(self) -> None:
        """The one that was used least recently, behind any move that is computed with it."""
        _, exhibit = self._kept.popitem(last=False)
        await asyncio.get_running_loop().run_in_executor(self._shower, exhibit.close)


async def _in_thread(function: Callable[[], T]) -> T:
    """As `asyncio.to_thread`, in a thread that does not keep the program from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="trace", daemon=True).start()
    return await done
