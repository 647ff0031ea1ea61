"""Sessions that are under way, by request, and who waits for one of them or for its links."""

import asyncio

from .errors import SessionError
from .session import Session


class Running:
    """A session is here from its admission to its end."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, Session] = {}
        self._linked: dict[bytes, asyncio.Future[None]] = {}
        self._arrivals: dict[bytes, asyncio.Event] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: Session) -> None:
        self._sessions[session.request_id] = session
        self._linked[session.request_id] = asyncio.get_running_loop().create_future()
        if event := self._arrivals.pop(session.request_id, None):
            event.set()

    def remove(self, session: Session) -> None:
        self._sessions.pop(session.request_id, None)
        linked = self._linked.pop(session.request_id)
        if not linked.done():
            linked.cancel()

    def set_linked(self, session: Session) -> None:
        """The session dialled what it had to, and the path behind it stands."""
        self._linked[session.request_id].set_result(None)

    async def until_linked(self, request_id: bytes, seconds: float) -> None:
        """Raises SessionError if that does not come to pass."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._linked[request_id])
        except (TimeoutError, KeyError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and request_id in self._linked:
                raise
            raise SessionError("link", "the rest of the path could not be linked") from error

    async def find(self, request_id: bytes, seconds: float) -> Session:
        """The session of a request; a link may arrive a moment before the client's open. Raises SessionError."""
        if request_id not in self._sessions:
            event = self._arrivals.setdefault(request_id, asyncio.Event())
            try:
                await asyncio.wait_for(event.wait(), seconds)
            except TimeoutError as error:
                self._arrivals.pop(request_id, None)
                raise SessionError("link", "this request was not opened here by its client") from error
        if request_id not in self._sessions:
            raise SessionError("link", "this request has ended here")
        return self._sessions[request_id]
