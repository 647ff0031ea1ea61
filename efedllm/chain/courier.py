"""Brings one transaction into a block: signs it, sends it until a node has it, and stays with it until it is mined.

While it waits, a transaction that its nodes forgot is sent again, and one that nobody mines is replaced by the same
with a higher offer. All versions have one nonce, so at most one of them takes effect; all are watched.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Any

from eth_account.signers.local import LocalAccount

from efedllm.chain.answers import Mined
from efedllm.chain.errors import (
    ChainError,
    ChainUnreachable,
    GasTooDear,
    NonceTaken,
    NotMined,
    OutOfGasMoney,
    WrongChain,
)
from efedllm.chain.fees import Fees, Price, first_fees, replacement_fees
from efedllm.chain.outbox import Outbox, Sent, Version
from efedllm.chain.rpc import Rpc

log = logging.getLogger(__name__)

_ATTEMPTS = 5
# Dense at first, for chains with short blocks; the last one repeats.
_PAUSES = (0.02, 0.05, 0.1, *[0.2] * 20, 1.0)
_CARE_SECONDS = 1.0
_LAG_BLOCKS = 32  # by how much the block noted as the newest may have been too new for the node that counted


def pauses() -> Iterator[float]:
    """Seconds between questions for a receipt."""
    return chain(_PAUSES, repeat(_PAUSES[-1]))


@dataclass(frozen=True)
class Deadline:
    """`seconds` from when it was made."""

    seconds: float
    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(seconds, time.monotonic() + seconds)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.at


@dataclass
class Courier:
    """Sends for one key. `cap_wei` is the most that may be offered per gas; a transaction that was not mined
    `patience_seconds` after its last version left is replaced. A foreign transaction counts once it is confirmed."""

    rpc: Rpc
    chain_id: int
    account: LocalAccount
    outbox: Outbox
    cap_wei: int
    patience_seconds: float
    confirmations: int
    next_nonce: int = 0
    """One behind the last transaction of ours that a node took."""
    _ours: deque[bytes] = field(default_factory=lambda: deque(maxlen=256))  # far more than any node lags behind

    @property
    def address(self) -> str:
        return str(self.account.address)

    async def price(self) -> tuple[Price, bool]:
        """What gas costs now, and whether the chain is one without EIP-1559."""
        base_fee = (await self.rpc.block()).base_fee_wei
        if base_fee is None:
            return Price(0, await self.rpc.gas_price()), True
        return Price(base_fee, await self.rpc.priority_fee()), False

    # sending

    async def post(self, draft: Sent, lowest_nonce: int, deadline: Deadline) -> Sent:
        """Send `draft` with the next nonce, at least `lowest_nonce`; returns once a node has it.

        The node's count is believed first, so that transactions lost in a reorganisation leave no gap. When it is
        refused, facts decide and not the wording of the refusal: the node may have the transaction already; another
        program may have used the nonce; the node may lag behind what was mined from here.

        Raises GasTooDear, OutOfGasMoney, NotMined if no node answered until the deadline, ChainError for a refusal.
        """
        nonce = max(await self.rpc.transaction_count(self.address), lowest_nonce)
        attempts = _ATTEMPTS
        while True:
            fees, is_legacy = await self._affordable(deadline)
            sent, raw = self._sign(replace(draft, nonce=nonce, is_legacy=is_legacy, versions=()), fees)
            if sent.hashes[0] in self._ours:
                # Same nonce, same content: a node that lags would show us the earlier one as if it were this one.
                draft = replace(draft, gas=draft.gas + 1)
                continue
            self.outbox.put(sent)
            try:
                await self._send_until_answered(raw, sent.hashes[0], deadline)
            except (NotMined, WrongChain):
                raise
            except ChainError as error:
                self.outbox.drop([nonce])
                attempts -= 1
                count = max(await self.rpc.transaction_count(self.address), self.next_nonce, lowest_nonce)
                if not attempts or (count == nonce and not await self._rose_above(fees)):
                    await self.raise_if_broke(sent.gas * fees.max_fee + sent.value, error)
                    raise
                if count != nonce:
                    log.info("nonce %d of %s was taken, using %d", nonce, self.address, count)
                nonce = count
            else:
                self.next_nonce = nonce + 1
                self._ours.append(sent.hashes[0])
                return sent

    def _sign(self, sent: Sent, fees: Fees) -> tuple[Sent, bytes]:
        """With one more version, and its bytes."""
        transaction: dict[str, Any] = {
            "nonce": sent.nonce,
            "data": sent.data,
            "value": sent.value,
            "gas": sent.gas,
            "chainId": self.chain_id,
        }
        if sent.to is not None:
            transaction["to"] = sent.to
        if sent.is_legacy:
            transaction["gasPrice"] = fees.max_fee
        else:
            transaction |= {"maxFeePerGas": fees.max_fee, "maxPriorityFeePerGas": fees.tip, "type": 2}
        signed = self.account.sign_transaction(transaction)
        raw = bytes(signed.raw_transaction)
        if bytes(signed.hash) in sent.hashes:
            return sent, raw
        return sent.with_version(Version(bytes(signed.hash), fees)), raw

    async def _affordable(self, deadline: Deadline) -> tuple[Fees, bool]:
        """The first offer; while gas is above the cap, waits for it to fall."""
        is_told = False
        while True:
            price, is_legacy = await self.price()
            if (fees := first_fees(price, self.cap_wei)) is not None:
                return fees, is_legacy
            if deadline.is_over:
                raise GasTooDear(price.total, self.cap_wei, None)
            if not is_told:
                log.warning("gas costs more than is allowed (%d wei); waiting", self.cap_wei)
                is_told = True
            await asyncio.sleep(min(_CARE_SECONDS, self.patience_seconds))

    async def _rose_above(self, fees: Fees) -> bool:
        """Whether a node may have refused an offer since the base fee is above it by now."""
        price, _ = await self.price()
        return price.base_fee > fees.max_fee

    async def _send_until_answered(self, raw: bytes, transaction_hash: bytes, deadline: Deadline) -> None:
        """Send the same bytes until a node answers: it may have taken them although its answer was lost."""
        while True:
            try:
                try:
                    await self.rpc.send_raw(raw)
                except ChainUnreachable:
                    raise
                except ChainError:
                    if not await self.rpc.knows(transaction_hash):
                        raise
                return
            except ChainUnreachable as error:
                if deadline.is_over:
                    raise NotMined("0x" + transaction_hash.hex(), deadline.seconds) from error
            await asyncio.sleep(_PAUSES[-1])

    async def raise_if_broke(self, needed_wei: int, cause: ChainError) -> None:
        if await self.rpc.balance(self.address) < needed_wei:
            raise OutOfGasMoney(self.address) from cause

    # following

    async def follow(self, sent: Sent, deadline: Deadline) -> Mined:
        """Stay with a transaction until it is mined. The chain may be out of reach for a while, or refuse to answer.

        Raises NonceTaken, and at the deadline GasTooDear or NotMined: then it may still be mined later.
        """
        is_down, last_care, trouble = False, time.monotonic(), _Trouble(time.monotonic(), sent.first_block)
        troubles = {sent.nonce: trouble}
        for pause in pauses():
            try:
                for transaction_hash in sent.hashes:
                    if (mined := await self.rpc.receipt(transaction_hash)) is not None:
                        return mined
                if time.monotonic() >= last_care + min(_CARE_SECONDS, self.patience_seconds):
                    last_care = time.monotonic()
                    sent = await self._care(sent, troubles)
            except (NonceTaken, WrongChain):
                raise
            except ChainError as error:
                log.log(logging.DEBUG if is_down else logging.WARNING, "%s; waiting", error)
                is_down = True
            if deadline.is_over:
                break
            await asyncio.sleep(pause)
        newest = "0x" + sent.hashes[0].hex()
        if trouble.price is not None:
            raise GasTooDear(trouble.price.total, self.cap_wei, newest)
        raise NotMined(newest, deadline.seconds)

    async def _care(self, sent: Sent, troubles: "dict[int, _Trouble]") -> Sent:
        """Does for a transaction without receipt what it needs; `troubles` by nonce."""
        count = await self.rpc.transaction_count(self.address, "latest")
        if count > sent.nonce:
            # Mined; a node that does not show the receipt yet lags, unless it was another transaction.
            await self._raise_if_taken(sent)
            return sent
        now = time.monotonic()
        for earlier in self.outbox.sent:
            if count <= earlier.nonce < sent.nonce and earlier.seen:
                # Taken out of its block by a reorganisation, and nobody follows it any more. Without it ours cannot be
                # mined, whatever is offered.
                await self._push(earlier, troubles.setdefault(earlier.nonce, _Trouble(now, earlier.first_block)))
                troubles[sent.nonce].since = now
        return await self._push(sent, troubles[sent.nonce])

    async def _push(self, sent: Sent, trouble: "_Trouble") -> Sent:
        """What a transaction that is not mined needs: nothing, to be sent again, or to be replaced."""
        newest = sent.versions[-1]
        price, _ = await self.price()
        trouble.price = price if price.total > self.cap_wei else None
        is_known = any([await self.rpc.knows(transaction_hash) for transaction_hash in sent.hashes])
        head = await self.rpc.block_number()
        # Where no block came, no offer is high enough; where it was dropped for its price, no wait is long enough.
        is_stuck = time.monotonic() >= trouble.since + self.patience_seconds and head > trouble.head
        is_too_low = not is_known and price.base_fee > newest.fees.max_fee
        fees = replacement_fees(newest.fees, price, self.cap_wei) if is_stuck or is_too_low else None
        if fees is not None:
            sent, raw = self._sign(sent, fees)
            log.warning("transaction 0x%s is not mined; offering %d wei per gas", newest.hash.hex(), fees.max_fee)
            trouble.since, trouble.head = time.monotonic(), head
        elif not is_known:
            before, raw = self._sign(replace(sent, versions=sent.versions[:-1]), newest.fees)
            log.log(
                logging.DEBUG if trouble.was_dropped else logging.WARNING,
                "transaction 0x%s was dropped; sending it again",
                newest.hash.hex(),
            )
            trouble.was_dropped = True
            if before.versions[-1] != newest:  # a signature made elsewhere may differ in its bytes: watch both
                sent = sent.with_version(before.versions[-1])
        else:
            return sent
        self.outbox.put(sent)
        await self._send_again(raw)
        return sent

    async def _send_again(self, raw: bytes) -> None:
        try:
            await self.rpc.send_raw(raw)
        except ChainUnreachable:
            raise
        except ChainError as error:
            log.info("%s", error)  # mined meanwhile, or not wanted at this price: the next look tells

    async def _raise_if_taken(self, sent: Sent) -> None:
        """Raises NonceTaken if a confirmed block holds another transaction with this nonce."""
        newest = await self.rpc.block_number()
        high = newest - self.confirmations
        low = max(-1, min(sent.first_block, high - 1) - _LAG_BLOCKS)
        if high < 0 or await self.rpc.transaction_count(self.address, high) <= sent.nonce:
            return
        while high - low > 1:  # not used up to `low`, used up to `high`
            middle = (low + high) // 2
            if await self.rpc.transaction_count(self.address, middle) > sent.nonce:
                high = middle
            else:
                low = middle
        for transaction in await self.rpc.transactions(high):
            if (transaction.sender, transaction.nonce) == (self.address, sent.nonce):
                if transaction.hash not in sent.hashes:
                    raise NonceTaken(self.address, sent.nonce, transaction.hash)
                return

    def is_ours(self, transaction_hash: bytes) -> bool:
        return transaction_hash in self._ours


@dataclass
class _Trouble:
    """Why a transaction is not mined: when it was last sent, the newest block then, a price above the cap."""

    since: float
    head: int
    price: Price | None = None
    was_dropped: bool = False
