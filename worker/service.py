"""All sessions of a worker: admission, links, the end of each, and what strangers may ask over websockets."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Coroutine
from typing import Any

import aiohttp

from efedllm.chain.errors import ChainError
from efedllm.errors import EfedllmError
from efedllm.protocol.errors import RequestError
from efedllm.protocol.messages import (
    NO_REQUEST,
    ROLE_ROWS,
    ROLE_TOKENS,
    Cancel,
    Challenge,
    Credited,
    Failure,
    Linked,
    LinkUp,
    Message,
    Open,
    Opened,
    Payment,
    Signed,
)

from .accounts import Accounts
from .admission import admit
from .context import Context
from .errors import SessionError, StoreError
from .links import check_link_up, dial, watch
from .notices import Notices
from .peer import Peer
from .running import Running
from .session import Session

log = logging.getLogger("efedllm.worker")

Linking = Coroutine[Any, Any, list[asyncio.Task[str]]]

FIRST_MESSAGE_SECONDS = 10.0
LINGER_SECONDS = 5.0
"""How long a client that has nothing left to pay may keep its connection."""


class Service:
    """`http` dials other workers; `sockets` enter through `serve`."""

    def __init__(self, context: Context, http: aiohttp.ClientSession, notices: Notices | None = None) -> None:
        self.accounts = Accounts(context)
        self.objection: str | None = None
        """Why no request is served now, as the chain has it; running ones end as they would."""
        self.notices = notices or Notices()
        self._context, self._http = context, http
        self._running = Running()
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._beginning = 0  # requests that have a place, and are being entered

    @property
    def session_count(self) -> int:
        return len(self._running)

    async def drain(self, grace_seconds: float) -> None:
        """Accept nothing new, and give running sessions time to end."""
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)

    def explain(self, error: EfedllmError) -> tuple[str, str]:
        """Code and message for the other side. What concerns the chain or the disk is told to the operator only: it may
        name an endpoint with its key, or a path."""
        match error:
            case SessionError():
                return error.code, str(error)
            case ChainError():
                self.notices.warn("chain", str(error))
                return "busy", "this worker cannot ask the chain now: try again later"
            case StoreError():
                self.notices.warn("disk", f"{error}; until then nothing is signed or acknowledged")
                return "internal", "this worker cannot keep what it would sign: choose another path"
            case _:
                return "request", str(error)

    async def serve(self, peer: Peer) -> None:
        """One accepted websocket, from challenge to close. Errors are told to the other side in one line."""
        challenge = os.urandom(32)
        request_id = NO_REQUEST
        try:
            await peer.send(Challenge(challenge))
            message = await peer.receive(FIRST_MESSAGE_SECONDS)
            request_id = NO_REQUEST if message is None else getattr(message, "request_id", NO_REQUEST)
            match message:
                case Open():
                    await self._serve_client(peer, message)
                case LinkUp():
                    await self._serve_link(peer, message, challenge)
                case None:
                    return
                case _:
                    raise SessionError("request", "the first message must open a request or a link")
        except TimeoutError:
            await _tell(peer, Failure(request_id, "request", f"nothing came for {FIRST_MESSAGE_SECONDS:g} s"))
        except EfedllmError as error:
            await _tell(peer, Failure(request_id, *self.explain(error)))
        except ConnectionError:
            return

    # clients

    async def _serve_client(self, peer: Peer, message: Open) -> None:
        session = await self._open(peer, message)
        run = asyncio.create_task(self._run(session))
        self._tasks.add(run)
        run.add_done_callback(self._tasks.discard)
        try:
            account = session.till.account
            await peer.send(Opened(message.request_id, account.book.epoch, account.book.total, session.till.window))
            while (received := await _receive_while(peer, run)) is not None:
                match received:
                    case Payment() if received.request_id == message.request_id:
                        await session.till.take(received)
                        await peer.send(Credited(message.request_id, account.book.total))
                    case Cancel():
                        session.cancelled = True
                    case _:
                        raise SessionError("request", "expected a voucher or a cancellation")
        finally:
            session.on_client_gone()
            await asyncio.wait([run])

    async def _open(self, peer: Peer, message: Open) -> Session:
        context = self._context
        if self._draining:
            raise SessionError("draining", "this worker is shutting down: choose another path")
        if self.objection is not None:
            raise SessionError("draining", "this worker does not take requests now: choose another path")
        self._check_room()
        admitted = admit(context.offer, context.domain, message, int(time.time()))
        request = message.request
        account = await self.accounts.to_serve(request.payer, admitted.session_key)
        session = Session(context, message.request_id, request, message.prompt, admitted, account, peer)
        session.till.check_openable()
        await account.enter(session, session.till.window, context.place_seconds)
        self._beginning += 1
        try:
            self._check_room(beginning=1)
            session.till.check_openable()  # others may have used it meanwhile
            begin = context.store.begin_request
            new = await asyncio.to_thread(
                begin,
                message.request_id,
                request,
                message.signature,
                message.salt,
                message.prompt,
                admitted.shard,
                admitted.session_key,
                account.book.epoch,
            )
            if not new:
                raise RequestError("this request was served before: sign a new one with another nonce")
        except BaseException:
            account.leave(session)
            raise
        finally:
            self._beginning -= 1
        self.notices.over("disk")
        self._running.add(session)
        return session

    def _check_room(self, beginning: int = 0) -> None:
        """`beginning`: 1 where the caller counts already. Raises SessionError if there are as many as there may be."""
        sessions = self._context.max_sessions
        if len(self._running) + self._beginning - beginning >= sessions:
            raise SessionError("busy", f"this worker serves {sessions} sessions already: try again later")

    async def _run(self, session: Session) -> None:
        """Link the path, serve, and leave nothing behind. Never raises: whatever ends a session is told and logged."""
        watchers: list[asyncio.Task[str]] = []
        failure: tuple[str, str] | None = None
        try:
            watchers = await _while_wanted(session, self._link(session))
            await _run_while_linked(session, watchers)
        except EfedllmError as error:
            failure = self.explain(error)
        except ConnectionError as error:
            failure = ("path", f"a link of the path broke: {error}")
        except Exception:
            log.exception("request %s: a defect of this program", session.request_id.hex()[:16])
            failure = ("internal", "this worker failed; its operator finds the reason in the log")
        finally:
            await self._close(session, watchers, failure)

    async def _close(
        self, session: Session, watchers: list[asyncio.Task[str]], failure: tuple[str, str] | None
    ) -> None:
        if failure is not None:
            log.warning("request %s failed: %s", session.request_id.hex()[:16], failure[1])
            await session.fail(*failure)
        for watcher in watchers:
            watcher.cancel()
        self._running.remove(session)
        session.till.account.leave(session)
        while not session.inbox.empty():  # lets a reader go that waits for room
            session.inbox.get_nowait()
        for link in (session.downstream, session.token_link, *(session.upstream_peers if failure else [])):
            if link is not None:
                await link.close()
        try:
            await asyncio.to_thread(
                self._context.store.end_request, session.request_id, "failed" if failure else "done"
            )
        except StoreError as error:
            self.explain(error)  # a restart finds the request open, and marks it

    # links

    async def _link(self, session: Session) -> list[asyncio.Task[str]]:
        """Dial what this worker has to dial. Returns the tasks that watch those links."""
        path = session.request.path
        if not session.is_last:
            following = path[session.shard + 1].worker
            link = session.downstream = await dial(self._context, self._http, session.request_id, following, ROLE_ROWS)
        elif not session.is_first:
            link = session.token_link = await dial(
                self._context, self._http, session.request_id, path[0].worker, ROLE_TOKENS
            )
        else:
            return []
        self._running.set_linked(session)
        return [asyncio.create_task(watch(link))]

    async def _serve_link(self, peer: Peer, message: LinkUp, challenge: bytes) -> None:
        session = await self._running.find(message.request_id, self._context.link_seconds)
        await check_link_up(self._context, session.request, message, challenge)
        if session.upstream_peers:
            raise SessionError("link", "this link stands already")
        session.upstream_peers.append(peer)
        if message.role == ROLE_ROWS:
            # Answering only behind the own link means that the first worker starts once the whole path stands.
            await self._running.until_linked(message.request_id, self._context.link_seconds)
        await peer.send(Linked(message.request_id))
        reason = "the link to the worker before this one broke"
        try:
            while (received := await peer.receive()) is not None:
                if isinstance(received, Failure):
                    reason = received.message
                    break
                if isinstance(received, Signed):
                    session.on_upstream_receipt(received)
                else:
                    await session.inbox.put(received)
        except EfedllmError as error:
            reason = self.explain(error)[1]
            raise
        finally:
            session.on_upstream_lost(reason)
            with contextlib.suppress(asyncio.QueueFull):
                session.inbox.put_nowait(None)


async def _receive_while(peer: Peer, run: asyncio.Task[None]) -> Message | None:
    """The client's next message; None when it closed, or stayed silent after its session had ended."""
    receiving = asyncio.ensure_future(peer.receive())
    try:
        await asyncio.wait({receiving, run}, return_when=asyncio.FIRST_COMPLETED)
        if not receiving.done():
            await asyncio.wait({receiving}, timeout=LINGER_SECONDS)
        return receiving.result() if receiving.done() else None
    finally:
        receiving.cancel()


async def _while_wanted(session: Session, linking: Linking) -> list[asyncio.Task[str]]:
    """Raises SessionError if the client leaves before that is done: its place in the channel is free for what it asks
    next, as it does where another worker of the path refused."""
    work, leaving = asyncio.create_task(linking), asyncio.create_task(session.client_gone.wait())
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise SessionError("path", "the client left before the path stood")
        return work.result()
    finally:
        work.cancel()
        leaving.cancel()
        await asyncio.wait({work, leaving})
        if not work.cancelled():
            work.exception()  # it was raised above, or lost the race against the client's leaving


async def _run_while_linked(session: Session, watchers: list[asyncio.Task[str]]) -> None:
    """Serve, unless a dialled link ends before the work is done. Raises what ended the session."""
    serving = asyncio.create_task(session.run())
    try:
        await asyncio.wait({serving, *watchers}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done() and not session.worked:
            raise SessionError("path", watchers[0].result())
        await serving
    finally:
        serving.cancel()
        await asyncio.wait({serving})
        if not serving.cancelled():
            serving.exception()  # it was raised above, or lost the race against the link's end


async def _tell(peer: Peer, failure: Failure) -> None:
    with contextlib.suppress(ConnectionError):
        await peer.send(failure)
