"""Paying: the channels of one session key, one voucher at a time in each, and none that is not on disk."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from efedllm.client.checking import Approved
from efedllm.client.errors import FundingError, StoreError, Violation, WorkerFailed
from efedllm.client.funding import Need, plan
from efedllm.client.network import ChannelState, Network
from efedllm.client.routing import Route, cost_of
from efedllm.client.store import SentVoucher, Store
from efedllm.protocol import eip712
from efedllm.protocol.messages import Opened

Deliver = Callable[[SentVoucher], Awaitable[int]]
"""Sends a voucher over a session's connection and returns the total that the worker credits."""


class Channel:
    """The channel with one worker in its present epoch. `lock` is held from signing a voucher until it is credited, and
    while a session opens, so that the total which a worker names is that of all it was sent."""

    def __init__(self, store: Store, signer: eip712.Signer, domain: eip712.Domain, payer: str, worker: str) -> None:
        self.worker = worker
        self.state = ChannelState(0, 0, False, 0)
        self.lock = asyncio.Lock()
        self._store, self._signer, self._domain, self._payer = store, signer, domain, payer
        self._book = store.book(payer, worker, str(signer.address), 0)
        self._reserved: dict[bytes, int] = {}
        self._is_certain = False
        """Whether everything in the book is known to be credited."""

    @property
    def epoch(self) -> int:
        return self.state.epoch

    def free(self) -> int:
        """Base units that no voucher and no running request uses."""
        return self.state.deposit - self._book.total - sum(self._reserved.values())

    def paid(self, request_id: bytes) -> int:
        """Base units that vouchers pay for a request."""
        return self._book.covered(request_id)

    def update(self, state: ChannelState) -> None:
        """The channel as the chain has it now."""
        if state.epoch != self.state.epoch:
            self._book = self._store.book(self._payer, self.worker, str(self._signer.address), state.epoch)
            self._is_certain = False
        self.state = state

    def reserve(self, request_id: bytes, ceiling: int) -> None:
        self._reserved[request_id] = ceiling

    def release(self, request_id: bytes) -> None:
        self._reserved.pop(request_id, None)

    async def reconcile(self, opened: Opened, deliver: Deliver) -> None:
        """Bring the worker to where the book is. `lock` is held. Raises StoreError if the worker is ahead of it.

        The worker may lack what was signed but not credited when a connection broke; that is sent again, in order.
        """
        if opened.epoch != self.epoch:
            raise WorkerFailed(
                self.worker, "epoch", f"it sees epoch {opened.epoch} of the channel, we {self.epoch}: try again"
            )
        key = (self.worker, str(self._signer.address), self.epoch)
        if not self._is_certain:
            self._book = await asyncio.to_thread(self._store.book, self._payer, *key)
        if opened.total != self._book.total:
            missing = await asyncio.to_thread(self._store.vouchers_after, *key, opened.total)
            if missing is None:
                raise StoreError(
                    f"worker {self.worker} holds a voucher of {opened.total} base units, this data directory knows of "
                    f"{self._book.total}: use the directory that signed it, or close the channel with "
                    f"`efedllm channel close` and ask again"
                )
            self._is_certain = False
            for sent in missing:
                await self._deliver(sent, deliver)
        self._is_certain = True

    async def pay(self, approved: Approved, deliver: Deliver) -> None:
        """One voucher for one receipt, from signing to credit. A receipt that costs nothing more needs none."""
        async with self.lock:
            receipt = approved.receipt
            if receipt.fee == self._book.covered(receipt.requestId):
                return
            if not self._is_certain:
                raise WorkerFailed(
                    self.worker, "credit", "an earlier voucher was not credited when its connection broke: ask again"
                )
            leaf, replaces = self._book.next_leaf(receipt.requestId, approved.digest, receipt.fee)
            if leaf.after > self.state.deposit:
                raise FundingError(f"the channel with worker {self.worker} is used up: ask again to top it up")
            voucher = self._book.voucher_after(leaf, replaces)
            sent = SentVoucher(voucher, eip712.sign(self._domain, voucher, self._signer), approved.digest)
            index = len(self._book.leaves) - (1 if replaces else 0)
            self._is_certain = False
            session_key = str(self._signer.address)
            keep = self._store.keep_voucher
            await asyncio.to_thread(keep, session_key, leaf, index, sent, receipt, approved.signature)
            self._book.add(leaf, replaces)
            await self._deliver(sent, deliver)
            self._is_certain = True

    async def _deliver(self, sent: SentVoucher, deliver: Deliver) -> None:
        credited = await deliver(sent)
        if credited != sent.voucher.total:
            raise Violation(
                self.worker, f"it credits {credited} base units for a voucher of {sent.voucher.total} base units"
            )


class Payments:
    """All channels of one payer and session key."""

    def __init__(
        self,
        network: Network,
        store: Store,
        signer: eip712.Signer,
        deposit: int | None = None,
        budget: int | None = None,
    ) -> None:
        """`deposit`: base units for a channel that has to be filled; `budget`: the most ever put into channels here."""
        self.signer = signer
        self._network, self._store, self._deposit, self._budget = network, store, deposit, budget
        self._channels: dict[str, Channel] = {}
        self._funding = asyncio.Lock()

    def channel(self, worker: str) -> Channel:
        if worker not in self._channels:
            network = self._network
            self._channels[worker] = Channel(self._store, self.signer, network.domain, network.payer, worker)
        return self._channels[worker]

    async def prepare(self, request_id: bytes, route: Route, prompt_count: int, max_tokens: int) -> int:
        """See to it that every channel of the route carries the request, with at most one transaction.

        Reserves what the request can cost until `release`. Returns what was deposited. Raises FundingError, ChainError.
        """
        session_key = str(self.signer.address)
        async with self._funding:
            channels = [self.channel(offer.worker) for offer in route.offers]
            await self._refresh(channels)
            needs = [
                Need(offer.worker, cost_of(offer, prompt_count, max_tokens), channel.free())
                for offer, channel in zip(route.offers, channels, strict=True)
            ]
            added = 0
            if any(need.free < need.ceiling for need in needs):
                balance = await self._network.balance()
                budget = balance if self._budget is None else min(balance, self._budget)
                tops = plan(needs, self._deposit, budget, self._network.token.symbol)
                await self._network.fund(session_key, tops)
                added = sum(top.amount for top in tops)
                if self._budget is not None:
                    self._budget -= added
                await self._refresh(channels)
            for need, channel in zip(needs, channels, strict=True):
                channel.reserve(request_id, need.ceiling)
            return added

    def release(self, request_id: bytes) -> None:
        for channel in self._channels.values():
            channel.release(request_id)

    async def _refresh(self, channels: Sequence[Channel]) -> None:
        session_key = str(self.signer.address)
        states = await asyncio.gather(*(self._network.channel(channel.worker, session_key) for channel in channels))
        for channel, state in zip(channels, states, strict=True):
            if state.closing:
                raise FundingError(
                    f"the channel with worker {channel.worker} is closing: "
                    "end it with `efedllm channel close`, then ask again"
                )
            channel.update(state)
