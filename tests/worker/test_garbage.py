"""Garbage on real sockets: a worker's memory stays bounded, and it still serves an honest client."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from efedllm.protocol.frames import MAX_FRAME_BYTES
from tests.worker.network import WorkerGroup
from tests.worker.payer import Payer, ask

PROMPT = [1, 2, 3]
MIB = 1 << 20
CONNECTIONS = 800


@pytest.fixture
async def single(built: Path, tmp_path: Path) -> AsyncIterator[WorkerGroup]:
    async with WorkerGroup(built, [(0, 3)], tmp_path) as group:
        tracemalloc.start()
        try:
            yield group
        finally:
            tracemalloc.stop()


async def serves(group: WorkerGroup) -> None:
    payer = Payer()
    group.open_channels(payer.account.address, payer.session.address)
    answer = await ask(group, payer, payer.request([group.workers[0].hop], PROMPT, 2), PROMPT)
    assert len(answer.tokens) == 2


async def send(group: WorkerGroup, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = group.workers[0].url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    with suppress(ConnectionError):
        await writer.drain()
    return reader, writer


@pytest.mark.parametrize(
    "beginning",
    [b"", b"GET /v1/session HT", b"POST /v1/receipts HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\nabc"],
    ids=["nothing", "half a line", "half a body"],
)
async def test_half_open_connections(single: WorkerGroup, beginning: bytes) -> None:
    before = tracemalloc.get_traced_memory()[0]
    lines = [await send(single, beginning) for _ in range(CONNECTIONS)]
    await serves(single)
    assert tracemalloc.get_traced_memory()[0] - before < 64 * MIB
    for _, writer in lines:
        writer.close()


async def test_headers_without_end(single: WorkerGroup) -> None:
    reader, writer = await send(single, b"GET /v1/health HTTP/1.1\r\n")
    with suppress(ConnectionError):
        for _ in range(200):
            writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
            await writer.drain()
    assert b"400" in await reader.readline() or reader.at_eof()
    await serves(single)
    writer.close()


@pytest.mark.parametrize("path", ["/v1/receipts", "/v1/vouchers"])
async def test_bodies_without_end(single: WorkerGroup, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    _, writer = await send(single, head)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    with suppress(ConnectionError):
        for _ in range(512):
            writer.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
            await writer.drain()
    assert tracemalloc.get_traced_memory()[1] - before < 24 * MIB
    await serves(single)
    writer.close()


@pytest.mark.parametrize("path", ["/v1/receipts", "/v1/vouchers"])
async def test_bodies_that_unpack_to_more(single: WorkerGroup, path: str) -> None:
    bomb = gzip.compress(bytes(256 * MIB), 1)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    async with aiohttp.ClientSession() as http:
        with suppress(aiohttp.ClientError, ConnectionError):
            url = single.workers[0].url + path
            async with http.post(url, data=bomb, headers={"Content-Encoding": "gzip"}) as response:
                assert response.status in (400, 403, 413)
    assert tracemalloc.get_traced_memory()[1] - before < 24 * MIB
    await serves(single)


async def test_frames_beyond_the_limit(single: WorkerGroup) -> None:
    async with aiohttp.ClientSession() as http:
        for _ in range(20):
            async with http.ws_connect(single.workers[0].url + "/v1/session", compress=15) as socket:
                await socket.receive()
                with suppress(ConnectionError, aiohttp.ClientError):
                    await socket.send_bytes(bytes(MAX_FRAME_BYTES + 1))
                while (await socket.receive(10)).type is aiohttp.WSMsgType.BINARY:
                    continue
                assert socket.close_code != aiohttp.WSCloseCode.OK
    await serves(single)


@pytest.mark.parametrize(
    "headers",
    [
        "Upgrade: h2c\r\nConnection: upgrade",
        "Upgrade: websocket\r\nConnection: upgrade",
        "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 12\r\nSec-WebSocket-Key: AAAA",
        "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + "A" * 4000,
    ],
)
async def test_wrong_upgrades(single: WorkerGroup, headers: str) -> None:
    reader, writer = await send(single, f"GET /v1/session HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode())
    assert b" 400 " in await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    await serves(single)
