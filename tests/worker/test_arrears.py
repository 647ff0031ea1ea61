"""What a channel leaves unpaid counts against its next requests: together they take one window from a worker."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from efedllm.protocol import eip712
from efedllm.protocol.messages import Credited, Opened, Signed, Token
from efedllm.protocol.objects import Request
from efedllm.protocol.pricing import window_of
from efedllm.protocol.vouchers import Book
from tests.worker.network import CREDIT_TOKENS, DOMAIN, PROMPT_PRICE, TOKEN_PRICE, RunningWorker, WorkerGroup
from tests.worker.payer import Payer, Refused, ask, connect, payment_for
from worker.account import FORGIVEN_PART, Account
from worker.network import ChannelState

PROMPT = [1, 2, 3, 4]


@pytest.fixture
async def single(built: Path, tmp_path: Path) -> AsyncIterator[WorkerGroup]:
    async with WorkerGroup(built, [(0, 3)], tmp_path, voucher_seconds=0.3) as group:
        yield group


@pytest.fixture
def payer(single: WorkerGroup) -> Payer:
    one = Payer()
    single.open_channels(one.account.address, one.session.address)
    return one


async def tokens_without_paying(group: WorkerGroup, payer: Payer, request: Request) -> int:
    """How many come before the worker ends a request whose client never pays. Raises Refused if it is not begun."""
    async with aiohttp.ClientSession() as http:
        line = await connect(http, group.workers[0].url)
        await line.send(payer.open_message(request, PROMPT))
        await line.expect(Opened)
        count = 0
        try:
            while True:
                count += isinstance(await line.receive(), Token)
        except Refused:
            return count


def fee(tokens: int) -> int:
    return len(PROMPT) * PROMPT_PRICE + tokens * TOKEN_PRICE


def window(worker: RunningWorker) -> int:
    return window_of(worker.hop, CREDIT_TOKENS)


@pytest.mark.parametrize("max_tokens", [100, 25, 10, 1])
async def test_request_after_request_takes_one_window(single: WorkerGroup, payer: Payer, max_tokens: int) -> None:
    worker, taken = single.workers[0], 0
    with pytest.raises(Refused, match=r"credit: this channel left \d+ base units of earlier requests unpaid"):
        for _ in range(50):
            taken += fee(await tokens_without_paying(single, payer, payer.request([worker.hop], PROMPT, max_tokens)))
    assert 0 < taken <= window(worker)


@pytest.mark.parametrize("first", [1, 1000])
async def test_a_dearer_request_gets_no_larger_window(single: WorkerGroup, payer: Payer, first: int) -> None:
    """Prices are what the payer signs. Who doubles them each time would leave ever more unpaid, and take the deposit
    back."""
    worker, taken, factor = single.workers[0], 0, first
    single.open_channels(payer.account.address, payer.session.address, deposit=10**12)
    with pytest.raises(Refused, match="credit: this channel left"):
        for _ in range(10):
            hop = replace(worker.hop, promptPrice=factor * PROMPT_PRICE, tokenPrice=factor * TOKEN_PRICE)
            taken += fee(await tokens_without_paying(single, payer, payer.request([hop], PROMPT, 100)))
            factor *= 2
    assert 0 < taken <= window(worker)


async def test_who_pays_more_than_is_asked_is_served(single: WorkerGroup, payer: Payer) -> None:
    hop = replace(single.workers[0].hop, promptPrice=7 * PROMPT_PRICE, tokenPrice=1000 * TOKEN_PRICE)
    single.open_channels(payer.account.address, payer.session.address, deposit=10**12)
    prompt = [1 + at % 50 for at in range(130)]
    answer = await ask(single, payer, payer.request([hop], prompt, 40), prompt)
    assert len(answer.tokens) == 40


async def test_it_is_remembered_after_a_restart(built: Path, tmp_path: Path) -> None:
    payer = Payer()
    async with WorkerGroup(built, [(0, 3)], tmp_path, voucher_seconds=0.3) as group:
        group.open_channels(payer.account.address, payer.session.address)
        worker = group.workers[0]
        await tokens_without_paying(group, payer, payer.request([worker.hop], PROMPT, 30))
        await worker.service.drain(5)
        kept = worker.store.failed_fees(payer.account.address, payer.session.address, 1)
        assert list(kept.values()) == [fee(30)]
        assert worker.store.failed_fees(payer.account.address, payer.session.address, 2) == {}
        assert worker.store.failed_fees(Payer().account.address, payer.session.address, 1) == {}


async def test_other_channels_are_served(single: WorkerGroup, payer: Payer) -> None:
    worker = single.workers[0]
    await tokens_without_paying(single, payer, payer.request([worker.hop], PROMPT, 100))
    other = Payer(payer.account)
    single.open_channels(other.account.address, other.session.address)
    answer = await ask(single, other, other.request([worker.hop], PROMPT, 20), PROMPT)
    assert len(answer.tokens) == 20


async def test_paying_later_is_paying(single: WorkerGroup, payer: Payer) -> None:
    """A voucher for an earlier request's receipt, in the next one, takes it out of the arrears."""
    worker = single.workers[0]
    unpaid = payer.request([worker.hop], PROMPT, 10)
    assert await tokens_without_paying(single, payer, unpaid) == 10
    record = worker.store.record(eip712.digest(DOMAIN, unpaid))
    assert record is not None
    book = Book(payer.account.address, worker.address, 1)
    async with aiohttp.ClientSession() as http:
        line = await connect(http, worker.url)
        opening = payer.open_message(payer.request([worker.hop], PROMPT, 4), PROMPT)
        await line.send(opening)
        await line.expect(Opened)
        earlier = payment_for(payer, book, record.receipts[-1][0])
        await line.send(replace(earlier, request_id=opening.request_id))
        receipts = []
        while not receipts or receipts[-1].generated < 4:
            match await line.receive():
                case Signed(receipt=receipt):
                    receipts.append(receipt)
                case Credited() | Token():
                    pass
        await line.send(payment_for(payer, book, receipts[-1]))
        await line.expect(Credited)
    assert book.total == fee(10) + fee(4)
    for _ in range(4):  # as many unpaid ones again as if nothing had been
        await tokens_without_paying(single, payer, payer.request([worker.hop], PROMPT, 1))


async def test_another_channel_does_not_pay_for_it(single: WorkerGroup, payer: Payer) -> None:
    """A receipt is paid from one channel: paid from two, the ledger would show it twice."""
    worker, other = single.workers[0], Payer(payer.account)
    unpaid = payer.request([worker.hop], PROMPT, 10)
    await tokens_without_paying(single, payer, unpaid)
    record = worker.store.record(eip712.digest(DOMAIN, unpaid))
    assert record is not None
    single.open_channels(other.account.address, other.session.address)
    async with aiohttp.ClientSession() as http:
        line = await connect(http, worker.url)
        opening = other.open_message(other.request([worker.hop], PROMPT, 4), PROMPT)
        await line.send(opening)
        await line.expect(Opened)
        elsewhere = payment_for(other, Book(payer.account.address, worker.address, 1), record.receipts[-1][0])
        await line.send(replace(elsewhere, request_id=opening.request_id))
        with pytest.raises(Refused, match="a receipt that this worker did not sign for this channel"):
            while True:
                await line.receive()
    assert worker.store.best_vouchers() == []


def test_a_part_of_what_was_paid_is_forgiven() -> None:
    book = Book("payer", "worker", 1)
    account = Account("key", book, ChannelState(10**6, 0, False, 1), {b"failed": 100})
    assert account.arrears == 100
    book.add(*book.next_leaf(b"paid", b"receipt", 40 * FORGIVEN_PART))
    assert account.arrears == 60
    account.end(b"half paid", 50)
    book.add(*book.next_leaf(b"half paid", b"receipt 2", 30))
    assert account.arrears == 60 + 20
    book.add(*book.next_leaf(b"failed", b"receipt 3", 100))
    book.add(*book.next_leaf(b"paid", b"receipt 4", 1000 * FORGIVEN_PART))
    assert account.arrears == 0
