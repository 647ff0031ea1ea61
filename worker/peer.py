"""One websocket, as a stream of typed messages in both directions."""

import asyncio
from typing import Protocol

import aiohttp

from efedllm.protocol.errors import FrameError
from efedllm.protocol.frames import decode
from efedllm.protocol.messages import Message, parse


class Socket(Protocol):
    """What aiohttp's client and server websockets have in common."""

    async def send_bytes(self, data: bytes) -> None: ...

    async def receive(self) -> aiohttp.WSMessage: ...

    async def close(self) -> object: ...


class Peer:
    """Sends and receives messages; `None` stands for the end of the connection."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    async def send(self, message: Message) -> None:
        """Raises ConnectionError if the connection is gone."""
        await self._socket.send_bytes(message.frame().encode())

    async def receive(self, timeout_seconds: float | None = None) -> Message | None:
        """The next message; None once the other side closed. Raises TimeoutError, or ProtocolError for no message."""
        received = await asyncio.wait_for(self._socket.receive(), timeout_seconds)
        if received.type is aiohttp.WSMsgType.BINARY:
            return parse(decode(received.data))
        if received.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED):
            return None
        if received.type is aiohttp.WSMsgType.ERROR:
            raise FrameError(f"the connection broke: {received.data}")
        raise FrameError("expected a binary frame")

    async def close(self) -> None:
        await self._socket.close()
