"""All channels in use: one account each, whoever asks, so that every voucher meets the same book."""

import asyncio
import time

from efedllm.chain.errors import ChainError
from efedllm.protocol.vouchers import Book

from .account import Account
from .context import Context
from .errors import SessionError


class Accounts:
    """Accounts are loaded from the store when their channel is first used."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[tuple[str, str, int], Account] = {}

    async def get(self, payer: str, session_key: str) -> Account:
        """The channel's account in its present epoch, with the state that the chain has now. Raises ChainError."""
        worker = self._context.offer.worker
        state = await self._context.network.channel(payer, session_key)
        key = (payer, session_key, state.epoch)
        if key not in self._known:
            if state.deposit == 0:  # strangers leave no trace
                return Account(session_key, Book(payer, worker, state.epoch), state, {})
            book = await asyncio.to_thread(self._context.store.book, payer, session_key, worker, state.epoch)
            delivered = await asyncio.to_thread(self._context.store.failed_fees, payer, session_key, state.epoch)
            self._known.setdefault(key, Account(session_key, book, state, delivered))
        account = self._known[key]
        account.update(state)
        return account

    async def to_serve(self, payer: str, session_key: str) -> Account:
        """Like `get`; while the chain does not answer, a known channel goes on with what was last seen of it.

        Its payer may have asked for the deposit in the meantime, so that ends long before it could be had. Raises
        SessionError for a channel that is not known, or not well enough any more.
        """
        try:
            async with asyncio.timeout(self._context.chain_seconds):
                return await self.get(payer, session_key)
        except (ChainError, TimeoutError) as error:
            epochs = [epoch for one, key, epoch in self._known if (one, key) == (payer, session_key)]
            if not epochs:
                raise SessionError(
                    "busy", "this worker cannot ask the chain about this channel now: try again later"
                ) from error
            account = self._known[payer, session_key, max(epochs)]
            if time.monotonic() > account.seen_at + self._context.blind_seconds:
                raise SessionError(
                    "busy", "this worker could not ask the chain about this channel for too long: try again later"
                ) from error
            return account
