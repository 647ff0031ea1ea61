"""The chain is gone for a while, or the disk is full: what a serving worker still does, and what it does not."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.errors import ChainUnreachable
from efedllm.chain.local import AnvilProcess
from efedllm.protocol import eip712
from tests.support.chain import WORK
from tests.support.rpc_proxy import RpcProxy
from tests.worker.network import CREDIT_TOKENS, DOMAIN, PROMPT_PRICE, TOKEN_PRICE, WorkerGroup
from tests.worker.payer import Payer, Refused, ask
from tests.worker.till import CHEAP, Market
from worker.contracts import ContractNetwork

PROMPT = [1, 2, 3, 4, 5]
SECRET_URL = "https://rpc.example.org/v2/secret-key"


def cut(group: WorkerGroup) -> None:
    """No worker of the group reaches the chain any more."""

    async def silent(*_: str) -> Any:
        raise ChainUnreachable(SECRET_URL)

    for worker in group.workers:
        worker.context.network.channel = silent  # type: ignore[method-assign]


async def test_known_channels_are_served_and_new_ones_are_not(built: Path, tmp_path: Path) -> None:
    known, new = Payer(), Payer()
    async with WorkerGroup(built, [(0, 1), (1, 3)], tmp_path, channel_seconds=0.01) as group:
        for payer in (known, new):
            group.open_channels(payer.account.address, payer.session.address)
        path = [worker.hop for worker in group.workers]
        first = await ask(group, known, known.request(path, PROMPT, 3), PROMPT)
        cut(group)
        second = await ask(group, known, known.request(path, PROMPT, 40), PROMPT, first.books)
        assert len(second.tokens) == 40
        with pytest.raises(Refused, match="busy: this worker cannot ask the chain about this channel now") as caught:
            await ask(group, new, new.request(path, PROMPT, 3), PROMPT)
        assert "rpc.example.org" not in str(caught.value)
        # Credit is what it always is.
        request = known.request(path, PROMPT, 150)
        with pytest.raises(Refused, match="no voucher came"):
            await ask(group, known, request, PROMPT, second.books, paying=False)
        record = group.workers[0].store.record(eip712.digest(DOMAIN, request))
        assert record is not None
        assert len(record.generated) <= CREDIT_TOKENS


async def test_a_deposit_that_is_used_up_ends_the_request(built: Path, tmp_path: Path) -> None:
    payer = Payer()
    async with WorkerGroup(built, [(0, 3)], tmp_path) as group:
        deposit = 5 * PROMPT_PRICE + 50 * TOKEN_PRICE
        group.open_channels(payer.account.address, payer.session.address, deposit)
        path = [worker.hop for worker in group.workers]
        first = await ask(group, payer, payer.request(path, [1], 1), [1])
        cut(group)
        with pytest.raises(Refused, match="used up, and the chain cannot be asked"):
            await ask(group, payer, payer.request(path, PROMPT, 100), PROMPT, first.books)
        (held,) = group.workers[0].store.best_vouchers()
        assert held.voucher.total <= deposit


async def test_nobody_is_served_blindly_for_ever(built: Path, tmp_path: Path) -> None:
    payer = Payer()
    async with WorkerGroup(built, [(0, 3)], tmp_path, blind_seconds=0.0) as group:
        group.open_channels(payer.account.address, payer.session.address)
        path = [worker.hop for worker in group.workers]
        first = await ask(group, payer, payer.request(path, PROMPT, 3), PROMPT)
        cut(group)
        with pytest.raises(Refused, match="could not ask the chain about this channel for too long"):
            await ask(group, payer, payer.request(path, PROMPT, 3), PROMPT, first.books)


async def test_a_cut_chain_is_served_through_and_claimed_afterwards(
    chain: Chain, deployment: Deployment, anvil: AnvilProcess, built: Path, tmp_path: Path
) -> None:
    """A real chain behind a line that is cut in the middle of an answer, and stays so for another one."""
    market = await Market.open(chain, tmp_path)
    paying = await market.client(10 * WORK)
    payer = Payer(paying.account, paying.session, deployment.domain)
    with RpcProxy(anvil.url) as proxy:
        async with await Chain.connect(proxy.url, deployment) as through:
            group = WorkerGroup(
                built, [(0, 3)], tmp_path / "group", [(market.cold.address, market.hot)],
                channel_seconds=0.05, domain=deployment.domain,
                network=ContractNetwork(through, market.cold.address, 600.0, chain_seconds=5),
            )  # fmt: skip
            async with group:
                market.store = group.workers[0].store
                collector = market.collector(replace(CHEAP, coin_value=1), chain=through)
                path = [worker.hop for worker in group.workers]
                asking = asyncio.create_task(ask(group, payer, payer.request(path, PROMPT, 150), PROMPT, epoch=0))
                while not market.store.best_vouchers():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                proxy.cut()
                first = await asking
                assert len(first.tokens) == 150
                second = await ask(group, payer, payer.request(path, PROMPT, 20), PROMPT, first.books)
                assert len(second.tokens) == 20
                await collector.collect()
                assert [event["event"] for event in market.events] == ["warning"]
                proxy.restore()
                await collector.collect()
    total = second.books[market.cold.address].total
    assert market.told("claimed")[0]["amount"] == str(total)
    assert await market.claimed(paying) == total == 10 * PROMPT_PRICE + 170 * TOKEN_PRICE
