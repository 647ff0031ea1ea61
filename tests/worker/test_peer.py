"""A connection that stands, and whose other side takes nothing from it."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from efedllm.protocol.messages import Rows
from tests.support.small_server import answering
from worker.peer import Peer

ROWS = Rows(bytes(32), 0, [], bytes(1 << 20))


@pytest.fixture
async def deaf() -> AsyncIterator[str]:
    """The URL of a server that accepts websockets, and reads nothing until the test is over."""
    over = asyncio.Event()

    async def accept(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert request.transport is not None
        request.transport.pause_reading()  # type: ignore[attr-defined]
        await over.wait()
        return socket

    async with answering("/", accept) as url:
        yield url
        over.set()


async def test_who_takes_nothing_is_given_up(deaf: str) -> None:
    """Otherwise a neighbour could hold all sessions of a worker for ever, at the price of one chunk each."""
    async with aiohttp.ClientSession() as http:
        socket = await http.ws_connect(deaf)
        peer = Peer(socket, send_seconds=0.3)
        with pytest.raises(ConnectionError, match="takes nothing"):
            for _ in range(100):  # until all buffers in between are full
                await peer.send(ROWS)
        started = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionError, match="takes nothing"):
            await peer.send(ROWS)
        assert asyncio.get_running_loop().time() - started < 0.3, "it is not waited for again"
        await peer.close()
        assert socket.closed
