"""A worker's view of a real chain: money that came in counts once confirmed, what takes it out counts at once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from efedllm.chain.chain import Chain
from efedllm.chain.channels import Channel
from efedllm.chain.deployment import Deployment
from efedllm.chain.errors import ChainError, ChainUnreachable
from efedllm.chain.local import AnvilProcess
from efedllm.protocol.vouchers import Book
from tests.support.chain import WORK
from tests.support.rpc_proxy import RpcProxy
from tests.worker.till import Market, Paying
from worker.account import Account
from worker.contracts import ContractNetwork, cautious
from worker.errors import SessionError
from worker.network import ChannelState

CONFIRMATIONS = 3


@pytest.mark.parametrize(
    ("confirmed", "latest", "expected"),
    [
        (Channel(0, 0, 0, 0), Channel(5, 0, 0, 0), ChannelState(0, 0, False, 0, 5)),
        (Channel(5, 0, 0, 0), Channel(9, 2, 0, 0), ChannelState(5, 2, False, 0, 4)),
        (Channel(5, 2, 0, 0), Channel(5, 0, 0, 0), ChannelState(5, 0, False, 0, 0)),
        # Either state that says closing is enough.
        (Channel(5, 0, 0, 0), Channel(5, 0, 77, 0), ChannelState(5, 0, True, 0, 0)),
        (Channel(5, 0, 77, 0), Channel(5, 0, 0, 0), ChannelState(5, 0, True, 0, 0)),
        # The epoch ended, and the next one is not confirmed.
        (Channel(5, 0, 77, 0), Channel(0, 0, 0, 1), ChannelState(0, 0, False, 1, 0)),
        (Channel(5, 0, 77, 0), Channel(8, 0, 0, 1), ChannelState(0, 0, False, 1, 8)),
        # A node that fell behind its own past.
        (Channel(5, 0, 0, 1), Channel(4, 0, 0, 0), ChannelState(0, 0, False, 0, 4)),
        (Channel(5, 0, 0, 0), Channel(0, 0, 0, 0), ChannelState(0, 0, False, 0, 0)),
    ],
)
def test_the_worse_of_two_states(confirmed: Channel, latest: Channel, expected: ChannelState) -> None:
    assert cautious(confirmed, latest) == expected


@pytest.fixture
async def careful(anvil: AnvilProcess, deployment: Deployment) -> AsyncIterator[Chain]:
    """The chain as a deployment with confirmations has it."""
    anvil.mine(CONFIRMATIONS)
    parameters = replace(deployment.parameters, confirmations=CONFIRMATIONS)
    async with await Chain.connect(anvil.url, replace(deployment, parameters=parameters)) as chain:
        yield chain


@pytest.fixture
async def market(chain: Chain, tmp_path: Path) -> Market:
    return await Market.open(chain, tmp_path)


async def state_of(chain: Chain, market: Market, paying: Paying) -> ChannelState:
    network = ContractNetwork(chain, market.cold.address, 600.0)
    await asyncio.sleep(0.3)  # a confirmed block is taken for the newest one for a moment
    return await network.channel(paying.account.address, paying.session.address)


def refusal(state: ChannelState, needed: int = WORK) -> str:
    account = Account("0x" + "11" * 20, Book("0x" + "22" * 20, "0x" + "33" * 20, state.epoch), state, {})
    with pytest.raises(SessionError) as caught:
        account.check_openable(needed)
    assert caught.value.code == "channel"  # which clients try again
    return str(caught.value)


async def test_a_deposit_counts_once_it_is_confirmed(careful: Chain, market: Market, anvil: AnvilProcess) -> None:
    paying = await market.client(5 * WORK)
    state = await state_of(careful, market, paying)
    assert (state.deposit, state.unconfirmed) == (0, 5 * WORK)
    assert "not confirmed yet" in refusal(state)
    anvil.mine(CONFIRMATIONS)
    state = await state_of(careful, market, paying)
    assert (state.deposit, state.unconfirmed) == (5 * WORK, 0)
    await market.fund(paying, 2 * WORK)
    state = await state_of(careful, market, paying)
    assert (state.deposit, state.unconfirmed) == (5 * WORK, 2 * WORK)
    assert f"{2 * WORK} that are not confirmed yet" in refusal(state, 6 * WORK)


async def test_a_close_counts_at_once(careful: Chain, market: Market, anvil: AnvilProcess) -> None:
    paying = await market.client(5 * WORK)
    anvil.mine(CONFIRMATIONS)
    await market.close(paying)
    assert (await state_of(careful, market, paying)).closing
    assert "closing" in refusal(await state_of(careful, market, paying))


async def test_others_are_known_for_a_while_without_the_chain(
    market: Market, anvil: AnvilProcess, deployment: Deployment
) -> None:
    now = [1000.0]
    with RpcProxy(anvil.url) as proxy:
        async with await Chain.connect(proxy.url, deployment) as chain:
            network = ContractNetwork(chain, market.cold.address, 600.0, clock=lambda: now[0])
            key = await network.hot_key(market.cold.address)
            assert key == market.hot.address
            proxy.cut()
            now[0] += 599
            assert await network.hot_key(market.cold.address) == key
            asked = len(proxy.requests)
            now[0] += 0.5
            assert await network.hot_key(market.cold.address) == key
            assert len(proxy.requests) == asked  # not asked each time
            now[0] += 11
            with pytest.raises(ChainUnreachable):
                await network.hot_key(market.cold.address)
            with pytest.raises(ChainError):
                await network.channel(market.cold.address, market.cold.address)
            proxy.restore()
            now[0] += 11
            assert await network.hot_key(market.cold.address) == key


async def test_a_chain_that_hangs_is_as_good_as_none(
    market: Market, anvil: AnvilProcess, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RpcProxy(anvil.url) as proxy:
        async with await Chain.connect(proxy.url, deployment) as chain:
            network = ContractNetwork(chain, market.cold.address, blind_seconds=600.0, chain_seconds=1)
            key = await network.hot_key(market.cold.address)
            monkeypatch.setattr("worker.contracts.KEEP_SECONDS", 0.0)
            proxy.hang()
            assert await network.hot_key(market.cold.address) == key
            with pytest.raises(ChainUnreachable):
                await network.endpoint(market.cold.address)


async def test_own_keys_of_any_time(chain: Chain, market: Market) -> None:
    network = ContractNetwork(chain, market.cold.address, 600.0)
    assert await network.was_own_key(market.hot.address)
    assert not await network.was_own_key(market.cold.address)
