"""One payer's channel while it is in use: its vouchers, its deposit, and what live sessions advanced beyond them."""

import asyncio
import time
from collections.abc import Mapping

from efedllm.protocol.vouchers import Book

from .errors import SessionError
from .network import ChannelState

FORGIVEN_PART = 32
"""One in so many base units that a channel paid is forgiven of what it left unpaid: requests also fail through nobody's
or somebody else's fault, and who pays for months must not be stopped by the sum of them."""
LOST_WINDOWS = 8
"""How many windows of work without a receipt a channel may lose through paths that break, beyond what it paid. Whoever
chooses a path may be in league with one that breaks off behind the first rows, and take those for nothing."""
MAX_WAITING = 64
"""Requests of one channel that may wait for a place."""


class Account:
    """Shared by all sessions of one (payer, session key, epoch). Amounts in base units."""

    def __init__(self, session_key: str, book: Book, state: ChannelState, delivered: Mapping[bytes, int]) -> None:
        """`delivered`: by request, the fee of what was done in requests that failed."""
        self.session_key, self.book = session_key, book
        self._delivered = dict(delivered)
        self.update(state)
        self.lock = asyncio.Lock()
        """Held from checking a voucher until it is in the book."""
        self._advanced: dict[bytes, int] = {}
        self._lost = 0
        self._places: set[object] = set()
        self._waiting = 0
        self._changed = asyncio.Event()

    def update(self, state: ChannelState) -> None:
        """The channel as the chain has it now."""
        self.state, self.seen_at = state, time.monotonic()

    def check_covers(self, total: int) -> None:
        """Raises SessionError for a voucher beyond the deposit."""
        if total > self.state.deposit:
            raise SessionError("voucher", f"voucher.total {total} exceeds the deposit of {self.state.deposit}")

    @property
    def arrears(self) -> int:
        """What ended requests left unpaid, less what is forgiven."""
        unpaid = sum(max(fee - self.book.covered(request_id), 0) for request_id, fee in self._delivered.items())
        return max(unpaid - self.book.total // FORGIVEN_PART, 0)

    def check_credit(self, window: int, needed: int) -> None:
        """Raises SessionError if arrears leave less than `needed` of the window: no request could go on. Also if too
        much work was lost."""
        if self._lost > LOST_WINDOWS * window + self.book.total:
            raise SessionError(
                "credit",
                f"requests of this channel broke off before a receipt, after work for {self._lost} base units: close it"
                " with `efedllm channel close` and open another one, or choose another path",
            )
        if window - self.arrears < needed:
            raise SessionError(
                "credit",
                f"this channel left {self.arrears} base units of earlier requests unpaid, a credit window is {window}: "
                "close it with `efedllm channel close` and open another one, or choose another path",
            )

    def check_openable(self, needed: int) -> None:
        """Raises SessionError unless the channel can carry `needed` more. The caller compared the epoch."""
        if self.state.deposit == 0 and self.state.unconfirmed:
            raise SessionError("channel", "the channel's deposit is not confirmed yet: try again in a moment")
        if self.state.deposit == 0:
            raise SessionError("channel", "no deposit: open a channel with this worker first (`efedllm channel open`)")
        if self.state.closing:
            raise SessionError("channel", "the channel is closing: open another one")
        if (left := self.state.deposit - self.book.total - sum(self._advanced.values())) < needed:
            more = f" and {self.state.unconfirmed} that are not confirmed yet" if self.state.unconfirmed else ""
            raise SessionError(
                "channel", f"the channel has {left} base units left{more}, {needed} are needed: top it up"
            )

    async def enter(self, session: object, window: int, seconds: float) -> None:
        """Take a place for a request, once there is one; `leave` gives it back.

        A channel has one place, and one more for every window that it paid. Each request at once is advanced a window,
        so a channel is never advanced more than it paid and one window. Raises SessionError after `seconds`.
        """
        if self._waiting >= MAX_WAITING:
            raise SessionError("busy", f"{MAX_WAITING} requests of this channel wait here already: try again later")
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                while len(self._places) * window > self.book.total:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise SessionError(
                "busy",
                f"{len(self._places)} requests of this channel run here, and it paid {self.book.total} base units so "
                f"far: another one at once needs {len(self._places) * window}, so let one end first",
            ) from error
        finally:
            self._waiting -= 1
        self._places.add(session)

    def leave(self, session: object) -> None:
        """The request has ended here, or could not begin."""
        self._places.discard(session)
        self._changed.set()

    def paid(self) -> None:
        """A voucher came: there may be another place."""
        self._changed.set()

    def advance(self, request_id: bytes, unpaid: int) -> bool:
        """Reserve `unpaid` for a session's work beyond its vouchers; False if the deposit does not cover it."""
        others = sum(amount for other, amount in self._advanced.items() if other != request_id)
        unpaid = max(unpaid, 0)  # of a request that is served again, more may be paid than is done
        if self.book.total + others + unpaid > self.state.deposit:
            return False
        self._advanced[request_id] = unpaid
        return True

    def end(self, request_id: bytes, delivered: int, lost: int = 0) -> None:
        """The session is over; what it advanced is paid, or in arrears. `lost`: fee of work that bears no receipt, and
        may not be the client's fault; forgotten when this program ends."""
        self._advanced.pop(request_id, None)
        self._lost += lost
        if delivered > self.book.covered(request_id):
            self._delivered[request_id] = delivered
