"""One request over one path: open it everywhere, stream its tokens, check what is signed, pay for what passes.

A session runs as a task of its own. Whoever reads its tokens may stop at any time; `cancel` then ends it in order, so
that delivered and receipted work is paid and no voucher is left in doubt.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import aiohttp

from efedllm.client.channel import Channel
from efedllm.client.checking import Approved, Checker, Party
from efedllm.client.desk import WorkerDesk
from efedllm.client.errors import ClientError, StoreError, Violation, WorkerFailed
from efedllm.client.job import Job, Timeouts
from efedllm.client.network import Network
from efedllm.client.payer import Payer
from efedllm.client.payments import Payments
from efedllm.client.peer import CLOSED, GONE, SILENT, Peer
from efedllm.client.shown import Shown
from efedllm.client.store import Store
from efedllm.errors import EfedllmError
from efedllm.protocol.messages import Cancel, Credited, Message, Open, Opened, Signed, Token

__all__ = ["Job", "Session", "Timeouts"]

log = logging.getLogger("efedllm.client")

STALLED = "stalled"
"""No token comes: any worker of the path may be why."""
_SECONDARY = ("path", CLOSED, "link")  # failures that another one usually caused


INBOX = 256
LONGEST_QUIET_SECONDS = 10.0


class Session:
    """`run` it as a task; read `tokens` until None comes; `error` then says whether it failed."""

    def __init__(
        self,
        job: Job,
        network: Network,
        payments: Payments,
        store: Store,
        http: aiohttp.ClientSession,
        timeouts: Timeouts,
        prepare: Callable[[], Awaitable[int]] | None = None,
    ) -> None:
        """`prepare` funds the channels and returns what it spent; it is awaited once every worker was reached, so that
        no money goes to one that is not there."""
        self.job = job
        self.shown = Shown(job.request, job.prompt, job.vocab)
        self.tokens: asyncio.Queue[Token | None] = asyncio.Queue()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once every worker accepted the request, or with the error that one did not."""
        self.error: EfedllmError | None = None
        self._network, self._payments, self._store, self._http = network, payments, store, http
        self._timeouts, self._prepare = timeouts, prepare
        self._peers: list[Peer] = []
        self._payers: list[Payer] = []
        self._inbox: asyncio.Queue[tuple[int, Message | EfedllmError]] = asyncio.Queue(INBOX)
        self._signed: list[list[Signed]] = [[] for _ in job.offers]  # as evidence: the latest two of each worker
        self._accepted: set[str] = set()
        self._cancelled = False

    def receipt(self, shard: int) -> Approved | None:
        """The latest receipt that is paid."""
        return self._payers[shard].paid if self._payers else None

    async def cancel(self) -> None:
        """Ask the workers to stop; `run` ends once what they delivered is paid."""
        if not self._cancelled:
            self._cancelled = True
            for peer in self._peers:
                with contextlib.suppress(WorkerFailed):
                    await peer.send(Cancel(self.job.request_id))
            with contextlib.suppress(asyncio.QueueFull):
                self._inbox.put_nowait((0, Cancel(self.job.request_id)))  # wakes the loop

    async def run(self) -> None:
        """Never raises: `error` holds what went wrong."""
        readers: list[asyncio.Task[None]] = []
        state = "failed"
        try:
            checker = await self._open(readers)
            self.opened.set_result(None)
            await self._serve(checker)
            state = "cancelled" if self._cancelled and not self.shown.reason else "done"
        except EfedllmError as error:
            self.error = error
        except Exception:
            log.exception("request %s: a defect of this program", self.job.request_id.hex()[:16])
            self.error = ClientError("a defect of this program ended the request; the log says more")
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*(peer.close() for peer in self._peers), *readers, return_exceptions=True)
            for payer in self._payers:
                payer.on_gone(WorkerFailed(payer.worker, CLOSED, "the request has ended"))
            self._payments.release(self.job.request_id)
            await self._end(state)
            if not self.opened.done():
                self.opened.set_exception(self.error or ClientError("the request was abandoned before it began"))
                self.opened.exception()  # nobody may be waiting for it any more
            self.tokens.put_nowait(None)

    # opening

    async def _open(self, readers: list[asyncio.Task[None]]) -> Checker:
        job = self.job
        await self._connect()
        if self._prepare is not None and await self._prepare():
            # That took a transaction, and workers do not wait that long for a first message.
            await asyncio.gather(*(peer.close() for peer in self._peers))
            await self._connect()
        self._payers = [self._payer(shard) for shard in range(len(self._peers))]
        begin = self._store.begin_request
        await asyncio.to_thread(begin, job.request_id, job.request, job.signature, job.salt, job.prompt)
        failures = [
            result
            for result in await asyncio.gather(
                *(self._open_one(shard, readers) for shard in range(len(self._peers))), return_exceptions=True
            )
            if result is not None
        ]
        if failures:
            raise _primary(failures)
        parties = [
            Party(offer.worker, offer.hot_key, self._channel(shard).epoch) for shard, offer in enumerate(job.offers)
        ]
        return Checker(self._network.domain, job.request, job.request_id, parties, self.shown)

    async def _connect(self) -> None:
        seconds = self._timeouts.connect
        connecting = (Peer.connect(self._http, offer.worker, offer.endpoint, seconds) for offer in self.job.offers)
        results = await asyncio.gather(*connecting, return_exceptions=True)
        self._peers = [result for result in results if isinstance(result, Peer)]
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _open_one(self, shard: int, readers: list[asyncio.Task[None]]) -> None:
        job, peer, channel = self.job, self._peers[shard], self._channel(shard)
        try:
            async with asyncio.timeout(self._timeouts.open), channel.lock:
                await peer.send(Open(job.request_id, job.request, job.signature, job.salt, job.prompt))
                answer = await peer.receive()
                if not isinstance(answer, Opened) or answer.request_id != job.request_id:
                    raise Violation(peer.worker, "it did not answer the request")
                self._accepted.add(peer.worker)
                readers.append(asyncio.create_task(self._read(shard)))
                desk = WorkerDesk(self._http, peer.worker, job.offers[shard].endpoint)
                await channel.reconcile(answer, self._payers[shard].deliver, desk)
        except TimeoutError as error:
            reason = f"it did not accept the request within {self._timeouts.open:g} s"
            raise WorkerFailed(peer.worker, SILENT, reason) from error

    def _channel(self, shard: int) -> Channel:
        return self._payments.channel(self.job.offers[shard].worker)

    async def _read(self, shard: int) -> None:
        """Hand on what comes from one worker until its connection ends."""
        peer = self._peers[shard]
        while True:
            try:
                message = await peer.receive()
                if getattr(message, "request_id", None) != self.job.request_id:
                    raise Violation(peer.worker, "it sent a message of another request")
                if isinstance(message, Credited):
                    self._payers[shard].on_credited(message)
                    continue
            except EfedllmError as error:
                self._payers[shard].on_gone(error)
                await self._inbox.put((shard, error))
                return
            await self._inbox.put((shard, message))

    def _payer(self, shard: int) -> Payer:
        def on_failure(error: EfedllmError) -> None:
            with contextlib.suppress(asyncio.QueueFull):  # then other messages wake the loop, and `finish` tells
                self._inbox.put_nowait((shard, error))

        return Payer(self.job.request_id, self._peers[shard], self._channel(shard), self._timeouts.credit, on_failure)

    # serving

    async def _serve(self, checker: Checker) -> None:
        """Until the last receipt of every worker is paid. Raises the reason if it does not come to that."""
        try:
            await self._follow(checker)
        except EfedllmError:
            # What passed every check before is owed; from a liar on, nothing passes any more.
            await asyncio.gather(*(payer.finish() for payer in self._payers), return_exceptions=True)
            raise
        # All of them, whatever one comes to: a voucher under way would hold its channel after the request has ended.
        for failure in await asyncio.gather(*(payer.finish() for payer in self._payers), return_exceptions=True):
            if failure is not None:
                raise failure

    async def _follow(self, checker: Checker) -> None:
        """Take messages until every worker signed its last receipt; after a cancellation, until nothing more comes."""
        timeouts, overdue, since, pace = self._timeouts, "", 0.0, 0.0
        while not self._is_complete(checker):
            now = time.monotonic()
            if (late := checker.overdue()) is None:
                overdue = ""
            elif str(late) != overdue:
                overdue, since = str(late), now
            # Workers stop at the next token, which takes as long as tokens took so far.
            quiet = max(timeouts.quiet, min(2 * pace, LONGEST_QUIET_SECONDS))
            wait = quiet if self._cancelled else timeouts.stall
            if overdue:
                wait = min(wait, since + timeouts.receipt - now)
            try:
                async with asyncio.timeout(max(wait, 0)):
                    shard, message = await self._inbox.get()
            except TimeoutError as error:
                if late is not None and time.monotonic() >= since + timeouts.receipt:
                    raise late from error
                if self._cancelled:
                    return
                if overdue:
                    continue
                last = self._peers[-1].worker
                raise WorkerFailed(last, STALLED, f"no token came for {timeouts.stall:g} s: ask again") from error
            pace = max(pace, time.monotonic() - now)
            if isinstance(message, WorkerFailed):
                if message.code == CLOSED and self._is_done(shard):
                    continue  # it has nothing more to say
                raise await self._explain(checker, shard, message)
            await self._take(checker, shard, message)

    async def _take(self, checker: Checker, shard: int, message: Message | EfedllmError) -> None:
        """What one message changes, and what may be paid because of it."""
        worker = self._peers[shard].worker
        match message:
            case Token():
                if shard != len(self._peers) - 1:
                    raise Violation(worker, "it sent a token, which only the last worker of the path may")
                self.shown.add(message)
                self.tokens.put_nowait(message)
            case Signed():
                self._signed[shard] = [*self._signed[shard][-1:], message]
                if not checker.add(shard, message):  # the hot key may have been rotated
                    checker.rotate(shard, await self._network.hot_key(worker))
            case Cancel():
                checker.cancelled = True
            case EfedllmError():
                raise message
            case _:
                raise Violation(worker, f"it sent a message that no client expects ({type(message).__name__})")
        for approved in checker.take():
            self._payers[approved.shard].add(approved)

    def _is_complete(self, checker: Checker) -> bool:
        final = self.shown.final
        return final is not None and all(checker.latest(shard) == final for shard in range(len(self._peers)))

    def _is_done(self, shard: int) -> bool:
        """Whether the worker's last receipt is paid."""
        final, paid = self.shown.final, self._payers[shard].paid
        return final is not None and paid is not None and paid.receipt.positions == final.positions

    async def _explain(self, checker: Checker, shard: int, failure: WorkerFailed) -> EfedllmError:
        """The first failure that arrives is often the echo of another one, and may overtake what explains it: wait for
        that a moment. Raises Violation if it shows one."""
        failures = [(shard, failure)]
        deadline = time.monotonic() + self._timeouts.grace
        while True:
            for at, refusal in failures:
                if refusal.code == "receipt" and (violation := checker.refused(at)) is not None:
                    return violation
            if failures[-1][1].code not in (*_SECONDARY, "receipt"):
                break
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                    at, message = await self._inbox.get()
            except TimeoutError:
                break
            if isinstance(message, WorkerFailed):
                failures.append((at, message))
            else:
                await self._take(checker, at, message)
        return min((failed for _, failed in failures), key=lambda failed: failed.code in _SECONDARY)

    def _shard_of(self, violation: Violation) -> int:
        return next(shard for shard, offer in enumerate(self.job.offers) if offer.worker == violation.worker)

    def _suspects(self, state: str) -> list[str]:
        """Who may have broken the request off, for all that is known here."""
        error = self.error
        if state != "failed" or not isinstance(error, WorkerFailed) or self._cancelled:
            return []
        if not self.opened.done():  # a refusal is none
            return [error.worker] if error.code in GONE else []
        if error.code in (*_SECONDARY, STALLED):
            return [peer.worker for peer in self._peers]
        return [error.worker]

    def _show_rest(self) -> None:
        """Tokens that came while a failure was looked into: they were delivered."""
        while not self._inbox.empty():
            shard, message = self._inbox.get_nowait()
            if isinstance(message, Token) and shard == len(self._peers) - 1:
                with contextlib.suppress(Violation):
                    self.shown.add(message)
                    self.tokens.put_nowait(message)

    async def _end(self, state: str) -> None:
        job = self.job
        self._show_rest()
        try:
            if isinstance(self.error, Violation):
                signed = self._signed[self._shard_of(self.error)]
                keep = self._store.keep_evidence
                await asyncio.to_thread(keep, job.request_id, self.error.worker, self.error.reason, signed)
            end = self._store.end_request
            await asyncio.to_thread(
                end, job.request_id, self.shown.tokens, state, self._accepted, self._suspects(state)
            )
        except StoreError as error:
            self.error = self.error or error


def _primary(failures: Sequence[BaseException]) -> BaseException:
    """The failure that explains the others."""
    return min(failures, key=lambda error: isinstance(error, WorkerFailed) and error.code in _SECONDARY)
