"""Reorganisations: whatever a chain does, a ledger ends as if it had read only the chain that is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from efedllm.chain.errors import ChainError, UnknownBlock
from efedllm.chain.event_reader import Cursor, EventReader, Page
from efedllm.chain.events import Claimed, Jailed
from efedllm.chain.follower import KEPT_CURSORS, Follower, handle
from tests.support.fake_chain import CONTRACTS, FakeChain

FIRST = 3


class Killed(Exception):
    """The program ended here."""


@dataclass
class MemoryLedger:
    """`kills_in` pages from now the program ends, before it kept the page."""

    kept: list[Cursor] = field(default_factory=list)
    claims: list[tuple[int, int, bytes]] = field(default_factory=list)
    kills_in: int | None = None

    def cursors(self) -> Sequence[Cursor]:
        return self.kept[::-1]

    def enter(self, page: Page) -> None:
        if self.kills_in is not None:
            self.kills_in -= 1
            if self.kills_in < 0:
                raise Killed
        assert not self.kept or page.cursor.block > self.kept[-1].block
        handle({Claimed: self._claim}, page.events)
        self.kept = [*self.kept, page.cursor][-KEPT_CURSORS:]

    def roll_back(self, block: int) -> None:
        assert block < self.kept[-1].block
        self.kept = [cursor for cursor in self.kept if cursor.block <= block]
        self.claims = [claim for claim in self.claims if claim[0] <= block]

    def _claim(self, event: Claimed) -> None:
        self.claims.append((event.origin.block_number, event.claim_index, event.origin.block_hash))


def reader(chain: FakeChain, confirmations: int, page_blocks: int = 7, near_blocks: int = 64) -> EventReader:
    return EventReader(chain, CONTRACTS, FIRST, confirmations, page_blocks, near_blocks)


def wanted(chain: FakeChain, confirmations: int) -> list[tuple[int, int, bytes]]:
    last = len(chain.blocks) - 1 - confirmations
    return [
        (made.block.number, made.claim, made.block.hash)
        for made in chain.blocks[FIRST : last + 1]
        if made.claim is not None
    ]


claims = st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=12)
changes = st.lists(
    st.tuples(st.just("mine"), claims)
    | st.tuples(st.just("reorganise"), st.tuples(st.integers(1, 32), claims))
    | st.tuples(st.just("kill"), st.integers(0, 4)),
    max_size=25,
)


@given(st.integers(0, 4), st.integers(0, 80), changes)
@example(0, 34, [("mine", [None]), ("reorganise", (18, [None])), ("reorganise", (18, [None]))])
def test_any_schedule_of_reorganisations(confirmations: int, history: int, schedule: list[tuple[str, object]]) -> None:
    """The program is started again before every change, and killed in the middle of reading now and then."""

    async def run() -> None:
        chain, ledger = FakeChain(), MemoryLedger()
        chain.mine([at % 3 or None for at in range(history)])
        # Enough in the end for the chain to be longer than it ever was: until then nodes may just lag.
        longer = 33 * (1 + sum(kind == "reorganise" for kind, _ in schedule))
        for kind, what in [*schedule, ("mine", [9] * (confirmations + longer))]:
            ledger = MemoryLedger(ledger.kept, ledger.claims)
            if kind == "kill":
                ledger.kills_in = what  # type: ignore[assignment]
            elif kind == "mine":
                chain.mine(what)  # type: ignore[arg-type]
            else:
                depth, after = what  # type: ignore[misc]
                chain.reorganise(depth)
                chain.mine(after)
            try:
                await Follower(reader(chain, confirmations), ledger).catch_up()
            except Killed:
                continue
            newest = ledger.kept[-1].block if ledger.kept else 0
            assert [claim for claim in ledger.claims if claim[0] <= newest] == ledger.claims
        assert ledger.claims == wanted(chain, confirmations)
        assert ledger.kept[-1] == Cursor(
            len(chain.blocks) - 1 - confirmations, chain.blocks[-1 - confirmations].block.hash
        )

    asyncio.run(run())


@pytest.mark.parametrize("depth", [1, 2, 31, 32])
async def test_back_to_the_last_block_in_common(depth: int) -> None:
    """Nothing below the branch is forgotten."""
    chain, ledger = FakeChain(), MemoryLedger()
    chain.mine(list(range(60)))
    await Follower(reader(chain, 0), ledger).catch_up()
    rolled: list[int] = []
    forget = ledger.roll_back

    def note(block: int) -> None:
        rolled.append(block)
        forget(block)

    ledger.roll_back = note  # type: ignore[method-assign]
    chain.reorganise(depth)
    chain.mine([7] * (depth + 1))
    assert await Follower(reader(chain, 0), ledger).catch_up() == 61
    assert rolled == [60 - depth]
    assert ledger.claims == wanted(chain, 0)


async def test_deeper_than_the_cursors_reach() -> None:
    """Everything is read again: slow, and right."""
    chain, ledger = FakeChain(), MemoryLedger()
    chain.mine(list(range(300)))
    await Follower(reader(chain, 0), ledger).catch_up()
    chain.reorganise(290)
    chain.mine([7] * 295)
    await Follower(reader(chain, 0), ledger).catch_up()
    assert ledger.claims == wanted(chain, 0)


async def test_shorter_chain_is_noticed_as_soon_as_it_can_be() -> None:
    """The confirmed blocks are fewer than before for a while: what was replaced goes, the rest comes when it counts."""
    chain, ledger = FakeChain(), MemoryLedger()
    chain.mine(list(range(20)))
    await Follower(reader(chain, 2), ledger).catch_up()
    assert ledger.kept[-1].block == 18
    chain.reorganise(6)
    chain.mine([7] * 5)
    await Follower(reader(chain, 2), ledger).catch_up()
    assert ledger.claims == wanted(chain, 2)


async def test_only_confirmed_blocks_are_entered() -> None:
    chain, ledger = FakeChain(), MemoryLedger()
    chain.mine([1] * 20)
    assert await Follower(reader(chain, 12), ledger).catch_up() == 8
    assert max(claim[0] for claim in ledger.claims) == 8


async def test_nodes_that_disagree_are_waited_for() -> None:
    """The blocks behind the cursor belong to another branch, although the cursor's block is still there."""
    chain, ledger = FakeChain(), MemoryLedger()
    chain.mine([1] * 10)
    await Follower(reader(chain, 0), ledger).catch_up()
    other = FakeChain()
    other.reorganise(1)
    other.mine([2] * 12)

    class TwoNodes(FakeChain):
        async def block(self, block: int | str = "latest") -> object:  # type: ignore[override]
            is_old = isinstance(block, int) and block < len(chain.blocks)
            return await (chain if is_old else other).block(block)

        async def logs_of(self, addresses: Sequence[str], block: object) -> list[object]:  # type: ignore[override]
            return await other.logs_of(addresses, block)  # type: ignore[arg-type,return-value]

    before = list(ledger.claims)
    with pytest.raises(UnknownBlock, match="nodes disagree"):
        await Follower(reader(TwoNodes(), 0), ledger).catch_up()
    assert ledger.claims == before
    assert issubclass(UnknownBlock, ChainError)


def test_events_without_handler_are_left_alone() -> None:
    seen: list[Claimed] = []
    chain = FakeChain()
    chain.mine([1] * 5)

    async def read() -> list[Page]:
        return [page async for page in reader(chain, 0).read()]

    events = [event for page in asyncio.run(read()) for event in page.events]
    handle({Jailed: seen.append}, events)
    assert seen == []
    handle({Claimed: seen.append}, events)
    assert seen == events
