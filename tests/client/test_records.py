"""What is asked of workers over HTTP, and answers that must not be believed, waited for or stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256

import msgpack
import pytest
from aiohttp import web
from eth_account import Account

from efedllm.client import records
from efedllm.client.records import Reader, RecordSource, Unanswered
from efedllm.protocol import eip712
from efedllm.protocol.objects import Fetch
from efedllm.protocol.records import pack_leaves
from efedllm.protocol.vouchers import Leaf

DOMAIN = eip712.Domain(31337, "0x" + "c1" * 20)
KEY = Account.from_key(sha256(b"reader").digest())
READER = Reader("0x" + "11" * 20, KEY)
ROOT = b"\x07" * 32
LEAVES = [Leaf(b"\x01" * 32, b"\x02" * 32, 0, 10), Leaf(b"\x03" * 32, b"\x04" * 32, 10, 1 << 100)]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def answering(body: bytes, status: int = 200) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status)

    return answer


async def refused(handler: Handler, record: bool = False) -> str:
    """Why an answer was not taken."""
    async with serving(handler) as url, RecordSource(DOMAIN, READER) as source:
        with pytest.raises(Unanswered) as error:
            await (source.record(url, ROOT) if record else source.leaves(url, ROOT))
    assert "\n" not in str(error.value)
    return str(error.value)


async def test_leaves_are_asked_for_by_root() -> None:
    paths = []

    async def answer(request: web.Request) -> web.StreamResponse:
        paths.append(f"{request.method} {request.path}")
        return web.Response(body=pack_leaves(LEAVES))

    async with serving(answer) as url, RecordSource(DOMAIN) as source:
        assert await source.leaves(url + "/", ROOT) == LEAVES
    assert paths == [f"GET /v1/books/{ROOT.hex()}"]


async def test_record_is_asked_for_with_a_signed_fetch() -> None:
    asked = []

    async def answer(request: web.Request) -> web.StreamResponse:
        body = msgpack.unpackb(await request.read())
        fetch = Fetch.from_wire(body["fetch"])
        asked.append((request.path, fetch.requestId, fetch.reader, eip712.recover(DOMAIN, fetch, body["signature"])))
        return web.Response(status=404, text="unknown")

    assert "refused with 404: unknown" in await refused(answer, record=True)
    assert asked == [("/v1/receipts", ROOT, READER.address, KEY.address)]


@pytest.mark.parametrize("body", [b"", b"garbage", msgpack.packb({"leaves": 3}), msgpack.packb({"leaves": [[1]]})])
async def test_other_things_than_leaves_are_refused(body: bytes) -> None:
    assert "something else than leaves" in await refused(answering(body))


async def test_leaves_that_do_not_lie_end_to_end_are_refused() -> None:
    assert "end to end" in await refused(answering(pack_leaves(LEAVES[1:])))


@pytest.mark.parametrize("body", [b"", b"\xc1", msgpack.packb({"request": 1}), msgpack.packb([])])
async def test_other_things_than_a_record_are_refused(body: bytes) -> None:
    assert "something else than a record" in await refused(answering(body), record=True)


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_LEAVES_BYTES", 100_000)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(65536))

    assert "more than the 100000 bytes allowed" in await refused(endless)


async def test_a_refusal_of_any_length_is_one_short_line() -> None:
    reason = await refused(answering(b"no\nno\n" * 10**6, 403))
    assert "refused with 403" in reason and len(reason) < 300


async def test_a_redirect_is_not_followed() -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("http://127.0.0.1:1/")

    assert "refused with 302" in await refused(elsewhere)


async def test_silence_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import aiohttp

    monkeypatch.setattr(records, "_TIMEOUT", aiohttp.ClientTimeout(total=0.2))

    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    assert "does not answer" in await refused(silent)


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:1", "http://no.such.host.invalid", "http://[", "", "file:///etc"]
)
async def test_who_is_not_there_does_not_answer(endpoint: str) -> None:
    async with RecordSource(DOMAIN, READER) as source:
        with pytest.raises(Unanswered, match=r"does not answer|offers no service"):
            await source.leaves(endpoint, ROOT)
