"""A client's connection to one worker: websocket in, typed messages out."""

import asyncio

import aiohttp

from efedllm.client.errors import Violation, WorkerFailed
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.frames import MAX_BODY_BYTES, decode
from efedllm.protocol.messages import Challenge, Failure, Message, parse

UNREACHABLE, SILENT, CLOSED = "unreachable", "silent", "closed"
GONE = frozenset({UNREACHABLE, SILENT, CLOSED})
"""Not there, or not any more."""
MAX_MESSAGE_BYTES = MAX_BODY_BYTES + 4096  # a client is sent no tensors


class Peer:
    """One worker. Every error names it."""

    def __init__(self, worker: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.worker = worker
        self._socket = socket

    @classmethod
    async def connect(cls, http: aiohttp.ClientSession, worker: str, endpoint: str, timeout_seconds: float) -> "Peer":
        """Raises WorkerFailed("unreachable")."""
        url = endpoint.rstrip("/") + "/v1/session"
        try:
            async with asyncio.timeout(timeout_seconds):
                return cls(worker, await http.ws_connect(url, max_msg_size=MAX_MESSAGE_BYTES, compress=0))
        except TimeoutError as error:
            reason = f"{endpoint} does not answer within {timeout_seconds:g} s"
            raise WorkerFailed(worker, UNREACHABLE, reason) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WorkerFailed(worker, UNREACHABLE, f"{endpoint} cannot be reached ({error})") from error

    async def send(self, message: Message) -> None:
        """Raises WorkerFailed("closed")."""
        try:
            await self._socket.send_bytes(message.frame().encode())
        except (ConnectionError, aiohttp.ClientError) as error:
            raise WorkerFailed(self.worker, CLOSED, f"the connection broke ({error})") from error

    async def receive(self) -> Message:
        """The next message that concerns a client. Raises WorkerFailed for a failure it tells or a closed connection,
        Violation for bytes that are no message."""
        while True:
            received = await self._socket.receive()
            if received.type is aiohttp.WSMsgType.BINARY:
                try:
                    message = parse(decode(received.data))
                except ProtocolError as error:
                    raise Violation(self.worker, str(error)) from error
                if isinstance(message, Challenge):
                    continue  # the first message on any connection; only workers answer it
                if isinstance(message, Failure):
                    raise WorkerFailed(self.worker, message.code, printable(message.message))
                return message
            if received.type is aiohttp.WSMsgType.TEXT:
                raise Violation(self.worker, "it sent text where binary frames are due")
            raise WorkerFailed(self.worker, CLOSED, "it closed the connection")

    async def close(self) -> None:
        await self._socket.close()


def printable(text: str) -> str:
    """A stranger's words, safe for a terminal and on one line."""
    return "".join(character if character.isprintable() else " " for character in text)
