"""One channel with a worker: its book, one voucher at a time, and none that is not on disk."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from efedllm.client.checking import Approved
from efedllm.client.desk import Desk
from efedllm.client.errors import FundingError, OldCopy, StoreError, Violation, WorkerFailed
from efedllm.client.network import ChannelState
from efedllm.client.peer import UNREACHABLE
from efedllm.client.records import Unanswered
from efedllm.client.recovery import ADVICE, Held, check_signed, continued, too_old
from efedllm.client.store import SentVoucher, Store
from efedllm.protocol import eip712
from efedllm.protocol.messages import Opened
from efedllm.protocol.objects import Voucher
from efedllm.protocol.vouchers import Book, Leaf
from efedllm.storage.threads import to_the_end
from efedllm.storage.witness import Highest, Witness

log = logging.getLogger("efedllm.client")

Deliver = Callable[[SentVoucher], Awaitable[int]]
"""Sends a voucher over a session's connection and returns the total that the worker credits."""


class Channel:
    """The channel with one worker in its present epoch. `lock` is held from signing a voucher until it is credited, and
    while a session opens, so that the total which a worker names is that of all it was sent.

    A voucher goes to the store, then to the witness, then out. So the store knows of everything that was signed, unless
    it is an older copy; then nothing is signed before the worker has shown what is missing.
    """

    def __init__(
        self,
        store: Store,
        witness: Witness,
        signer: eip712.Signer,
        domain: eip712.Domain,
        payer: str,
        worker: str,
        changed: asyncio.Event | None = None,
    ) -> None:
        """`changed` is set when there may be a place for one more request."""
        self.worker = worker
        self._changed = changed or asyncio.Event()
        self._places: set[object] = set()
        self._window: int | None = None
        self.state = ChannelState(0, 0, False, 0)
        self.lock = asyncio.Lock()
        self._store, self._witness, self._signer, self._domain, self._payer = store, witness, signer, domain, payer
        self._book = self._load()
        self._reserved: dict[bytes, int] = {}
        self._is_certain = False
        """Whether everything in the book is known to be credited, and nothing was signed beyond it."""
        self._changes = 0
        """How often the epoch became another one: what was begun before knows nothing of the book after it."""

    @property
    def epoch(self) -> int:
        return self.state.epoch

    @property
    def signed(self) -> int:
        """Base units that vouchers of this epoch pay, as far as this data directory knows."""
        return self._book.total

    @property
    def committed(self) -> int:
        """The same, or more where it is known that more was signed."""
        return max(self._book.total, self._floor())

    @property
    def reserved(self) -> int:
        """Base units that running requests may still cost."""
        return sum(self._reserved.values())

    @property
    def is_settled(self) -> bool:
        """Whether the worker is known to hold every voucher."""
        return self._is_certain

    def free(self) -> int:
        """Base units that no voucher and no running request uses."""
        return self.state.deposit - self.committed - self.reserved

    def paid(self, request_id: bytes) -> int:
        """Base units that vouchers pay for a request."""
        return self._book.covered(request_id)

    def update(self, state: ChannelState) -> None:
        """The channel as the chain has it now."""
        changed = state.epoch != self.state.epoch
        self.state = state
        if changed:
            self._book = self._load()
            self._is_certain = False
            self._changes += 1

    @property
    def has_place(self) -> bool:
        """Whether the worker lets one more request begin: one at a time, and one more for every window that was paid.

        As `worker/account.py` has it; waiting here keeps requests over several workers from blocking each other.
        """
        if self._window is None:
            return not self._places
        return len(self._places) * self._window <= self._book.total

    def enter(self, request: object) -> None:
        """A request begins; `leave` ends it."""
        self._places.add(request)

    def leave(self, request: object) -> None:
        self._places.discard(request)
        self._changed.set()

    def reserve(self, request_id: bytes, ceiling: int) -> None:
        self._reserved[request_id] = ceiling

    def release(self, request_id: bytes) -> None:
        self._reserved.pop(request_id, None)

    async def reconcile(self, opened: Opened, deliver: Deliver, desk: Desk) -> None:
        """Bring book and worker to the same state when a request opens. `lock` is held.

        The worker may lack what was signed but not credited when a connection broke, or what it lost with a restored
        backup; this side may lack what it lost in the same way. Raises OldCopy if that cannot be had, and Violation if
        the worker names a total that it can not show.
        """
        if opened.epoch != self.epoch:
            raise WorkerFailed(
                self.worker, "epoch", f"it sees epoch {opened.epoch} of the channel, we {self.epoch}: try again"
            )
        self._window = opened.window
        changes = self._changes
        try:
            await self._reload()
            if opened.total > self._book.total or self._is_old():
                await self._catch_up(desk, opened.total)
            if opened.total < self._book.total:
                await self._hand_in(opened.total, desk, deliver)
        except Unanswered as error:
            raise WorkerFailed(self.worker, UNREACHABLE, f"vouchers could not be put right: {error}") from error
        self._is_certain = self._changes == changes

    async def settle(self, desk: Desk) -> int:
        """The same without a request. Returns the base units of vouchers that the worker lacked. Raises Unanswered
        too."""
        async with self.lock:
            changes = self._changes
            await self._reload()
            held = await desk.held(*self._key())
            if held is not None:
                check_signed(self._domain, str(self._signer.address), self._book, *held)
            total = 0 if held is None else held[0].total
            if total > self._book.total or self._is_old():
                await self._catch_up(desk, total)
            lacked = self._book.total - total
            if lacked > 0:
                await self._hand_in(total, desk, None)
            self._is_certain = self._changes == changes
            return max(lacked, 0)

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
            changes, book = self._changes, self._book
            leaf, replaces = book.next_leaf(receipt.requestId, approved.digest, receipt.fee)
            if leaf.after > self.state.deposit:
                raise FundingError(f"the channel with worker {self.worker} is used up: ask again to top it up")
            voucher = book.voucher_after(leaf, replaces)
            self._is_certain = False
            index = len(book.leaves) - (1 if replaces else 0)
            try:
                sent = await to_the_end(self._sign, voucher, leaf, index, approved)
            except StoreError:
                await self._reload()  # it may be kept all the same
                raise
            book.add(leaf, replaces)
            await self._deliver(sent, deliver)
            self._is_certain = self._changes == changes
        self._changed.set()

    # what was signed

    def _key(self) -> tuple[str, str, int]:
        return self._payer, str(self._signer.address), self.state.epoch

    def _load(self) -> Book:
        return self._store.book(self._payer, self.worker, str(self._signer.address), self.state.epoch)

    async def _reload(self) -> None:
        """What is on disk counts: a voucher may have got there although keeping it failed."""
        if not self._is_certain:
            changes, book = self._changes, await asyncio.to_thread(self._load)
            self._check_unchanged(changes)
            self._book = book

    def _check_unchanged(self, changes: int) -> None:
        if self._changes != changes:
            raise WorkerFailed(
                self.worker, "epoch", f"the channel's epoch became {self.epoch} in the meantime: try again"
            )

    def _sign(self, voucher: Voucher, leaf: Leaf, index: int, approved: Approved) -> SentVoucher:
        """A voucher that may be sent. Nothing is signed for a sum that was signed before."""
        highest = self._witness.highest(self.worker, voucher.epoch)
        if highest is not None and voucher.total <= highest.total:
            raise too_old(self.worker, self._book.total, highest.total)
        sent = SentVoucher(voucher, eip712.sign(self._domain, voucher, self._signer), approved.digest)
        self._store.keep_voucher(str(self._signer.address), leaf, index, sent, approved.receipt, approved.signature)
        self._note(voucher)
        return sent

    def _note(self, voucher: Voucher) -> None:
        self._witness.note(self.worker, voucher.epoch, Highest(voucher.total, voucher.count, voucher.receiptsRoot))

    def _floor(self) -> int:
        """Base units that are known to have been signed, whatever the book says."""
        highest = self._witness.highest(self.worker, self.epoch)
        return max(self.state.claimed, 0 if highest is None else highest.total)

    def _is_old(self) -> bool:
        """Whether something was signed that is not in the store, be it more or something else."""
        highest = self._witness.highest(self.worker, self.epoch)
        if highest is not None:
            key = (self.worker, str(self._signer.address), self.epoch)
            if self._store.root_of(*key, highest.total) != highest.root:
                return True
        return self._book.total < self.state.claimed

    # putting either side right

    async def _catch_up(self, desk: Desk, named: int) -> None:
        """Take over what the worker shows, where this data directory is the older copy."""
        known, floor, changes = self._book.total, self._floor(), self._changes
        self._is_certain = False
        held = await desk.held(*self._key())
        if held is not None:
            check_signed(self._domain, str(self._signer.address), self._book, *held)
        if held is None or held[0].total < named:
            if self._is_old():
                raise too_old(self.worker, known, max(floor, named if held is not None else 0))
            raise Violation(self.worker, f"it names vouchers of {named} base units, and shows none: none was signed")
        voucher, signature = held
        if voucher.total <= known or voucher.total < floor:
            raise too_old(self.worker, known, floor)
        leaves = await desk.leaves(voucher.receiptsRoot)
        book = continued(self._book, Held(voucher, signature, leaves))

        def adopt() -> None:
            self._store.adopt(str(self._signer.address), voucher, signature, leaves)
            self._note(voucher)

        await to_the_end(adopt)
        log.warning(
            "this data directory was an older copy: worker %s showed vouchers of %d base units that were signed, "
            "beyond the %d known", self.worker, voucher.total, known,
        )  # fmt: skip
        self._check_unchanged(changes)
        self._book = book

    async def _hand_in(self, held: int, desk: Desk, deliver: Deliver | None) -> None:
        """Give the worker what it lacks beyond a voucher of `held` base units."""
        key = (self.worker, str(self._signer.address), self.epoch)
        missing = await asyncio.to_thread(self._store.kept_after, *key, held)
        if missing is None:
            shown = await desk.held(*self._key())
            if held and (shown is None or shown[0].total != held):
                raise Violation(self.worker, f"it names vouchers of {held} base units, and does not show them")
            raise OldCopy(
                self.worker,
                f"worker {self.worker} has lost vouchers beyond {held} base units, and so has this data directory; "
                f"{ADVICE}",
            )
        self._is_certain = False
        await to_the_end(self._note, missing[-1].sent.voucher)  # a crash may have come in between
        total = await desk.hand_in(missing) if all(kept.receipt is not None for kept in missing) else None
        if total is None and deliver is not None:
            for kept in missing:
                await self._deliver(kept.sent, deliver)
        elif total != self._book.total:
            credits = "nothing" if total is None else f"{total} base units"
            raise WorkerFailed(
                self.worker, "voucher", f"it credits {credits} for vouchers of {self._book.total} base units"
            )

    async def _deliver(self, sent: SentVoucher, deliver: Deliver) -> None:
        credited = await deliver(sent)
        if credited != sent.voucher.total:
            raise Violation(
                self.worker, f"it credits {credited} base units for a voucher of {sent.voucher.total} base units"
            )
