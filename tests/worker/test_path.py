"""A neighbour on the path that replays, reorders or invents: the worker behind it stops, and signs nothing for it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from eth_account import Account

from efedllm.protocol import eip712
from efedllm.protocol.frames import decode
from efedllm.protocol.messages import (
    ROLE_ROWS,
    ROLE_TOKENS,
    Challenge,
    End,
    Linked,
    LinkUp,
    Message,
    Opened,
    Rows,
    Signed,
    Token,
    parse,
)
from efedllm.protocol.objects import Link, Request
from efedllm.protocol.pricing import window_of
from efedllm.protocol.receipts import Progress, receipt_for
from efedllm.protocol.vouchers import Book
from tests.support.small_server import answering
from tests.worker.network import CREDIT_TOKENS, DOMAIN, RunningWorker, WorkerGroup
from tests.worker.payer import Line, Payer, Refused, ask, connect
from worker.account import LOST_WINDOWS

PROMPT = [1, 2, 3, 4, 5]
HIDDEN = 48
FOUR_ROWS = bytes(4 * 4 * HIDDEN)
FIVE_ROWS = bytes(5 * 4 * HIDDEN)


@pytest.fixture
async def pair(built: Path, tmp_path: Path) -> AsyncIterator[WorkerGroup]:
    async with WorkerGroup(built, [(0, 1), (1, 3)], tmp_path) as group:
        yield group


async def link(
    http: aiohttp.ClientSession, to: RunningWorker, request_id: bytes, as_worker: RunningWorker, role: str
) -> Line:
    line = Line(await http.ws_connect(to.url + "/v1/session", max_msg_size=0))
    challenge = await line.expect(Challenge)
    signature = eip712.sign(DOMAIN, Link(request_id, as_worker.address, challenge.challenge), as_worker.hot_key)
    await line.send(LinkUp(request_id, as_worker.address, signature, role))
    return line


@asynccontextmanager
async def accepting_links(messages: int | None = None) -> AsyncIterator[str]:
    """The URL of a worker that accepts every link and says nothing more; it breaks off after so many `messages`."""

    async def accept(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(Challenge(bytes(32)).frame().encode())
        dialled = parse(decode((await socket.receive()).data))
        assert isinstance(dialled, LinkUp)
        await socket.send_bytes(Linked(dialled.request_id).frame().encode())
        left = messages
        async for _ in socket:
            if left is not None and (left := left - 1) == 0:
                break
        return socket

    async with answering("/v1/session", accept) as url:
        yield url


async def outcome(client: Line) -> str:
    """What the client is told in the end."""
    with pytest.raises(Refused) as caught:
        while True:
            await client.receive()
    return str(caught.value)


Script = Callable[[Request, bytes, RunningWorker], list[Message]]


def signed(request: Request, request_id: bytes, worker: RunningWorker, stranger: bool = False) -> Signed:
    """A receipt of the first shard for the whole prompt and one token, over rows that were never sent."""
    progress = Progress(5, 1, bytes(32), bytes(32), b"\x09" * 32)
    receipt = receipt_for(request, request_id, 0, 1, progress, bytes(32))
    key = Account.create() if stranger else worker.hot_key
    return Signed(request_id, receipt, eip712.sign(DOMAIN, receipt, key))


SCRIPTS: dict[str, tuple[Script, str]] = {
    "rows of a later position": (lambda r, i, w: [Rows(i, 1, [], FOUR_ROWS)], "came where 0 was due"),
    "rows twice": (lambda r, i, w: [Rows(i, 0, [], FOUR_ROWS), Rows(i, 0, [], FOUR_ROWS)], "came where 4 was due"),
    "rows of another width": (lambda r, i, w: [Rows(i, 0, [], FOUR_ROWS[:-4])], "are not rows of 48 int32 values"),
    "no rows": (lambda r, i, w: [Rows(i, 0, [], b"")], "are not rows of 48 int32 values"),
    "more than a chunk": (lambda r, i, w: [Rows(i, 0, [], bytes(65 * 4 * HIDDEN))], "more than the request allows"),
    "past the answer": (lambda r, i, w: [Rows(i, 0, [], bytes(15 * 4 * HIDDEN))], "more than the request allows"),
    "prompt and answer at once": (lambda r, i, w: [Rows(i, 0, [], bytes(6 * 4 * HIDDEN))], "came together"),
    "a token that was not sampled": (
        lambda r, i, w: [Rows(i, 0, [], FIVE_ROWS), Rows(i, 5, [7000], FIVE_ROWS[: 4 * HIDDEN])],
        "fed back another token",
    ),
    "an end elsewhere": (
        lambda r, i, w: [Rows(i, 0, [], FOUR_ROWS), End(i, 3, [], "stop")],
        "ended at another position",
    ),
    "a message of the client": (lambda r, i, w: [Token(i, 5, 1, "")], "does not belong on the path"),
    "a receipt by a stranger": (
        lambda r, i, w: [Rows(i, 0, [], FIVE_ROWS), signed(r, i, w, stranger=True)],
        "not by the hot key of",
    ),
    "a receipt over other rows": (
        lambda r, i, w: [Rows(i, 0, [], FIVE_ROWS), signed(r, i, w)],
        "differs from shard 0's",
    ),
    "a receipt twice": (lambda r, i, w: [signed(r, i, w), signed(r, i, w)], "second receipt"),
}


@pytest.mark.parametrize("case", SCRIPTS)
async def test_upstream_worker_that_cheats_on_the_path(pair: WorkerGroup, case: str) -> None:
    first, second = pair.workers
    payer = Payer()
    pair.open_channels(payer.account.address, payer.session.address)
    request = payer.request([first.hop, second.hop], PROMPT, 10)
    opened = payer.open_message(request, PROMPT)
    script, expected = SCRIPTS[case]
    async with aiohttp.ClientSession() as http, accepting_links() as url:
        pair.chain.endpoints[first.address] = url
        at_second = await connect(http, second.url)
        await at_second.send(opened)
        await at_second.expect(Opened)
        line = await link(http, second, opened.request_id, first, ROLE_ROWS)
        await line.expect(Linked)
        for message in script(request, opened.request_id, first):
            await line.send(message)
        assert expected in await outcome(at_second)
    record = second.store.record(opened.request_id)
    assert record is not None
    assert record.receipts == []


async def test_a_neighbour_in_league_with_the_client_breaks_off_again_and_again(pair: WorkerGroup) -> None:
    """The rows of a chunk for nothing, before any receipt is due: not without end."""
    first, second = pair.workers
    payer, prompt, asked = Payer(), [1 + at for at in range(60)], 0
    pair.open_channels(payer.account.address, payer.session.address)
    async with aiohttp.ClientSession() as http, accepting_links(messages=1) as url:
        pair.chain.endpoints[second.address] = url
        for _ in range(40):
            at_first = await connect(http, first.url)
            request = payer.request([first.hop, second.hop], prompt, 10)
            await at_first.send(payer.open_message(request, prompt))
            try:
                await at_first.expect(Opened)
            except Refused as refused:
                assert "credit: requests of this channel broke off before a receipt" in str(refused)
                break
            assert "path: the link to the next worker broke" in await outcome(at_first)
            asked += 1
        else:
            pytest.fail("served 40 times for nothing")
    window = window_of(first.hop, CREDIT_TOKENS)
    assert asked * len(prompt) * first.hop.promptPrice <= (LOST_WINDOWS + 1) * window


@pytest.mark.parametrize("change", ["position", "token"])
async def test_last_worker_that_sends_the_first_something_else(pair: WorkerGroup, change: str) -> None:
    first, second = pair.workers
    payer = Payer()
    pair.open_channels(payer.account.address, payer.session.address)
    request = payer.request([first.hop, second.hop], PROMPT, 10)
    opened = payer.open_message(request, PROMPT)
    async with aiohttp.ClientSession() as http, accepting_links() as url:
        pair.chain.endpoints[second.address] = url
        at_first = await connect(http, first.url)
        await at_first.send(opened)
        await at_first.expect(Opened)
        line = await link(http, first, opened.request_id, second, ROLE_TOKENS)
        await line.expect(Linked)
        good = Token(opened.request_id, 5, 1, "")
        await line.send(replace(good, position=6) if change == "position" else replace(good, token=300))
        expected = "something else than the next token" if change == "position" else "outside the vocabulary"
        assert expected in await outcome(at_first)


async def test_an_answer_that_is_complete_loses_nothing(pair: WorkerGroup) -> None:
    payer = Payer()
    pair.open_channels(payer.account.address, payer.session.address)
    hops = [worker.hop for worker in pair.workers]
    books: dict[str, Book] = {}
    for prompt in ([1], [1 + at % 60 for at in range(130)]):
        await ask(pair, payer, payer.request(hops, prompt, 18), prompt, books)
    for worker in pair.workers:
        await worker.service.drain(5)
        (account,) = worker.service.accounts._known.values()
        assert (account._lost, account.arrears) == (0, 0)


async def test_second_link_for_the_same_request(pair: WorkerGroup) -> None:
    first, second = pair.workers
    payer = Payer()
    pair.open_channels(payer.account.address, payer.session.address)
    opened = payer.open_message(payer.request([first.hop, second.hop], PROMPT, 10), PROMPT)
    async with aiohttp.ClientSession() as http, accepting_links() as url:
        pair.chain.endpoints[first.address] = url
        at_second = await connect(http, second.url)
        await at_second.send(opened)
        await at_second.expect(Opened)
        line = await link(http, second, opened.request_id, first, ROLE_ROWS)
        await line.expect(Linked)
        again = await link(http, second, opened.request_id, first, ROLE_ROWS)
        with pytest.raises(Refused, match="this link stands already"):
            await again.receive()
