"""The automatic till on a real chain: it claims, releases, and waits for what is in the way."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from efedllm.chain.transactions import Sender
from tests.support.chain import WORK, fund
from tests.support.rpc_proxy import RpcProxy
from tests.worker.till import CHEAP, DEAR, Market


@pytest.fixture
async def market(chain: Chain, tmp_path: Path) -> Market:
    return await Market.open(chain, tmp_path)


async def test_channels_are_claimed_together_and_released_later(market: Market, anvil: AnvilProcess) -> None:
    payers = [await market.client(10 * WORK) for _ in range(3)]
    for number, paying in enumerate(payers, 1):
        market.voucher(paying, number * WORK)
    collector = market.collector()
    pause = await collector.collect()
    (claimed,) = market.told("claimed")
    assert (claimed["amount"], claimed["channels"], claimed["index"]) == (str(6 * WORK), 3, 0)
    assert 0 < pause <= CHEAP.look_every
    account = await market.chain.channels.account_of(market.cold.address)
    assert (account.pending, account.earnings) == (6 * WORK, 0)
    anvil.increase_time(6)
    await collector.collect()
    (released,) = market.told("released")
    assert (released["index"], released["amount"]) == (0, str(6 * WORK))
    account = await market.chain.channels.account_of(market.cold.address)
    assert (account.pending, account.earnings) == (0, 6 * WORK)
    await collector.collect()
    market.voucher(payers[0], 2 * WORK)
    await collector.collect()
    assert market.told("claimed")[1]["amount"] == str(WORK)
    assert [event["event"] for event in market.events] == ["claimed", "released", "claimed"]


async def test_what_does_not_pay_waits_until_the_channel_closes(market: Market, anvil: AnvilProcess) -> None:
    paying = await market.client(10 * WORK)
    market.voucher(paying, WORK)
    # With gas at its price here, the claim is worth more than its gas and less than twenty times that.
    price = (await market.chain.rpc.block()).base_fee_wei or 0
    price += await market.chain.rpc.priority_fee()
    rules = replace(CHEAP, coin_value=WORK * 10**18 // (price * 1_000_000))
    collector = market.collector(rules)
    await collector.collect()
    assert market.events == []
    await market.close(paying)
    await collector.collect()
    assert market.events == []  # ten seconds left
    anvil.increase_time(6)
    await collector.collect()
    assert market.told("claimed")[0]["amount"] == str(WORK)
    assert await market.claimed(paying) == WORK


async def test_a_worker_that_was_down_claims_a_closing_channel_first_thing(market: Market) -> None:
    paying = await market.client(10 * WORK)
    market.voucher(paying, 3 * WORK)
    await market.close(paying)
    await market.collector().collect()
    assert await market.claimed(paying) == 3 * WORK


async def test_no_claim_is_worth_more_gas_than_it_brings(market: Market, anvil: AnvilProcess) -> None:
    paying = await market.client(10 * WORK)
    market.voucher(paying, 3 * WORK)
    await market.close(paying)
    anvil.increase_time(9)
    await market.collector(DEAR).collect()
    assert market.events == []


async def test_a_voucher_of_an_epoch_that_ended_is_worth_nothing(market: Market, anvil: AnvilProcess) -> None:
    paying, other = await market.client(10 * WORK), await market.client(10 * WORK)
    market.voucher(paying, 3 * WORK)
    market.voucher(other, 4 * WORK)
    await market.close(paying)
    anvil.increase_time(11)
    await market.finish(paying)
    collector = market.collector()
    await collector.collect()
    assert market.told("claimed")[0]["amount"] == str(4 * WORK)
    assert market.told("claimed")[0]["channels"] == 1
    await market.fund(paying, 5 * WORK)  # the next epoch of the same channel
    market.voucher(paying, 2 * WORK, epoch=1)
    await collector.collect()
    assert market.told("claimed")[1]["amount"] == str(2 * WORK)


async def test_a_voucher_above_the_deposit_brings_what_is_there_and_the_rest_later(market: Market) -> None:
    paying = await market.client(2 * WORK)
    market.voucher(paying, 5 * WORK)
    collector = market.collector()
    await collector.collect()
    await collector.collect()
    assert [event["amount"] for event in market.told("claimed")] == [str(2 * WORK)]
    await market.fund(paying, 8 * WORK)
    await collector.collect()
    assert [event["amount"] for event in market.told("claimed")] == [str(2 * WORK), str(3 * WORK)]


async def test_a_voucher_that_the_contract_refuses_is_left_aside(market: Market) -> None:
    """It cannot come from a session; whatever it is, it must neither stop the others nor cost gas again and again."""
    good, bad = await market.client(10 * WORK), await market.client(10 * WORK)
    market.voucher(good, 2 * WORK)
    market.voucher(bad, 3 * WORK, signer=Account.create())
    collector = market.collector()
    await collector.collect()
    await collector.collect()
    assert [event["amount"] for event in market.told("claimed")] == [str(2 * WORK)]
    # Alone it is not even sent: the estimate finds out.
    again = market.collector()
    await again.collect()
    before = await market.chain.rpc.transaction_count(market.hot.address)
    await again.collect()
    assert await market.chain.rpc.transaction_count(market.hot.address) == before
    assert market.told("warning") == []


async def test_a_hot_key_without_gas_money_is_told_once(chain: Chain, tmp_path: Path) -> None:
    market = await Market.open(chain, tmp_path, hot_wei=0)
    paying = await market.client(10 * WORK)
    market.voucher(paying, 3 * WORK)
    clock = [0.0]
    collector = market.collector(clock=lambda: clock[0])
    for _ in range(3):
        assert await collector.collect() == CHEAP.look_every
    (warning,) = market.told("warning")
    assert market.hot.address in str(warning["message"])
    clock[0] += 6 * 3600
    await collector.collect()
    assert len(market.told("warning")) == 2
    await fund(chain, market.hot.address)
    await collector.collect()
    assert [event["event"] for event in market.events[2:]] == ["claimed", "over"]
    assert await market.claimed(paying) == 3 * WORK


async def test_gas_above_the_cap_is_waited_for(market: Market) -> None:
    paying = await market.client(10 * WORK)
    market.voucher(paying, 3 * WORK)
    names = market.chain.deployment.contracts.names()
    capped = Sender(market.chain.rpc, 31337, market.hot, names, timeout_seconds=0.2, max_fee_wei=1)
    collector = market.collector(sender=capped)
    await collector.collect()
    await collector.collect()
    (warning,) = market.told("warning")
    assert warning["kind"] == "gas price"
    capped.close()
    await market.collector().collect()
    assert await market.claimed(paying) == 3 * WORK


async def test_a_chain_out_of_reach_is_waited_for(market: Market, anvil: AnvilProcess, deployment: Deployment) -> None:
    paying = await market.client(10 * WORK)
    market.voucher(paying, 3 * WORK)
    with RpcProxy(anvil.url) as proxy:
        async with await Chain.connect(proxy.url, deployment) as chain:
            collector = market.collector(chain=chain)
            proxy.cut()
            await collector.collect()
            await collector.collect()
            assert [event["event"] for event in market.events] == ["warning"]
            assert market.events[0]["kind"] == "chain"
            proxy.restore()
            await collector.collect()
    assert [event["event"] for event in market.events] == ["warning", "claimed", "over"]


async def test_a_claim_whose_answer_was_lost_is_not_made_again(
    market: Market, anvil: AnvilProcess, deployment: Deployment
) -> None:
    """As after a crash in between: what is read next has it already."""
    paying = await market.client(10 * WORK)
    market.voucher(paying, 3 * WORK)
    with RpcProxy(anvil.url) as proxy:
        async with await Chain.connect(proxy.url, deployment) as chain:
            collecting = asyncio.create_task(market.collector(chain=chain).collect())
            proxy.cut("eth_getTransactionReceipt")
            while await market.claimed(paying) == 0:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.02)
            collecting.cancel()
            await asyncio.wait({collecting})
    market.events.clear()
    await market.collector().collect()
    await market.collector().collect()
    assert market.told("claimed") == []
    account = await market.chain.channels.account_of(market.cold.address)
    assert (account.next, account.pending) == (1, 3 * WORK)


async def test_a_node_that_lags_is_not_believed(market: Market, anvil: AnvilProcess, deployment: Deployment) -> None:
    paying = await market.client(10 * WORK)
    market.voucher(paying, 3 * WORK)
    with RpcProxy(anvil.url) as proxy:
        async with await Chain.connect(proxy.url, deployment) as chain:
            collector = market.collector(chain=chain)
            await collector.collect()
            proxy.lag(1)
            assert await collector.collect() == 1.0
    assert len(market.told("claimed")) == 1


async def test_a_reorganisation_that_takes_the_claim_back_is_made_good(market: Market, anvil: AnvilProcess) -> None:
    paying = await market.client(10 * WORK)
    market.voucher(paying, 3 * WORK)
    snapshot = anvil.snapshot()
    collector = market.collector()
    await collector.collect()
    anvil.revert(snapshot)
    anvil.mine(3)
    assert await market.claimed(paying) == 0
    await collector.collect()
    assert await market.claimed(paying) == 3 * WORK


async def test_spent_vouchers_are_not_asked_about_for_ever(
    market: Market, anvil: AnvilProcess, deployment: Deployment
) -> None:
    paying = await market.client(10 * WORK)
    market.voucher(paying, 3 * WORK)
    with RpcProxy(anvil.url) as proxy:
        async with await Chain.connect(proxy.url, deployment) as chain:
            collector = market.collector(chain=chain)
            await collector.collect()
            anvil.mine(33)
            await collector.collect()
            asked = market.chain.channels.interface.functions["channelOf"].hash[:4].hex()
            proxy.requests.clear()
            await collector.collect()
            assert not any(asked in str(request) for request in proxy.requests)
            market.voucher(paying, 4 * WORK)
            await collector.collect()
            assert any(asked in str(request) for request in proxy.requests)
    assert await market.claimed(paying) == 4 * WORK


async def test_it_runs_until_told_and_once_more(market: Market) -> None:
    paying = await market.client(10 * WORK)
    stop = asyncio.Event()
    running = asyncio.create_task(market.collector(replace(CHEAP, look_every=60)).run(stop))
    await asyncio.sleep(0.5)  # it found nothing, and would look again in a minute
    market.voucher(paying, 3 * WORK)
    stop.set()
    await running
    assert await market.claimed(paying) == 3 * WORK


async def test_many_payers_cannot_fill_the_ring_with_dust(market: Market) -> None:
    """64 slots; whoever pays little gets no slot of its own."""
    payers = [await market.client(WORK) for _ in range(4)]
    collector = market.collector(DEAR)
    for paying in payers:
        market.voucher(paying, 1)
        await market.close(paying)
        await collector.collect()
    account = await market.chain.channels.account_of(market.cold.address)
    assert account.next == 0
