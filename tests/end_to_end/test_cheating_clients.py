"""Clients that cheat at the till, against real worker processes: what each worker loses is measured, and is at most one
credit window. Another client of the same workers is served all the while."""

import asyncio
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding
from efedllm.chain.events import ChannelClosed
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.client.store import store_path
from efedllm.protocol import eip712
from efedllm.protocol.messages import Payment
from efedllm.protocol.objects import Receipt
from tests.end_to_end import losses
from tests.end_to_end.market import HONEST, PROMPT, Market
from tests.support.raw_client import Answer, Pay, RawClient, Wallet

LONG = 400
TEXT = "KING HENRY:\nNow is the "


async def ask(market: Market, wallet: Wallet, pay: Pay | None = None, max_tokens: int = 100) -> Answer:
    """A request over the honest workers."""
    async with RawClient(market.domain, wallet, market.path(*HONEST)) as client:
        return await client.run(await client.open(PROMPT, max_tokens), pay)


def never(market: Market, wallet: Wallet) -> Pay:
    return lambda receipt: None


def once(market: Market, wallet: Wallet) -> Pay:
    """Pays the first receipt of every worker."""
    return lambda receipt: wallet.payment(market.domain, receipt) if receipt.generated == 1 else None


def stale(market: Market, wallet: Wallet) -> Pay:
    """Pays the first receipt, and later ones with the same voucher again."""
    first: dict[str, Payment] = {}

    def pay(receipt: Receipt) -> Payment:
        if receipt.worker not in first:
            first[receipt.worker] = wallet.payment(market.domain, receipt)
        return first[receipt.worker]

    return pay


def short_by_one(market: Market, wallet: Wallet) -> Pay:
    """A voucher over one base unit less than the receipt's fee, from the second receipt on."""

    def pay(receipt: Receipt) -> Payment:
        payment = wallet.payment(market.domain, receipt)
        if receipt.generated == 1:
            return payment
        voucher = replace(payment.voucher, total=payment.voucher.total - 1)
        return replace(payment, voucher=voucher, signature=eip712.sign(market.domain, voucher, wallet.session))

    return pay


def a_receipt_behind(market: Market, wallet: Wallet) -> Pay:
    """Always pays the receipt before the one that came."""
    before: dict[str, Receipt] = {}

    def pay(receipt: Receipt) -> Payment | None:
        earlier = before.get(receipt.worker)
        before[receipt.worker] = receipt
        return None if earlier is None else wallet.payment(market.domain, earlier)

    return pay


PAYMENTS: dict[str, tuple[Callable[[Market, Wallet], Pay], str]] = {
    "never pays": (never, "no voucher came"),
    "stops paying": (once, "no voucher came"),
    "sends stale vouchers": (stale, "does not exceed the .* already held"),
    "sends vouchers that are too small": (short_by_one, "does not pay for exactly the receipts held"),
}


@pytest.mark.parametrize("cheat", PAYMENTS)
async def test_client_that_pays_too_little(market: Market, cheat: str) -> None:
    make, words = PAYMENTS[cheat]
    wallet = market.wallet()
    async with market.bystander():
        answer = await ask(market, wallet, make(market, wallet))
    assert len(answer.tokens) < 60
    assert sorted(answer.failures) == [0, 1, 2]
    told = "\n".join(answer.failures.values())
    assert re.search(words, told)
    assert await market.measure(f"client {cheat}", HONEST, wallet, answer) > 0


async def test_client_that_pays_a_receipt_late_is_served(market: Market) -> None:
    """A window is two receipts: whoever pays the one before the last stays within it, and owes the last at the end."""
    wallet = market.wallet()
    answer = await ask(market, wallet, a_receipt_behind(market, wallet))
    assert (answer.reason, len(answer.tokens)) == ("length", 100)
    assert await market.measure("client pays a receipt late, and the last one not at all", HONEST, wallet, answer) > 0


async def test_client_that_asks_again_and_again_without_paying(market: Market) -> None:
    """All its requests together take one window, whether it leaves early or stays."""
    wallet, given = market.wallet(), dict.fromkeys(HONEST, 0)
    for tokens in (20, 5, 12, 8, 3, 1, 1, 1):
        answer = await ask(market, wallet, never(market, wallet), tokens)
        for name in HONEST:
            given[name] += await market.receipted(name, wallet, answer.request_id)
        if not answer.tokens:
            break
    assert any("of earlier requests unpaid" in words for words in answer.failures.values())
    for name in HONEST:
        losses.record(
            "client asks again and again without paying", f"{name} worker", given[name], 0, market.window(name)
        )


# A client as its own program, which nobody can ask to behave.


def asking(market: Market, data_dir: str, max_tokens: int, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "efedllm.cli", "ask", TEXT, "--max-tokens", str(max_tokens)]
    return subprocess.Popen(
        [*command, "--data-dir", data_dir],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**market.network.processes.environment, **environment},
        text=True,
    )


def wallet_of(market: Market, data_dir: str) -> Wallet:
    keys, password = KeyStore(Path(data_dir)), market.network.processes.environment["EFEDLLM_PASSWORD"]
    return Wallet(keys.find(KeyRole.COLD).address, keys.load(KeyRole.SESSION, password))


def requests_of(market: Market, data_dir: str) -> set[bytes]:
    """Ids of what was asked from there."""
    deployment = market.network.deployment
    path = store_path(Path(data_dir), deployment.chain_id, deployment.contracts.channels)
    return set(market.query(path, "SELECT id FROM requests"))


async def finish(process: "subprocess.Popen[str]") -> tuple[str, str]:
    return await asyncio.to_thread(process.communicate, timeout=300)


async def test_client_that_is_killed_in_the_middle(market: Market) -> None:
    data_dir = market.network.data_dir("client")
    process = asking(market, data_dir, LONG)
    async with market.bystander():
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.read, 60)
        process.send_signal(signal.SIGKILL)
        await finish(process)
        await market.until_idle()
    (request_id,) = requests_of(market, data_dir)
    answer = Answer(request_id, 0)
    wallet = wallet_of(market, data_dir)
    assert await market.paid("first", wallet, request_id) > 0
    await market.measure("client is killed in the middle", HONEST, wallet, answer)


async def test_session_key_in_two_programs(market: Market) -> None:
    """On one machine the second program is refused; with a copy of the data directory elsewhere, the workers' books
    tell the vouchers of the two apart."""
    data_dir = market.network.data_dir("client")
    first, second = asking(market, data_dir, 60), None
    try:
        assert first.stdout is not None
        await asyncio.to_thread(first.stdout.read, 10)
        second = asking(market, data_dir, 60)
        _, errors = await finish(second)
        assert second.returncode == 1
        assert "another program" in errors
        await finish(first)
        assert first.returncode == 0
    finally:
        first.kill()
        if second is not None:
            second.kill()


async def test_session_key_on_two_machines(market: Market, tmp_path: Path) -> None:
    here, there = market.network.data_dir("client"), str(tmp_path / "copy")
    shutil.copytree(here, there)
    known = requests_of(market, here)
    programs = [asking(market, here, 60), asking(market, there, 60, EFEDLLM_STATE_DIR=str(tmp_path / "state"))]
    async with market.bystander():
        ended = await asyncio.gather(*(finish(program) for program in programs))
    await market.until_idle()
    assert [program.returncode for program in programs].count(0) <= 1
    for program, (_, errors) in zip(programs, ended, strict=True):
        assert program.returncode == 0 or errors.strip().splitlines()[-1].startswith("error: ")
    wallet = wallet_of(market, here)
    for data_dir in (here, there):
        for request_id in requests_of(market, data_dir) - known:
            answer = Answer(request_id, 0)
            await market.measure("client shares its session key over two machines", HONEST, wallet, answer)


# Money that is on its way out, or was never there.


async def test_client_that_closes_and_withdraws_during_work(market: Market) -> None:
    wallet = market.wallet()
    workers = [market.offers[name].worker for name in HONEST]
    session_key = wallet.session.address
    async with await Chain.connect(market.network.rpc, market.network.deployment) as chain:
        sender = chain.sender(market.payer)
        closing: list[asyncio.Task[object]] = []

        def close(answer: Answer) -> None:
            if len(answer.tokens) == 10:
                call = chain.channels.request_close(session_key, workers)
                closing.append(asyncio.create_task(sender.send(call)))

        async with market.bystander(), RawClient(market.domain, wallet, market.path(*HONEST)) as client:
            client.on_token = close
            answer = await client.run(await client.open(PROMPT, LONG))
        await asyncio.gather(*closing)
        assert len(answer.tokens) < LONG
        assert any("the channel is closing" in words for words in answer.failures.values())
        await market.measure("client closes its channels during work", HONEST, wallet, answer)

        refused = await ask(market, wallet)
        assert all("the channel is closing: open another one" in words for words in refused.failures.values())
        assert refused.tokens == []

        # The delay leaves time to claim; what is not claimed by then goes back.
        vouched = {name: market.held(name, session_key) for name in HONEST}
        await market.claim(*HONEST)
        state = await chain.channels.channel_of(wallet.payer, workers[0], session_key)
        await market.until(chain, state.closing_at)
        receipt = await sender.send(chain.channels.finish_close(session_key, workers))
        refunds = {event.worker: event.refund for event in receipt.events if isinstance(event, ChannelClosed)}
        for name, voucher in vouched.items():
            assert voucher is not None
            refund = refunds[market.offers[name].worker]
            assert refund == market.deposit - voucher.total
            losses.record(
                "client withdraws as soon as it can", f"{name} worker", voucher.total, market.deposit - refund, 1
            )

        # The next epoch begins with an empty book.
        await sender.send(chain.channels.fund(session_key, [Funding(worker, market.deposit) for worker in workers]))
        again = Wallet(wallet.payer, wallet.session, epoch=1)
        await market.check_still_usable(again, *HONEST)


async def test_client_without_money(market: Market) -> None:
    """No deposit, a funding transaction that is not mined yet, and a deposit below what a worker would advance."""
    wallet = Wallet(market.payer.address, Account.from_key(secrets.token_bytes(32)))
    session_key, workers = wallet.session.address, [market.offers[name].worker for name in HONEST]
    async with market.bystander():
        nothing = await ask(market, wallet)
    assert all("no deposit: open a channel" in words for words in nothing.failures.values())
    async with await Chain.connect(market.network.rpc, market.network.deployment) as chain:
        sender = chain.sender(market.payer)
        market.set_block_time(0)
        try:
            call = chain.channels.fund(session_key, [Funding(worker, 10**15) for worker in workers])
            funding = asyncio.create_task(sender.send(call))
            await asyncio.sleep(0.5)
            pending = await ask(market, wallet)
        finally:
            market.set_block_time(1)
        await funding
        assert all("no deposit: open a channel" in words for words in pending.failures.values())
        little = await ask(market, wallet)
        assert all("1000000000000000 base units left" in words for words in little.failures.values())
        for answer in (nothing, pending, little):
            assert sorted(answer.failures) == [0, 1, 2]
            await market.measure("client opens from an empty account", HONEST, wallet, answer)
        await sender.send(chain.channels.fund(session_key, [Funding(worker, 10**17) for worker in workers]))
        await market.check_still_usable(wallet, *HONEST)


async def test_the_ledger_adds_up(market: Market) -> None:
    """After all that: sound stores, everything that was vouched for is claimed, and the audit finds nothing."""
    await market.until_idle()
    market.check_stores()
    await market.claim(*HONEST)
    assert await market.audit() == []
