"""Sends transactions: one at a time per key, each followed until its fate is known.

What a program sends depends on what it knows, so nothing is sent while a transaction of the same key has an unknown
fate: the outbox on disk tells of those that an earlier process left behind, the node of those that came from elsewhere.
They are settled first, and the caller is told to look again (EarlierTransaction). So a program that is killed between
sending and seeing the result neither does the same twice nor loses it. That matters for `fund`, `stake`,
`requestUnbond` and plain transfers, which add up; every other call of ours fails or changes nothing the second time:
`claim` since totals are cumulative, `release`, `requestClose`, `finishClose` and withdrawals since the money is gone
from its place, `approve`, `updateService` and `rotateHotKey` since they set values, `register` and `recordBeacon` since
they happen once.
"""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from eth_account.signers.local import LocalAccount

from efedllm.chain.answers import Mined
from efedllm.chain.binding import Call
from efedllm.chain.courier import Courier, Deadline, pauses
from efedllm.chain.errors import (
    ChainError,
    ChainUnreachable,
    EarlierTransaction,
    NonceTaken,
    NotMined,
    Reverted,
    TransactionError,
    WrongChain,
)
from efedllm.chain.events import Event, decode_log
from efedllm.chain.outbox import Outbox, Sent
from efedllm.chain.rpc import Rpc
from efedllm.options import DEFAULT_MAX_GAS_PRICE
from efedllm.storage.state import state_dir

log = logging.getLogger(__name__)

_GAS_MARGIN_PERCENT = 25  # state may change between the estimate and the block
_TRIES = 3  # of one call, where an earlier transaction of this process had its nonce


@dataclass(frozen=True)
class UnlockedAccount:
    """An account whose key the node holds: the development accounts of a local chain."""

    address: str


@dataclass(frozen=True)
class Receipt:
    """A transaction that took effect, with the events of our contracts in it. Fees in wei."""

    transaction_hash: bytes
    block_number: int
    gas_used: int
    fee_wei: int
    contract_address: str | None
    events: tuple[Event, ...]


class Sender:
    """Sends for one key. Concurrent `send`s queue up; a revert is found before anything is sent, where possible.

    From its first send until `close` (or as a context manager) no other process can send with the key.
    """

    def __init__(
        self,
        rpc: Rpc,
        chain_id: int,
        account: LocalAccount | UnlockedAccount,
        contracts: Mapping[str, str],
        timeout_seconds: float = 180,
        max_fee_wei: int = DEFAULT_MAX_GAS_PRICE,
        patience_seconds: float = 30,
        confirmations: int = 0,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`contracts` names (abi.CONTRACTS) by address: those whose events receipts are to hold.

        `max_fee_wei` per gas is the most that is ever offered; what is not mined after `patience_seconds` is offered
        for more. Transactions are remembered until `confirmations` blocks stand on theirs.
        """
        self.rpc = rpc
        self.chain_id = chain_id
        self.contracts = contracts
        self.account = account
        self.address: str = account.address
        self.timeout_seconds = timeout_seconds
        self.max_fee_wei = max_fee_wei
        self.patience_seconds = patience_seconds
        self.confirmations = confirmations
        self._folder: Path = state_dir(environ)
        self._courier: Courier | None = None
        self._turn = asyncio.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Others may send with the key now; may be called twice, and sending afterwards takes the key again."""
        if self._courier is not None:
            self._courier.outbox.close()
            self._courier = None

    async def send(self, call: Call) -> Receipt:
        """Send `call` and wait until it is mined.

        Raises Reverted with the contract's error, OutOfGasMoney, EarlierTransaction, NonceTaken, KeyInUse, OutboxError,
        NotMined or GasTooDear after `timeout_seconds`, ChainUnreachable if nothing was sent yet, ChainError for
        anything else that the node refuses. Whatever is raised, the next send first settles what this one left.
        """
        return (await self.send_all([call]))[0]

    async def send_all(self, calls: Sequence[Call]) -> list[Receipt]:
        """Like `send` for several calls that do not build on each other: they may share a block.

        The first failure is raised; calls after a refused one are not sent, those before it take effect.
        """
        async with self._turn:
            deadline = Deadline.after(self.timeout_seconds)
            if isinstance(self.account, UnlockedAccount):
                mined = await self._send_unlocked(calls, deadline)
            else:
                courier = await self._take_key(self.account)
                if found := await self._settle(courier, deadline):
                    raise EarlierTransaction(self.address, found)
                mined = await self._deliver(courier, calls, deadline)
        for call, receipt in zip(calls, mined, strict=True):
            if receipt.status != 1:
                raise await self._why(receipt, call)
        return [self._result(receipt) for receipt in mined]

    async def settle(self) -> bool:
        """Wait until nothing that was sent with the key has an unknown fate; whether there was anything.

        For programs that start: what they read after this is not about to change by their own doing. Raises NotMined
        or GasTooDear after `timeout_seconds`, KeyInUse, OutboxError, ChainError.
        """
        if isinstance(self.account, UnlockedAccount):
            return False
        async with self._turn:
            courier = await self._take_key(self.account)
            return bool(await self._settle(courier, Deadline.after(self.timeout_seconds)))

    # what is under way

    async def _take_key(self, account: LocalAccount) -> Courier:
        await self.rpc.check()
        if self._courier is None:
            outbox = Outbox.open(self._folder, await self.rpc.identity(), self.address)
            self._courier = Courier(
                rpc=self.rpc,
                chain_id=self.chain_id,
                account=account,
                outbox=outbox,
                cap_wei=self.max_fee_wei,
                patience_seconds=self.patience_seconds,
                confirmations=self.confirmations,
            )
        return self._courier

    async def _settle(self, courier: Courier, deadline: Deadline) -> str:
        """Follow what has an unknown fate to its end; says what it was, empty if there was nothing."""
        found = []
        outbox = courier.outbox
        final = await self.rpc.block_number() - self.confirmations
        for sent in outbox.sent:
            if sent.seen and (block := await self._block_of(sent)) is not None:
                if block <= final:
                    outbox.drop([sent.nonce])
                continue
            try:
                mined = await courier.follow(sent, deadline)
            except NonceTaken as error:
                log.warning("%s", error)
                outbox.drop([sent.nonce])
            else:
                log.warning("%s of an earlier time is in block %d", sent.label, mined.block_number)
                self._saw(courier, sent)
            found.append(sent.label)
        return ", ".join(found) or await self._settle_unknown(courier, deadline)

    async def _block_of(self, sent: Sent) -> int | None:
        for transaction_hash in sent.hashes:
            if (mined := await self.rpc.receipt(transaction_hash)) is not None:
                return mined.block_number
        return None

    async def _settle_unknown(self, courier: Courier, deadline: Deadline) -> str:
        """The same for transactions of the key that came from elsewhere and wait in the node's pool."""
        known = max([courier.next_nonce, *(sent.nonce + 1 for sent in courier.outbox.sent)])
        mined, waiting = await self._counts()
        if waiting <= mined:
            return ""
        if waiting > known:
            log.warning("a transaction of %s that is not known here waits in the pool; waiting", self.address)
        for pause in pauses():
            await asyncio.sleep(pause)
            mined, waiting = await self._counts()
            if waiting <= mined:
                break
            if deadline.is_over:
                raise ChainError(
                    f"a transaction of {self.address} from another program or machine waits in the pool:"
                    " nothing is sent before it is mined or dropped, so use the key in one place only"
                )
        # Below `known` it was one of ours, which a node that lags still counted as waiting.
        return "a transaction that another program or machine sent" if mined > known else ""

    async def _counts(self) -> tuple[int, int]:
        """Transactions of the key that are mined, and those with what waits."""
        mined = await self.rpc.transaction_count(self.address, "latest")
        return mined, await self.rpc.transaction_count(self.address)

    def _saw(self, courier: Courier, sent: Sent) -> None:
        if self.confirmations == 0:
            courier.outbox.drop([sent.nonce])
        else:
            newest = next((one for one in courier.outbox.sent if one.nonce == sent.nonce), sent)
            courier.outbox.put(newest.as_seen())

    # sending

    async def _deliver(self, courier: Courier, calls: Sequence[Call], deadline: Deadline) -> list[Mined]:
        under_way: list[Sent] = []
        try:
            for call in calls:
                under_way.append(await self._post(courier, call, under_way, deadline))
        except ChainError:
            for sent in under_way:
                try:
                    await courier.follow(sent, deadline)
                except TransactionError as error:
                    log.warning("%s", error)  # the next send settles it
                else:
                    self._saw(courier, sent)
            raise
        return [await self._follow(courier, sent, call, deadline) for sent, call in zip(under_way, calls, strict=True)]

    async def _post(self, courier: Courier, call: Call, before: Sequence[Sent], deadline: Deadline) -> Sent:
        lowest = before[-1].nonce + 1 if before else 0
        return await courier.post(await self._draft(courier, call), lowest, deadline)

    async def _follow(self, courier: Courier, sent: Sent, call: Call, deadline: Deadline) -> Mined:
        for _ in range(_TRIES):
            try:
                mined = await courier.follow(sent, deadline)
            except NonceTaken as error:
                courier.outbox.drop([sent.nonce])
                if not courier.is_ours(error.transaction_hash):
                    raise
                # A node that lagged let us use the nonce of an earlier one of ours: this one cannot be mined any more.
                sent = await self._post(courier, call, (), deadline)
            else:
                self._saw(courier, sent)
                return mined
        raise NotMined("0x" + sent.hashes[0].hex(), self.timeout_seconds)

    async def _draft(self, courier: Courier, call: Call) -> Sent:
        """The transaction without nonce and fees."""
        newest = await self.rpc.block_number()
        try:
            gas = await self.rpc.estimate_gas(self._fields(call))
        except (Reverted, ChainUnreachable, WrongChain):
            raise
        except ChainError as error:
            await courier.raise_if_broke(1, error)
            raise
        return Sent(
            nonce=0,
            label=call.label,
            to=call.to,
            data=call.data,
            value=call.value_wei,
            gas=gas * (100 + _GAS_MARGIN_PERCENT) // 100,
            is_legacy=False,
            first_block=newest,
        )

    def _fields(self, call: Call) -> dict[str, Any]:
        fields: dict[str, Any] = {"from": self.address, "data": "0x" + call.data.hex(), "value": call.value_wei}
        return fields if call.to is None else fields | {"to": call.to}

    async def _send_unlocked(self, calls: Sequence[Call], deadline: Deadline) -> list[Mined]:
        """The node fills in nonce and fees, and signs; nobody else needs to know."""
        hashes = []
        for call in calls:
            fields = self._fields(call)
            gas = await self.rpc.estimate_gas(fields)
            with_gas = fields | {"gas": gas * (100 + _GAS_MARGIN_PERCENT) // 100}
            hashes.append(await self.rpc.send_unlocked(with_gas))
        return [await self._wait(transaction_hash, deadline) for transaction_hash in hashes]

    async def _wait(self, transaction_hash: bytes, deadline: Deadline) -> Mined:
        for pause in pauses():
            try:
                if (mined := await self.rpc.receipt(transaction_hash)) is not None:
                    return mined
            except ChainUnreachable as error:
                log.warning("%s; waiting", error)
            if deadline.is_over:
                break
            await asyncio.sleep(pause)
        raise NotMined("0x" + transaction_hash.hex(), deadline.seconds)

    # results

    async def _why(self, receipt: Mined, call: Call) -> Reverted:
        """Why a mined transaction failed, by running it again on the block's state; that may be past the reason."""
        if call.to is not None:
            try:
                await self.rpc.call(call.to, call.data, receipt.block_number, self.address)
            except Reverted as error:
                return error
        return Reverted(
            f"{call.label} failed in transaction 0x{receipt.transaction_hash.hex()} after using {receipt.gas_used} gas:"
            " try again"
        )

    def _result(self, receipt: Mined) -> Receipt:
        names = self.contracts
        decoded = [decode_log(names[entry["address"]], entry) for entry in receipt.logs if entry["address"] in names]
        return Receipt(
            transaction_hash=receipt.transaction_hash,
            block_number=receipt.block_number,
            gas_used=receipt.gas_used,
            fee_wei=receipt.gas_used * receipt.gas_price_wei,
            contract_address=receipt.contract_address,
            events=tuple(event for event in decoded if event is not None),
        )
