"""One answer: text as it comes, and afterwards what it cost and who signed for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from efedllm.client.checking import Approved
from efedllm.client.errors import ClientError
from efedllm.client.routing import Route
from efedllm.client.session import Session
from efedllm.client.tokenizer import Tokenizer
from efedllm.protocol.objects import Request


@dataclass(frozen=True)
class Piece:
    """One token and the text that it completes: empty while a character is incomplete, or for a special token."""

    text: str
    token: int


@dataclass(frozen=True)
class Share:
    """One worker's part in an answer: layers `[start, end)`, base units paid, and the last receipt that was paid."""

    worker: str
    start: int
    end: int
    cost: int
    receipt: Approved | None


@dataclass(frozen=True, eq=False)
class Running:
    """An accepted request and the task that serves it."""

    session: Session
    task: asyncio.Task[None]
    route: Route
    tokenizer: Tokenizer

    async def end(self) -> None:
        """Stop in order: what was delivered and receipted is paid."""
        if not self.task.done():
            await self.session.cancel()
            await asyncio.wait([self.task])


class Generation:
    """Iterate it once: `async for piece in generation`. Leaving the loop early cancels the request; `aclose` does that
    at once, the garbage collector soon, and the client at its end."""

    def __init__(self, begin: Callable[[], Awaitable[Running]], paid: Callable[[str, bytes], int]) -> None:
        self.text = ""
        self.tokens: list[int] = []
        self._begin, self._paid = begin, paid
        self._running: Running | None = None
        self._is_begun = False

    def __aiter__(self) -> AsyncIterator[Piece]:
        if self._is_begun:
            raise ClientError("a generation can be iterated once: ask again for another answer")
        self._is_begun = True
        return self._stream()

    @property
    def request(self) -> Request | None:
        """The signed request, once one was accepted."""
        return None if self._running is None else self._running.session.job.request

    @property
    def request_id(self) -> bytes | None:
        return None if self._running is None else self._running.session.job.request_id

    @property
    def reason(self) -> str:
        """Why the answer ended: "stop" or "length"; empty while it runs, or when it was cancelled or failed."""
        return "" if self._running is None else self._running.session.shown.reason

    @property
    def shares(self) -> list[Share]:
        """What each worker of the path got so far, in path order."""
        if self._running is None:
            return []
        session = self._running.session
        return [
            Share(
                offer.worker,
                offer.start,
                offer.end,
                self._paid(offer.worker, session.job.request_id),
                session.receipt(shard),
            )
            for shard, offer in enumerate(session.job.offers)
        ]

    @property
    def cost(self) -> int:
        """Base units paid so far to all workers together."""
        return sum(share.cost for share in self.shares)

    async def aclose(self) -> None:
        """Cancel if it still runs, and wait until what was delivered is paid."""
        if self._running is not None:
            await self._running.end()

    async def _stream(self) -> AsyncIterator[Piece]:
        running = self._running = await self._begin()
        stream = running.tokenizer.stream()
        try:
            while (message := await running.session.tokens.get()) is not None:
                text = stream.push(message.token)
                if message.reason:
                    text += stream.finish()
                self.tokens.append(message.token)
                self.text += text
                yield Piece(text, message.token)
            if running.session.error is not None:
                raise running.session.error
        finally:
            await running.end()
