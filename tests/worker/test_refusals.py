"""What strangers send to a worker: each case is refused with one line, and never more than one window is lost."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest
from eth_account import Account

from efedllm.chain.errors import ChainUnreachable
from efedllm.protocol import eip712
from efedllm.protocol.merkle import tree_root
from efedllm.protocol.messages import (
    ROLE_ROWS,
    Challenge,
    Credited,
    Failure,
    LinkUp,
    Opened,
    Payment,
    Rows,
    Signed,
    Token,
)
from efedllm.protocol.objects import Fetch, Link, Request, Sampling
from efedllm.protocol.pricing import window_of
from efedllm.protocol.records import Record, unpack_leaves
from efedllm.protocol.vouchers import Book, keccak_node
from tests.worker.network import CREDIT_TOKENS, DOMAIN, WorkerGroup
from tests.worker.payer import Line, Payer, Refused, ask, connect, payment_for
from worker.network import ChannelState

PROMPT = [1, 2, 3, 4, 5]


@pytest.fixture
async def pair(built: Path, tmp_path: Path) -> AsyncIterator[WorkerGroup]:
    async with WorkerGroup(built, [(0, 1), (1, 3)], tmp_path) as group:
        yield group


@pytest.fixture
async def single(built: Path, tmp_path: Path) -> AsyncIterator[WorkerGroup]:
    async with WorkerGroup(built, [(0, 3)], tmp_path) as group:
        yield group


@pytest.fixture
def payer() -> Payer:
    return Payer()


def funded(group: WorkerGroup, payer: Payer, deposit: int = 10**6) -> list[Any]:
    group.open_channels(payer.account.address, payer.session.address, deposit)
    return [worker.hop for worker in group.workers]


async def refusal(group: WorkerGroup, payer: Payer, request: Request, prompt: list[int] = PROMPT) -> str:
    with pytest.raises(Refused) as caught:
        await ask(group, payer, request, prompt)
    return str(caught.value)


REQUESTS = {
    "expired": ({"expiry": 1}, "expired"),
    "expiry too far": ({"expiry": int(time.time()) + 7200}, "more than 3600 s ahead"),
    "other model": ({"modelId": b"\x22" * 32}, "is not served here"),
    "unknown kind": ({"kind": 1}, "kind 1 is unknown"),
    "no tokens": ({"maxTokens": 0}, "at least 1"),
    "context": ({"maxTokens": 500}, "exceed the context of 200"),
    "temperature": ({"sampling": Sampling(1, 0, 65536)}, "temperature"),
    "top_p": ({"sampling": Sampling(0, 0, 0)}, "top_p"),
    "stop ids": ({"stopIds": (3, 2)}, "strictly increasing"),
    "stop id outside": ({"stopIds": (5000,)}, "outside the vocabulary"),
    "another prompt": ({"promptRoot": bytes(32)}, "not the one that was signed"),
    "prompt count": ({"promptCount": 6}, "5 prompt ids came with a request for 6"),
}


@pytest.mark.parametrize("case", REQUESTS)
async def test_request_is_refused(single: WorkerGroup, payer: Payer, case: str) -> None:
    changes, expected = REQUESTS[case]
    request = payer.request(funded(single, payer), PROMPT, 4, **changes)
    assert expected in await refusal(single, payer, request)


async def test_path_and_price_are_checked(single: WorkerGroup, payer: Payer) -> None:
    (hop,) = funded(single, payer)
    for path, expected in (
        ([replace(hop, end=2)], "the path ends at layer 2"),
        ([replace(hop, start=1)], "where 0: is due"),
        ([replace(hop, tokenPrice=9)], "this worker asks"),
        ([replace(hop, promptPrice=0)], "this worker asks"),
        ([hop, replace(hop, start=3, end=3)], "where 3: is due"),
    ):
        message = payer.open_message(payer.request(path, PROMPT, 4), PROMPT)
        async with aiohttp.ClientSession() as http:
            line = await connect(http, single.workers[0].url)
            await line.send(message)
            with pytest.raises(Refused, match=expected):
                await line.expect(Opened)


async def test_token_id_outside_the_vocabulary(single: WorkerGroup, payer: Payer) -> None:
    prompt = [1, 300]
    request = payer.request(funded(single, payer), prompt, 4)
    assert "token id 300 is outside the vocabulary of 300" in await refusal(single, payer, request, prompt)


async def test_altered_request_is_another_request(single: WorkerGroup, payer: Payer) -> None:
    request = payer.request(funded(single, payer), PROMPT, 4)
    message = payer.open_message(request, PROMPT)
    async with aiohttp.ClientSession() as http:
        line = await connect(http, single.workers[0].url)
        await line.send(replace(message, request=replace(request, maxTokens=5)))
        with pytest.raises(Refused, match="not the digest"):
            await line.expect(Opened)


async def test_replayed_request_is_served_once(single: WorkerGroup, payer: Payer) -> None:
    request = payer.request(funded(single, payer), PROMPT, 2)
    await ask(single, payer, request, PROMPT)
    assert "served before" in await refusal(single, payer, request)


async def test_no_deposit_small_deposit_and_closing_channel(single: WorkerGroup, payer: Payer) -> None:
    worker = single.workers[0]
    key = (payer.account.address, worker.address, payer.session.address)
    for state, expected in (
        (ChannelState(0, 0, False, 1), "no deposit"),
        (ChannelState(10, 0, False, 1), "base units left"),
        (ChannelState(10**6, 0, True, 1), "closing"),
    ):
        single.chain.channels[key] = state
        assert expected in await refusal(single, payer, payer.request([worker.hop], PROMPT, 4))


async def test_session_key_of_a_stranger_has_no_channel(single: WorkerGroup, payer: Payer) -> None:
    path = funded(single, payer)
    payer.session = Account.create()
    assert "no deposit" in await refusal(single, payer, payer.request(path, PROMPT, 4))


async def test_client_that_never_pays_gets_one_window(built: Path, tmp_path: Path, payer: Payer) -> None:
    async with WorkerGroup(built, [(0, 1), (1, 3)], tmp_path, voucher_seconds=1) as pair:
        request = payer.request(funded(pair, payer), PROMPT, 150)
        with pytest.raises(Refused, match="no voucher came"):
            await ask(pair, payer, request, PROMPT, paying=False)
    for worker in pair.workers:
        record = worker.store.record(eip712.digest(DOMAIN, request))
        assert record is not None
        worked = record.receipts[-1][0].fee
        assert 0 < worked <= window_of(worker.hop, CREDIT_TOKENS)
        assert worker.store.best_vouchers() == []


async def open_and_first_receipt(group: WorkerGroup, payer: Payer, http: aiohttp.ClientSession) -> tuple[Line, Signed]:
    request = payer.request([group.workers[0].hop], PROMPT, 100)
    line = await connect(http, group.workers[0].url)
    await line.send(payer.open_message(request, PROMPT))
    await line.expect(Opened)
    while not isinstance(message := await line.receive(), Signed):
        pass
    return line, message


async def refused_payment(line: Line, payment: Payment) -> str:
    await line.send(payment)
    with pytest.raises(Refused) as caught:
        while not isinstance(await line.receive(), Credited):
            pass
    return str(caught.value)


VOUCHERS = {
    "by a stranger": "not by the channel's session key",
    "other chain": "not by the channel's session key",
    "other contract": "not by the channel's session key",
    "other epoch": "voucher.epoch",
    "other payer": "voucher.payer",
    "too small": "does not pay for exactly",
    "too large": "does not pay for exactly",
    "other root": "does not pay for exactly",
    "unknown receipt": "did not sign",
    "garbage signature": "signature",
}


@pytest.mark.parametrize("case", VOUCHERS)
async def test_voucher_is_refused(single: WorkerGroup, payer: Payer, case: str) -> None:
    funded(single, payer)
    async with aiohttp.ClientSession() as http:
        line, signed = await open_and_first_receipt(single, payer, http)
        good = payment_for(payer, Book(payer.account.address, single.workers[0].address, 1), signed.receipt)
        voucher, domain, signer, receipt = good.voucher, DOMAIN, payer.session, good.receipt_digest
        match case:
            case "by a stranger":
                signer = Account.create()
            case "other chain":
                domain = replace(DOMAIN, chain_id=1)
            case "other contract":
                domain = replace(DOMAIN, verifying_contract="0x" + "d0" * 20)
            case "other epoch":
                voucher = replace(voucher, epoch=2)
            case "other payer":
                voucher = replace(voucher, payer=Account.create().address)
            case "too small":
                voucher = replace(voucher, total=voucher.total - 1)
            case "too large":
                voucher = replace(voucher, total=voucher.total + 1)
            case "other root":
                voucher = replace(voucher, receiptsRoot=bytes(32))
            case "unknown receipt":
                receipt = bytes(32)
        signature = b"\x01" * 65 if case == "garbage signature" else eip712.sign(domain, voucher, signer)
        payment = Payment(signed.request_id, voucher, signature, receipt)
        assert VOUCHERS[case] in await refused_payment(line, payment)
    assert single.workers[0].store.best_vouchers() == []


async def test_voucher_backwards_or_twice(single: WorkerGroup, payer: Payer) -> None:
    funded(single, payer)
    async with aiohttp.ClientSession() as http:
        line, signed = await open_and_first_receipt(single, payer, http)
        payment = payment_for(payer, Book(payer.account.address, single.workers[0].address, 1), signed.receipt)
        await line.send(payment)
        while not isinstance(await line.receive(), Credited):
            pass
        assert "does not exceed" in await refused_payment(line, payment)
    (held,) = single.workers[0].store.best_vouchers()
    assert held.voucher == payment.voucher


async def test_voucher_above_the_deposit(single: WorkerGroup, payer: Payer) -> None:
    worker = single.workers[0]
    deposit = window_of(worker.hop, CREDIT_TOKENS)
    path = funded(single, payer, deposit)
    request = payer.request(path, PROMPT, 100)
    assert "deposit is used up" in await refusal(single, payer, request)
    (held,) = worker.store.best_vouchers()
    assert 0 < held.voucher.total <= deposit


async def raw_failure(group: WorkerGroup, data: bytes | str) -> str:
    async with aiohttp.ClientSession() as http:
        line = await connect(http, group.workers[0].url)
        if isinstance(data, str):
            await line.socket.send_str(data)
        else:
            await line.socket.send_bytes(data)
        with pytest.raises(Refused) as caught:
            await line.receive()
        return str(caught.value)


async def test_garbage_frames(single: WorkerGroup) -> None:
    good = Rows(bytes(32), 0, [], b"").frame().encode()
    for data, expected in (
        (b"", "shorter than its header"),
        (b"\x00" * 60, "not an eFedLLM frame"),
        (good[:-1], "announces"),
        (good[:2] + b"\x02" + good[3:], "version 2"),
        (good[:3] + b"\x63" + good[4:], "unknown frame type"),
        (good[:40] + b"\xff\xff\xff\xff" + good[44:], "more than allowed"),
        (good, "must open a request or a link"),
        ("text", "expected a binary frame"),
    ):
        assert expected in await raw_failure(single, data)


async def dial_in(
    group: WorkerGroup, http: aiohttp.ClientSession, request_id: bytes, worker: str, key: Any, role: str = ROLE_ROWS
) -> Line:
    line = Line(await http.ws_connect(group.workers[1].url + "/v1/session"))
    challenge = await line.expect(Challenge)
    signature = eip712.sign(DOMAIN, Link(request_id, worker, challenge.challenge), key)
    await line.send(LinkUp(request_id, worker, signature, role))
    return line


async def test_link_by_a_stranger_or_in_a_wrong_role(pair: WorkerGroup, payer: Payer) -> None:
    first, second = pair.workers
    path = funded(pair, payer)
    message = payer.open_message(payer.request(path, PROMPT, 4), PROMPT)
    async with aiohttp.ClientSession() as http:
        client = await connect(http, second.url)
        await client.send(message)
        await client.expect(Opened)
        stranger = Account.create()
        cases = [
            (first.address, stranger, ROLE_ROWS, "not by the hot key"),
            (stranger.address, stranger, ROLE_ROWS, "no place before this worker"),
            (first.address, first.hot_key, "tokens", "no place before this worker"),
            (first.address, first.hot_key, "other", "unknown link role"),
        ]
        for worker, key, role, expected in cases:
            line = await dial_in(pair, http, message.request_id, worker, key, role)
            with pytest.raises(Refused, match=expected):
                await line.receive()


async def test_link_for_a_request_that_no_client_opened(built: Path, tmp_path: Path) -> None:
    running = WorkerGroup(built, [(0, 1), (1, 3)], tmp_path, link_seconds=0.2)
    async with running as group, aiohttp.ClientSession() as http:
        first = group.workers[0]
        line = await dial_in(group, http, bytes(32), first.address, first.hot_key)
        with pytest.raises(Refused, match="not opened here"):
            await line.receive()


async def test_dead_next_worker_is_named(pair: WorkerGroup, payer: Payer) -> None:
    path = funded(pair, payer)
    pair.chain.endpoints[pair.workers[1].address] = "http://127.0.0.1:1"
    message = payer.open_message(payer.request(path, PROMPT, 4), PROMPT)
    async with aiohttp.ClientSession() as http:
        line = await connect(http, pair.workers[0].url)
        await line.send(message)
        await line.expect(Opened)
        with pytest.raises(Refused, match=f"link: worker {pair.workers[1].address} cannot be reached"):
            await line.receive()


async def test_rows_that_do_not_match_the_upstream_receipt_stop_the_session(pair: WorkerGroup, payer: Payer) -> None:
    """A first worker that commits to other rows than it sends: the second signs nothing."""
    first, second = pair.workers
    path = funded(pair, payer)
    request = payer.request(path, PROMPT, 4)
    message = payer.open_message(request, PROMPT)
    tell = first.service._open

    async def lying_open(peer: Any, opened: Any) -> Any:
        session = await tell(peer, opened)
        commit = session._commit

        def lie(inputs: Any, rows: bytes) -> None:
            commit(inputs, bytes(len(rows)))

        session._commit = lie
        return session

    first.service._open = lying_open  # type: ignore[method-assign]
    with pytest.raises(Refused, match="received other rows than shard 0 committed to"):
        await ask(pair, payer, request, PROMPT)
    record = second.store.record(message.request_id)
    assert record is not None
    assert record.receipts == []


async def test_busy_and_draining(built: Path, tmp_path: Path, payer: Payer) -> None:
    async with WorkerGroup(built, [(0, 3)], tmp_path, max_sessions=0) as group:
        request = payer.request(funded(group, payer), PROMPT, 4)
        assert "busy" in await refusal(group, payer, request)
        await group.workers[0].service.drain(1.0)
        assert "draining" in await refusal(group, payer, request)


async def test_requests_that_come_together_are_no_more_than_sessions(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each passes the first look while the others wait for the chain; memory is there for `max_sessions` only."""
    async with WorkerGroup(built, [(0, 3)], tmp_path, max_sessions=2) as group:
        together, payers = asyncio.Barrier(5), [Payer() for _ in range(5)]
        serve = group.workers[0].service.accounts.to_serve

        async def wait_for_all(payer: str, session_key: str) -> object:
            found = await serve(payer, session_key)
            await together.wait()
            return found

        monkeypatch.setattr(group.workers[0].service.accounts, "to_serve", wait_for_all)
        async with aiohttp.ClientSession() as http:
            lines = [await connect(http, group.workers[0].url) for _ in payers]
            for line, payer in zip(lines, payers, strict=True):
                await line.send(payer.open_message(payer.request(funded(group, payer), PROMPT, 100), PROMPT))
            answers = await asyncio.gather(*(line.receive() for line in lines), return_exceptions=True)
        assert sum(isinstance(answer, Opened) for answer in answers) == 2
        assert sum("busy: this worker serves 2 sessions" in str(answer) for answer in answers) == 3


async def test_client_that_leaves_ends_the_session(pair: WorkerGroup, payer: Payer) -> None:
    path = funded(pair, payer)
    request = payer.request(path, PROMPT, 150)
    message = payer.open_message(request, PROMPT)
    async with aiohttp.ClientSession() as http:
        lines = [await connect(http, worker.url) for worker in pair.workers]
        for line in lines:
            await line.send(message)
            await line.expect(Opened)
        while not isinstance(await lines[1].receive(), Token):
            pass
    for worker in pair.workers:
        await worker.service.drain(10)
        assert worker.service.session_count == 0
    record = pair.workers[0].store.record(message.request_id)
    assert record is not None
    assert len(record.generated) <= CREDIT_TOKENS


async def test_client_that_leaves_before_the_path_stands_gives_its_place_back(
    built: Path, tmp_path: Path, payer: Payer
) -> None:
    """As every client does that another worker of the path refused, and it comes again at once."""
    async with WorkerGroup(built, [(0, 1), (1, 3)], tmp_path, link_seconds=60, place_seconds=15) as group:
        path = funded(group, payer)
        for worker in group.workers:
            async with aiohttp.ClientSession() as http:
                line = await connect(http, worker.url)
                await line.send(payer.open_message(payer.request(path, PROMPT, 4), PROMPT))
                await line.expect(Opened)
        answer = await ask(group, payer, payer.request(path, PROMPT, 4), PROMPT)
    assert len(answer.tokens) == 4


async def fetch(url: str, fetch_: Fetch, signer: Any) -> tuple[int, bytes]:
    body = msgpack.packb({"fetch": fetch_.to_wire(), "signature": eip712.sign(DOMAIN, fetch_, signer)})
    async with aiohttp.ClientSession() as http, http.post(url + "/v1/receipts", data=body) as response:
        return response.status, await response.read()


async def test_records_go_to_the_client_and_verifiers_only(pair: WorkerGroup, payer: Payer) -> None:
    path = funded(pair, payer)
    request = payer.request(path, PROMPT, 4)
    await ask(pair, payer, request, PROMPT)
    request_id, soon = eip712.digest(DOMAIN, request), int(time.time()) + 60
    url = pair.workers[1].url
    status, data = await fetch(url, Fetch(request_id, payer.account.address, soon), payer.session)
    assert status == 200
    record = Record.unpack(data)
    assert record.request == request
    assert record.receipts[-1][0].generated == 4
    verifier = Account.create()
    stranger = Fetch(request_id, verifier.address, soon)
    assert (await fetch(url, stranger, verifier))[0] == 403
    pair.chain.verifiers[verifier.address] = verifier.address
    assert (await fetch(url, stranger, verifier))[0] == 200
    assert (await fetch(url, stranger, Account.create()))[0] == 403
    assert (await fetch(url, replace(stranger, expiry=1), verifier))[0] == 403
    assert (await fetch(url, replace(stranger, requestId=bytes(32)), verifier))[0] == 404


async def test_book_of_any_voucher(single: WorkerGroup, payer: Payer) -> None:
    request = payer.request(funded(single, payer), PROMPT, 20)
    answer = await ask(single, payer, request, PROMPT)
    worker = single.workers[0]
    book = answer.books[worker.address]
    (held,) = worker.store.best_vouchers()
    assert held.voucher.total == book.total
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{worker.url}/v1/books/{held.voucher.receiptsRoot.hex()}") as response:
            leaves = unpack_leaves(await response.read())
        async with http.get(f"{worker.url}/v1/books/{'00' * 32}") as response:
            assert response.status == 404
    assert tree_root([leaf.hash() for leaf in leaves], keccak_node) == held.voucher.receiptsRoot


async def test_failure_message_is_one_line() -> None:
    assert len(Failure(bytes(32), "request", "x" * 9999).frame().body["message"]) == 500


async def test_channel_that_closes_during_work(built: Path, tmp_path: Path, payer: Payer) -> None:
    async with WorkerGroup(built, [(0, 3)], tmp_path, channel_seconds=0.05) as group:
        worker = group.workers[0]
        path = funded(group, payer)
        request = payer.request(path, PROMPT, 190)
        state = group.chain.channels
        key = (payer.account.address, worker.address, payer.session.address)

        async def close_soon() -> None:
            await asyncio.sleep(0.1)
            state[key] = ChannelState(10**6, 0, True, 1)

        closing = asyncio.create_task(close_soon())
        assert "the channel is closing" in await refusal(group, payer, request)
        await closing
    record = worker.store.record(eip712.digest(DOMAIN, request))
    assert record is not None
    assert len(record.generated) < 190


async def test_chain_that_does_not_answer_does_not_stop_work(built: Path, tmp_path: Path, payer: Payer) -> None:
    async with WorkerGroup(built, [(0, 3)], tmp_path, channel_seconds=0.01) as group:
        request = payer.request(funded(group, payer), PROMPT, 40)
        network = group.workers[0].context.network
        answering = network.channel

        async def silent(*_: str) -> ChannelState:
            if group.workers[0].service.session_count:
                raise ChainUnreachable("http://127.0.0.1:1")
            return await answering(*_)

        network.channel = silent  # type: ignore[method-assign]
        answer = await ask(group, payer, request, PROMPT)
    assert len(answer.tokens) == 40
