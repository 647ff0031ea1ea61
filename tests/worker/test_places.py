"""How many requests of a channel run at once: one, and one more for every window that it paid."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from efedllm.protocol.messages import Opened, Token
from efedllm.protocol.pricing import window_of
from efedllm.protocol.vouchers import Book
from tests.worker.network import CREDIT_TOKENS, PROMPT_PRICE, TOKEN_PRICE, WorkerGroup
from tests.worker.payer import Payer, Refused, connect
from worker.account import MAX_WAITING, Account
from worker.errors import SessionError
from worker.network import ChannelState

PROMPT = [1, 2, 3, 4]
WINDOW = 100


def account(paid: int) -> Account:
    book = Book("0x" + "22" * 20, "0x" + "33" * 20, 1)
    if paid:
        leaf, replaces = book.next_leaf(b"\x01" * 32, b"\x02" * 32, paid)
        book.add(leaf, replaces)
    return Account("0x" + "11" * 20, book, ChannelState(10**6, 0, False, 1), {})


@pytest.mark.parametrize(("paid", "places"), [(0, 1), (99, 1), (100, 2), (199, 2), (200, 3), (1000, 11)])
async def test_places_follow_what_was_paid(paid: int, places: int) -> None:
    one = account(paid)
    for request in range(places):
        await one.enter(request, WINDOW, 0.01)
    with pytest.raises(SessionError, match=rf"{places} requests of this channel run here, and it paid {paid}"):
        await one.enter(places, WINDOW, 0.01)


async def test_a_request_waits_for_another_to_end_or_pay() -> None:
    one = account(0)
    await one.enter("first", WINDOW, 1)
    waiting = [asyncio.create_task(one.enter(name, WINDOW, 10)) for name in ("second", "third")]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    one.leave("first")
    await waiting[0]
    assert not waiting[1].done()
    leaf, replaces = one.book.next_leaf(b"\x01" * 32, b"\x02" * 32, WINDOW)
    one.book.add(leaf, replaces)
    one.paid()
    await waiting[1]


async def test_who_gives_up_leaves_no_trace() -> None:
    one = account(0)
    await one.enter("first", WINDOW, 1)
    waiting = [asyncio.create_task(one.enter(at, WINDOW, 10)) for at in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(SessionError, match="wait here already"):
        await one.enter("one too many", WINDOW, 10)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    one.leave("first")
    await one.enter("next", WINDOW, 0.01)


async def test_requests_at_once_take_one_window_together(built: Path, tmp_path: Path) -> None:
    """A client that opens many requests on a new channel and pays for none."""
    async with WorkerGroup(built, [(0, 3)], tmp_path, voucher_seconds=0.3, place_seconds=2) as group:
        payer = Payer()
        group.open_channels(payer.account.address, payer.session.address)
        worker = group.workers[0]

        async def taken() -> int:
            async with aiohttp.ClientSession() as http:
                line = await connect(http, worker.url)
                await line.send(payer.open_message(payer.request([worker.hop], PROMPT, 100), PROMPT))
                count = 0
                try:
                    await line.expect(Opened)
                    while True:
                        count += isinstance(await line.receive(), Token)
                except Refused:
                    return len(PROMPT) * PROMPT_PRICE + count * TOKEN_PRICE if count else 0

        fees = await asyncio.gather(*(taken() for _ in range(6)))
        assert 0 < sum(fees) <= window_of(worker.hop, CREDIT_TOKENS)
