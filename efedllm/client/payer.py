"""Paying one worker of a running request, receipt after receipt, beside the stream of its tokens."""

import asyncio
from collections.abc import Callable

from efedllm.client.channel import Channel
from efedllm.client.checking import Approved
from efedllm.client.errors import Violation, WorkerFailed
from efedllm.client.peer import SILENT, Peer
from efedllm.client.store import SentVoucher
from efedllm.errors import EfedllmError
from efedllm.protocol.messages import Credited, Payment


class Payer:
    """`deliver` sends one voucher over the request's connection; `add` pays receipts as they are approved."""

    def __init__(
        self,
        request_id: bytes,
        peer: Peer,
        channel: Channel,
        credit_seconds: float,
        on_failure: Callable[[EfedllmError], None],
    ) -> None:
        self.paid: Approved | None = None
        """The latest receipt whose voucher is credited."""
        self._request_id, self._peer, self._channel = request_id, peer, channel
        self._credit_seconds, self._on_failure = credit_seconds, on_failure
        self._waiting: Approved | None = None
        self._task: asyncio.Task[None] | None = None
        self._credit: asyncio.Future[int] | None = None
        self._gone: EfedllmError | None = None

    @property
    def worker(self) -> str:
        return self._peer.worker

    def on_credited(self, message: Credited) -> None:
        """Raises Violation if no voucher is under way."""
        if self._credit is None or self._credit.done():
            raise Violation(self._peer.worker, "it credits a voucher that was not sent")
        self._credit.set_result(message.total)

    def on_gone(self, error: EfedllmError) -> None:
        """The connection ended: nothing will be credited any more."""
        self._gone = error
        if self._credit is not None and not self._credit.done():
            self._credit.set_exception(error)

    async def deliver(self, sent: SentVoucher) -> int:
        """Send a voucher; the total that the worker credits. Raises WorkerFailed."""
        if self._gone is not None:
            raise self._gone
        self._credit = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._credit_seconds):
                await self._peer.send(Payment(self._request_id, sent.voucher, sent.signature, sent.receipt_digest))
                return await self._credit
        except TimeoutError as error:
            reason = f"it did not credit a voucher within {self._credit_seconds:g} s"
            raise WorkerFailed(self._peer.worker, SILENT, reason) from error
        finally:
            self._credit = None

    def add(self, approved: Approved) -> None:
        """Pay this receipt; where several wait, the latest covers the others."""
        self._waiting = approved
        if self._task is None or (self._task.done() and not self._task.exception()):
            self._task = asyncio.create_task(self._pay())

    async def finish(self) -> None:
        """Wait until everything is credited. Raises what went wrong."""
        if self._task is not None:
            await self._task

    async def _pay(self) -> None:
        while (approved := self._waiting) is not None:
            self._waiting = None
            try:
                await self._channel.pay(approved, self.deliver)
            except EfedllmError as error:
                self._on_failure(error)
                raise
            self.paid = approved
