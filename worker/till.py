"""What one session earns: how far it may work ahead of the vouchers, and the vouchers that pay for its receipts."""

import asyncio
import logging
from dataclasses import replace

from efedllm.chain.errors import ChainError
from efedllm.protocol import eip712
from efedllm.protocol.messages import Payment
from efedllm.protocol.objects import Hop, Receipt, Request
from efedllm.protocol.pricing import CHUNK_POSITIONS, RECEIPT_TOKENS, ceiling_of, fee_of, window_of
from efedllm.protocol.vouchers import accept
from efedllm.storage.threads import to_the_end

from .account import Account
from .context import Context
from .errors import SessionError

log = logging.getLogger("efedllm.worker")


class Till:
    """Amounts in base units. `window` is the most that this session advances."""

    def __init__(self, context: Context, request_id: bytes, request: Request, hop: Hop, account: Account) -> None:
        self.account = account
        chunk = min(request.promptCount, CHUNK_POSITIONS) * hop.promptPrice + hop.tokenPrice
        between_receipts = min(request.maxTokens, RECEIPT_TOKENS) * hop.tokenPrice
        self._needed = max(chunk, between_receipts)
        """Without so much of the window the request could not go on."""
        asked = replace(hop, promptPrice=context.offer.prompt_price, tokenPrice=context.offer.token_price)
        # Who signs for more than is asked gets no larger window: it would dwarf what was left unpaid before.
        at_least = max(window_of(asked, context.credit_tokens), self._needed)
        self.window = min(window_of(hop, context.credit_tokens), at_least)
        self._context, self._request_id, self._request, self._hop = context, request_id, request, hop
        self._receipts: dict[bytes, Receipt] = {}
        self._last_fee = 0
        self._worked = 0
        """Fee of everything that was begun."""
        self._credit = asyncio.Event()
        self._client_gone = False
        self._dishonoured = False
        """No voucher came where one was due."""

    def check_openable(self) -> None:
        """Raises SessionError if the channel's deposit or its arrears do not leave enough to begin the request."""
        self.account.check_openable(min(self.window, ceiling_of(self._hop, self._request)))
        self.account.check_credit(self.window, self._needed)

    def expect(self, digest: bytes, receipt: Receipt) -> None:
        """A receipt was signed and kept: vouchers may pay for it from now on."""
        self._receipts[digest] = receipt
        self._last_fee = receipt.fee

    def on_client_gone(self) -> None:
        """No voucher comes any more: whoever waits for one gives up."""
        self._client_gone = True
        self._credit.set()

    def end(self) -> None:
        """The session is over; what it advanced is paid, or in arrears. What bears no receipt is, if the client is to
        blame: a path may break through anybody."""
        if self._dishonoured:
            self.account.end(self._request_id, self._worked)
        else:
            self.account.end(self._request_id, self._last_fee, self._worked - self._last_fee)

    async def take(self, message: Payment) -> None:
        """Check a voucher, keep it, credit it; the caller answers. Raises VoucherError or SessionError."""
        book = self.account.book
        receipt = self._receipts.get(message.receipt_digest)
        if receipt is None:  # after a broken connection a client first sends what it signed in an earlier session
            receipt = await asyncio.to_thread(self._earlier, message.receipt_digest)
        if receipt is None or (receipt.payer, receipt.epoch) != (book.payer, book.epoch):
            raise SessionError("voucher", "the voucher names a receipt that this worker did not sign for this channel")
        async with self.account.lock:
            signer = eip712.recover(self._context.domain, message.voucher, message.signature)
            if signer != self.account.session_key:
                raise SessionError("voucher", f"the voucher is signed by {signer}, not by the channel's session key")
            leaf, replaces = accept(book, message.voucher, receipt, message.receipt_digest)
            self.account.check_covers(leaf.after)
            index = len(book.leaves) - (1 if replaces else 0)

            def keep() -> None:
                self._context.store.keep_voucher(signer, leaf, index, message.voucher, message.signature)
                book.add(leaf, replaces)

            await to_the_end(keep)
        self._credit.set()
        self.account.paid()

    def _earlier(self, digest: bytes) -> Receipt | None:
        """A receipt of an earlier session on this channel. Another channel of the same payer must not pay for it: it
        would be paid twice."""
        receipt = self._context.store.receipt(digest)
        if receipt is None:
            return None
        known = self._context.store.payer_key(receipt.requestId)
        return receipt if known in (None, self.account.session_key) else None

    async def afford(self, positions: int, generated: int) -> None:
        """Wait until these counts are within the window and the deposit. Raises SessionError if no voucher comes."""
        fee = fee_of(self._hop, self._request.promptCount, positions, generated)
        refreshed = False
        while True:
            unpaid = fee - self.account.book.covered(self._request_id)
            if unpaid > self.window - self.account.arrears:
                await self._await_credit()
            elif self.account.advance(self._request_id, unpaid):
                self._worked = fee
                return
            elif refreshed:
                raise SessionError("channel", "the deposit is used up: top the channel up and ask again")
            else:
                await self._refresh()
                refreshed = True

    async def settle(self) -> None:
        """After the last receipt: wait for the client's last vouchers. Raises SessionError if they do not come."""
        while self.account.book.covered(self._request_id) < self._last_fee:
            await self._await_credit()

    async def watch_channel(self) -> None:
        """A client that begins to take its deposit back gets no more work. Without a chain, credit is the limit."""
        while True:
            await asyncio.sleep(self._context.channel_seconds)
            try:
                state = await self._context.network.channel(self.account.book.payer, self.account.session_key)
            except ChainError as error:
                log.debug("request %s: %s", self._request_id.hex()[:16], error)
                continue
            if state.closing or state.epoch != self.account.book.epoch:
                raise SessionError("channel", "the channel is closing: open another one")
            self.account.update(state)

    async def _refresh(self) -> None:
        """The deposit may have grown."""
        try:
            async with asyncio.timeout(self._context.chain_seconds):
                state = await self._context.network.channel(self.account.book.payer, self.account.session_key)
        except (ChainError, TimeoutError) as error:
            raise SessionError(
                "channel", "the deposit is used up, and the chain cannot be asked for more now: try again later"
            ) from error
        if state.epoch == self.account.book.epoch:
            self.account.update(state)

    async def _await_credit(self) -> None:
        self._credit.clear()
        if self._client_gone:
            self._dishonoured = True
            raise SessionError("credit", "the client left without paying for the last window")
        seconds = self._context.voucher_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._credit.wait()
        except TimeoutError as error:
            self._dishonoured = True
            raise SessionError("credit", f"no voucher came for {seconds:g} s: the work stops here") from error
