"""What disputes are played with: built one at a time, the nearest deadline first, few kept."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

from worker.defence import Exhibit
from worker.errors import WorkerError
from worker.exhibits import RETRY_SECONDS, Exhibits, Order


@dataclass
class Workshop:
    """Builds that end when they are told to."""

    started: list[bytes] = field(default_factory=list)
    closed: list[bytes] = field(default_factory=list)
    fails: set[bytes] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    time: float = 0.0

    def order(self, digest: bytes) -> Order:
        def build() -> Exhibit:
            self.started.append(digest)
            assert threading.current_thread() is not threading.main_thread()
            self.gate.wait(20)
            if digest in self.fails:
                raise WorkerError("no rows")
            nothing: Any = None
            return Exhibit(nothing, nothing, {}, digest, digest, digest, lambda: self.closed.append(digest))

        return Order(digest, build)

    def clock(self) -> float:
        return self.time


async def built(exhibits: Exhibits, orders: list[Order]) -> None:
    """Until nothing more of these can be built."""
    async with asyncio.timeout(20):
        for _ in orders:
            exhibits.want(orders)
            if exhibits._building is not None:
                await exhibits._building


async def test_one_at_a_time_in_the_order_wanted() -> None:
    shop = Workshop()
    exhibits = Exhibits()
    orders = [shop.order(bytes([at])) for at in range(3)]
    exhibits.want(orders)
    exhibits.want(orders[::-1])
    await asyncio.sleep(0.1)
    assert shop.started == [b"\0"] and not exhibits.has(b"\0")
    shop.gate.set()
    await asyncio.wait_for(exhibits.ready.wait(), 20)
    assert exhibits.has(b"\0")
    await built(exhibits, orders[::-1])
    assert shop.started == [b"\0", b"\2", b"\1"]
    await exhibits.close()
    assert sorted(shop.closed) == [b"\0", b"\1", b"\2"]


async def test_the_least_recently_used_goes() -> None:
    shop = Workshop()
    shop.gate.set()
    exhibits = Exhibits(room=2)
    for at in range(4):
        await built(exhibits, [shop.order(bytes([at]))])
    assert shop.closed == [b"\0", b"\1"]
    assert [exhibits.has(bytes([at])) for at in range(4)] == [False, False, True, True]
    await built(exhibits, [shop.order(b"\0")])
    assert exhibits.has(b"\0")
    await exhibits.close()


async def test_a_failure_is_tried_again_and_holds_up_nobody() -> None:
    shop = Workshop(fails={b"\0"})
    shop.gate.set()
    exhibits = Exhibits(clock=shop.clock)
    orders = [shop.order(b"\0"), shop.order(b"\1")]
    await built(exhibits, orders)
    assert shop.started == [b"\0", b"\1"]
    assert exhibits.failure(b"\0") == "no rows" and exhibits.failure(b"\1") is None
    shop.fails.clear()
    await built(exhibits, orders)
    assert not exhibits.has(b"\0")
    shop.time += RETRY_SECONDS
    await built(exhibits, orders)
    assert exhibits.has(b"\0") and exhibits.failure(b"\0") is None
    await exhibits.close()


async def test_a_defect_costs_that_game_only() -> None:
    shop = Workshop()
    shop.gate.set()
    exhibits = Exhibits()

    def broken() -> Exhibit:
        raise IndexError("oh")

    await built(exhibits, [Order(b"\0", broken), shop.order(b"\1")])
    assert exhibits.failure(b"\0") == "a defect of this program: oh"
    assert exhibits.has(b"\1")
    await exhibits.close()


async def test_it_ends_while_something_is_built() -> None:
    shop = Workshop()
    exhibits = Exhibits()
    exhibits.want([shop.order(b"\0")])
    await asyncio.sleep(0.05)
    await asyncio.wait_for(exhibits.close(), 5)
    shop.gate.set()
