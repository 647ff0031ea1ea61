"""Targets around HTTP: endpoints that strangers register, and whatever a server answers to those who ask it."""

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import aiohttp

from efedllm.client.errors import ClientError, Violation, WorkerFailed
from efedllm.client.model_files import model_files
from efedllm.client.peer import Peer
from efedllm.client.records import Reader, RecordSource, Unanswered
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.packing import pack, unpack
from tests.fuzz.protocol_targets import DOMAIN, ID, KEY, RECEIPTS, VOUCHERS, all_messages, books, records, sign
from tests.fuzz.target import Target, check_error
from worker.healing import parse_proofs

SECONDS = 2.0


class Nowhere(aiohttp.TCPConnector):
    """Connects to nothing: an endpoint is only parsed."""

    async def connect(self, req: Any, *_: Any, **__: Any) -> Any:
        raise aiohttp.ClientConnectionError(f"no way to {req.url.host}")


def endpoint(data: bytes) -> bytes:
    asyncio.run(_dial(data.decode("utf-8", "replace")))
    return data


async def _dial(url: str) -> None:
    async with aiohttp.ClientSession(connector=Nowhere()) as http:
        source = RecordSource(DOMAIN)
        source._http = http
        await _refused(Peer.connect(http, KEY.address, url, SECONDS), WorkerFailed)
        await _refused(source.leaves(url, ID), Unanswered)
        await _refused(model_files(http, Path("/nonexistent"), ID, [url]), ClientError)


async def _refused(asked: Awaitable[object], *kinds: type[ClientError]) -> None:
    try:
        await asked
    except kinds as error:
        check_error(error)


def endpoints() -> list[bytes]:
    texts = ("http://127.0.0.1:1", "https://worker.example/a/", "http://[::1]:80", "http://u:p@host:99999", "file:///")
    return [text.encode() for text in texts]


def answer(data: bytes) -> bytes:
    """Bytes of a server, to each of those who ask."""
    asyncio.run(_ask(data))
    return data


async def _ask(data: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with aiohttp.ClientSession() as http, RecordSource(DOMAIN, Reader(KEY.address, KEY)) as source:
            await _refused(source.leaves(url, ID), Unanswered)
            await _refused(source.record(url, ID), Unanswered)
            with tempfile.TemporaryDirectory() as folder:
                await _refused(model_files(http, Path(folder), ID, [url]), ClientError)
            await _refused(_session(http, url), WorkerFailed, Violation)
    finally:
        server.close()


async def _session(http: aiohttp.ClientSession, url: str) -> None:
    peer = await Peer.connect(http, KEY.address, url, SECONDS)
    await peer.receive()


def answers() -> list[bytes]:
    def response(body: bytes, *headers: str) -> bytes:
        lines = ("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", "")
        return "\r\n".join(lines).encode() + body

    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    frame = all_messages()[-1].frame().encode()
    return [
        response(books()[1], "Content-Type: application/msgpack"),
        response(records()[0]),
        response(b"\x1f\x8b\x08" + bytes(30), "Content-Encoding: gzip"),
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\n\r\nnot\x1b[2Jyours",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        switch + bytes([0x82, len(frame) & 0x7F]) + frame,
    ]


def healing(data: bytes) -> bytes:
    """The body of `POST /v1/vouchers`: each part has one form, whatever the order of the parts."""
    proofs = parse_proofs(data)
    written = [
        {
            "voucher": proof.voucher.to_wire(),
            "signature": proof.signature,
            "receipt": proof.receipt.to_wire(),
            "receipt_signature": proof.receipt_signature,
        }
        for proof in proofs
    ]
    assert unpack(data) == written
    return data


def healings() -> list[bytes]:
    part = {"voucher": VOUCHERS[0].to_wire(), "signature": sign(VOUCHERS[0])}
    part |= {"receipt": RECEIPTS[0].to_wire(), "receipt_signature": sign(RECEIPTS[0])}
    return [pack([part]), pack([part] * 3)]


TARGETS = (
    Target("healing", healing, healings, "msgpack", ProtocolError, runs=50_000),
    Target("endpoint", endpoint, endpoints, "bytes", ClientError, canonical=False, runs=5_000, free_bytes=8 << 20),
    Target("http_answer", answer, answers, "bytes", ClientError, canonical=False, runs=1_000, free_bytes=16 << 20),
)
