"""One payer's channel while it is in use: its vouchers, its deposit, and what live sessions advanced beyond them."""

import asyncio
import time

from efedllm.protocol.vouchers import Book

from .errors import SessionError
from .network import ChannelState


class Account:
    """Shared by all sessions of one (payer, session key, epoch). Amounts in base units."""

    def __init__(self, session_key: str, book: Book, state: ChannelState) -> None:
        self.session_key, self.book = session_key, book
        self.update(state)
        self.lock = asyncio.Lock()
        """Held from checking a voucher until it is in the book."""
        self._advanced: dict[bytes, int] = {}

    def update(self, state: ChannelState) -> None:
        """The channel as the chain has it now."""
        self.state, self.seen_at = state, time.monotonic()

    def check_covers(self, total: int) -> None:
        """Raises SessionError for a voucher beyond the deposit."""
        if total > self.state.deposit:
            raise SessionError("voucher", f"voucher.total {total} exceeds the deposit of {self.state.deposit}")

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

    def advance(self, request_id: bytes, unpaid: int) -> bool:
        """Reserve `unpaid` for a session's work beyond its vouchers; False if the deposit does not cover it."""
        others = sum(amount for other, amount in self._advanced.items() if other != request_id)
        unpaid = max(unpaid, 0)  # of a request that is served again, more may be paid than is done
        if self.book.total + others + unpaid > self.state.deposit:
            return False
        self._advanced[request_id] = unpaid
        return True

    def end(self, request_id: bytes) -> None:
        """The session is over; what it advanced is paid or lost."""
        self._advanced.pop(request_id, None)
