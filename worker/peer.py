"""One websocket, as a stream of typed messages in both directions."""

import asyncio
import contextlib
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


SEND_SECONDS = 60.0
"""How long the other side may take nothing: who only keeps the line open would hold a session, and its memory."""


class Peer:
    """Sends and receives messages; `None` stands for the end of the connection."""

    def __init__(self, socket: Socket, send_seconds: float = SEND_SECONDS) -> None:
        self._socket, self._send_seconds = socket, send_seconds
        self._is_stuck = False

    async def send(self, message: Message) -> None:
        """Raises ConnectionError if the connection is gone, or the other side takes nothing from it."""
        try:
            if not self._is_stuck:
                async with asyncio.timeout(self._send_seconds):
                    await self._socket.send_bytes(message.frame().encode())
                return
        except TimeoutError:
            self._is_stuck = True
        raise ConnectionError(f"the other side takes nothing for {self._send_seconds:g} s")

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
        """At once where the other side takes nothing, after a farewell otherwise."""
        with contextlib.suppress(TimeoutError):  # cancelling a farewell ends the connection
            async with asyncio.timeout(0 if self._is_stuck else self._send_seconds):
                await self._socket.close()
