"""One payer's channel while it is in use: its vouchers, its deposit, and what live sessions advanced beyond them."""

import asyncio

from efedllm.protocol.vouchers import Book

from .errors import SessionError
from .network import ChannelState


class Account:
    """Shared by all sessions of one (payer, session key, epoch). Amounts in base units."""

    def __init__(self, session_key: str, book: Book, state: ChannelState) -> None:
        self.session_key, self.book, self.state = session_key, book, state
        self.lock = asyncio.Lock()
        """Held from checking a voucher until it is in the book."""
        self._advanced: dict[bytes, int] = {}

    def check_openable(self, needed: int) -> None:
        """Raises SessionError unless the channel can carry `needed` more. The caller compared the epoch."""
        if self.state.deposit == 0:
            raise SessionError("channel", "no deposit: open a channel with this worker first (`efedllm channel open`)")
        if self.state.closing:
            raise SessionError("channel", "the channel is closing: open another one")
        if (left := self.state.deposit - self.book.total - sum(self._advanced.values())) < needed:
            raise SessionError("channel", f"the channel has {left} base units left, {needed} are needed: top it up")

    def advance(self, request_id: bytes, unpaid: int) -> bool:
        """Reserve `unpaid` for a session's work beyond its vouchers; False if the deposit does not cover it."""
        others = sum(amount for other, amount in self._advanced.items() if other != request_id)
        if self.book.total + others + unpaid > self.state.deposit:
            return False
        self._advanced[request_id] = unpaid
        return True

    def end(self, request_id: bytes) -> None:
        """The session is over; what it advanced is paid or lost."""
        self._advanced.pop(request_id, None)
