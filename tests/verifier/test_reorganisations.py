"""A real chain that is reorganised under the verifier: draws follow the blocks that are there, once they count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from efedllm.chain.chain import Chain
from efedllm.chain.event_reader import EventReader
from efedllm.chain.follower import Follower
from efedllm.chain.local import AnvilProcess
from tests.support.fake_chain import CONTRACTS, FakeChain
from tests.verifier.market import Market, open_market
from tests.verifier.test_service import PROMPT, Desk
from verifier.following import ClaimLedger
from verifier.recompute import Recomputer
from verifier.store import Store

CONFIRMATIONS = 3


@pytest.fixture
async def careful(chain: Chain) -> AsyncIterator[Chain]:
    """The same deployment, whose blocks count after three others."""
    parameters = replace(chain.deployment.parameters, confirmations=CONFIRMATIONS)
    connected = Chain(chain.rpc, replace(chain.deployment, parameters=parameters))
    yield connected
    for sender in connected._senders.values():
        sender.close()


@pytest.fixture
async def market(chain: Chain, model: Path) -> AsyncIterator[Market]:
    async with open_market(chain, model, (0, 1, 2, 3)) as opened:
        yield opened


@pytest.fixture
def desk(careful: Chain, model: Path, recomputer: Recomputer, tmp_path: Path) -> Desk:
    return Desk(careful, model, recomputer, tmp_path)


def known(desk: Desk) -> tuple[int, int, int]:
    """Claims without a seed, entries that wait for leaves, and draws, as they are on disk."""
    store = Store(desk.folder / "verifier.sqlite")
    try:
        return len(store.seedless()), len(store.undrawn(1e12)), len(store.checked()) + len(store.unchecked(1e12))
    finally:
        store.close()


async def step(desk: Desk) -> None:
    """One pass of a verifier that is started for it."""
    async with desk.verifier() as verifier:
        await verifier.step()


async def test_nothing_is_drawn_before_it_is_confirmed(market: Market, desk: Desk, anvil: AnvilProcess) -> None:
    market.ask(PROMPT, 3)
    claimed = await market.claim(0)
    for _ in range(CONFIRMATIONS - 1):
        anvil.mine()
        await step(desk)
        assert known(desk) == (0, 0, 0)
    anvil.mine()
    await step(desk)
    assert known(desk)[0] == 1  # known, but the block behind it that fixes the seed does not count yet
    assert known(desk)[2] == 0
    seed_block = await desk.chain.beacon.first_candidate(claimed.origin.block_number)
    while await desk.chain.rpc.block_number() < seed_block + CONFIRMATIONS:
        assert known(desk)[2] == 0
        anvil.mine()
        await step(desk)
    for _ in range(2 * CONFIRMATIONS):
        anvil.mine()
        await step(desk)
    assert known(desk)[0] == 0
    assert known(desk)[2] > 0


async def test_claim_in_a_replaced_block_is_drawn_anew(market: Market, desk: Desk, anvil: AnvilProcess) -> None:
    """Deeper than the confirmations: the draws go with the block, and the claim is drawn where it comes again."""
    market.ask(PROMPT, 3)
    snapshot = anvil.snapshot()
    first = await market.claim(0)
    for _ in range(4 * CONFIRMATIONS):
        anvil.mine()
        await step(desk)
    before = known(desk)
    assert before[0] == 0
    assert before[2] > 0
    anvil.revert(snapshot)
    anvil.mine(20)
    await step(desk)
    assert known(desk) == (0, 0, 0)
    second = await market.claim(0)
    assert second.origin.block_hash != first.origin.block_hash
    for _ in range(4 * CONFIRMATIONS):
        anvil.mine()
        await step(desk)
    assert known(desk) == before


async def test_replaced_seed_is_read_again(market: Market, desk: Desk, anvil: AnvilProcess) -> None:
    """The claim's block stays, those behind it are others: the draws of the old seed are gone."""
    market.ask(PROMPT, 3)
    await market.claim(0)
    snapshot = anvil.snapshot()
    for _ in range(4 * CONFIRMATIONS):
        anvil.mine()
        await step(desk)
    old = seeds(desk)
    anvil.revert(snapshot)
    anvil.increase_time(1000)
    for _ in range(5 * CONFIRMATIONS):
        anvil.mine()
        await step(desk)
    new = seeds(desk)
    assert len(old) == len(new) == 1
    assert old != new
    assert new[0] == await desk.chain.beacon.seed_for(claim_block(desk))


def seeds(desk: Desk) -> list[bytes]:
    store = Store(desk.folder / "verifier.sqlite")
    try:
        return [claim.seed for claim in store._claims("seed IS NOT NULL") if claim.seed is not None]
    finally:
        store.close()


def claim_block(desk: Desk) -> int:
    store = Store(desk.folder / "verifier.sqlite")
    try:
        (claim,) = store._claims("seed IS NOT NULL")
        return claim.block
    finally:
        store.close()


async def test_started_before_every_block_it_knows_the_same(tmp_path: Path) -> None:
    """A verifier that ran through, and one that was started again for every block, hold equal databases."""
    chain = FakeChain()
    often = tmp_path / "often.sqlite"
    for round_ in range(60):
        if round_ % 9 == 8:
            chain.reorganise(1 + round_ % 32)
        chain.mine([round_ if round_ % 3 else None])
        store = Store(often)
        await Follower(EventReader(chain, CONTRACTS, 0, 2), ClaimLedger(store)).catch_up()
        store.close()
    chain.mine([None] * 40)
    kept = []
    for path in (often, tmp_path / "once.sqlite"):
        store = Store(path)
        await Follower(EventReader(chain, CONTRACTS, 0, 2), ClaimLedger(store)).catch_up()
        kept.append((store.cursors()[0], store.seedless()))
        store.close()
    assert kept[0] == kept[1]
    assert kept[0][1]
