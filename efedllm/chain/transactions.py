"""Sends transactions: one at a time per key, each followed until its fate is known."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, cast

from eth_account.signers.local import LocalAccount
from eth_typing import HexStr
from web3.types import TxParams, TxReceipt

from efedllm.chain.binding import Call
from efedllm.chain.errors import ChainError, ChainUnreachable, NotMined, OutOfGasMoney, Reverted
from efedllm.chain.events import Event, decode_log
from efedllm.chain.rpc import Rpc

log = logging.getLogger(__name__)

_GAS_MARGIN_PERCENT = 25  # state may change between the estimate and the block
_SEND_ATTEMPTS = 5
# Dense at first, for chains with short blocks; the last one repeats.
_POLL_SECONDS = (0.02, 0.05, 0.1, *[0.2] * 20, 1.0)


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
    """Sends for one key. Concurrent `send`s queue up; a revert is found before anything is sent, where possible."""

    def __init__(
        self,
        rpc: Rpc,
        chain_id: int,
        account: LocalAccount | UnlockedAccount,
        contracts: Mapping[str, str],
        timeout_seconds: float = 180,
    ) -> None:
        """`contracts` names (abi.CONTRACTS) by address: those whose events receipts are to hold."""
        self.rpc = rpc
        self.chain_id = chain_id
        self.contracts = contracts
        self.account = account
        self.address: str = account.address
        self.timeout_seconds = timeout_seconds
        self._next_nonce = 0  # one behind the last transaction of ours that a node took
        self._sent: deque[bytes] = deque(maxlen=256)  # far more than any node lags behind
        self._turn = asyncio.Lock()

    async def send(self, call: Call) -> Receipt:
        """Send `call` and wait until it is mined.

        Raises Reverted with the contract's error, OutOfGasMoney, NotMined after `timeout_seconds`, ChainUnreachable if
        nothing was sent yet, ChainError for anything else that the node refuses.
        """
        return (await self.send_all([call]))[0]

    async def send_all(self, calls: Sequence[Call]) -> list[Receipt]:
        """Like `send` for several calls that do not build on each other: they may share a block.

        The first failure is raised; calls after a refused one are not sent, those before it take effect.
        """
        async with self._turn:
            deadline = time.monotonic() + self.timeout_seconds
            sent = []
            for call in calls:
                transaction = await self._prepare(call)
                sent.append((call, transaction, await self._broadcast(transaction, deadline)))
            mined = [(call, transaction, await self._wait(found, deadline)) for call, transaction, found in sent]
        for call, transaction, receipt in mined:
            if receipt["status"] != 1:
                raise await self._why(transaction, receipt, call)
        return [self._result(receipt) for _, _, receipt in mined]

    async def _prepare(self, call: Call) -> dict[str, Any]:
        """The transaction without nonce: gas from an estimate, fees that outlast several full blocks."""
        transaction: dict[str, Any] = {
            "from": self.address,
            "data": HexStr("0x" + call.data.hex()),
            "value": call.value_wei,
            "chainId": self.chain_id,
        }
        if call.to is not None:
            transaction["to"] = call.to
        try:
            gas = await self.rpc.estimate_gas(cast(TxParams, transaction))
        except (Reverted, ChainUnreachable):
            raise
        except ChainError as error:
            await self._raise_if_broke(1, error)
            raise
        transaction["gas"] = gas * (100 + _GAS_MARGIN_PERCENT) // 100
        base_fee = (await self.rpc.block()).base_fee_wei
        if base_fee is None:
            transaction["gasPrice"] = await self.rpc.gas_price()
        else:
            tip = await self.rpc.priority_fee()
            transaction |= {"maxPriorityFeePerGas": tip, "maxFeePerGas": 2 * base_fee + tip, "type": 2}
        return transaction

    async def _broadcast(self, transaction: dict[str, Any], deadline: float) -> bytes:
        """Hash of the transaction once a node has it.

        The node's count is believed first, so that transactions lost in a reorganisation leave no gap. When it is
        refused, facts decide and not the wording of the refusal: the node may have the transaction already; another
        program may have used the nonce; the node may lag behind what was mined from here.
        """
        if isinstance(self.account, UnlockedAccount):
            return await self.rpc.send_unlocked(cast(TxParams, transaction))
        nonce = await self.rpc.transaction_count(self.address)
        attempts = _SEND_ATTEMPTS
        while True:
            signed = self.account.sign_transaction(transaction | {"nonce": nonce})
            if signed.hash in self._sent:
                # Same nonce, same content: a node that lags would show us the earlier one as if it were this one.
                transaction["gas"] += 1
                continue
            try:
                await self._send_until_answered(bytes(signed.raw_transaction), bytes(signed.hash), deadline)
            except NotMined:
                raise
            except ChainError as error:
                attempts -= 1
                count = max(await self.rpc.transaction_count(self.address), self._next_nonce)
                if count == nonce or not attempts:
                    price = transaction.get("maxFeePerGas", transaction.get("gasPrice", 0))
                    await self._raise_if_broke(transaction["gas"] * price + transaction["value"], error)
                    raise
                log.info("nonce %d of %s was taken, using %d", nonce, self.address, count)
                nonce = count
            else:
                self._next_nonce = nonce + 1
                self._sent.append(bytes(signed.hash))
                return bytes(signed.hash)

    async def _send_until_answered(self, raw: bytes, transaction_hash: bytes, deadline: float) -> None:
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
                if time.monotonic() >= deadline:
                    raise NotMined("0x" + transaction_hash.hex(), self.timeout_seconds) from error
            await asyncio.sleep(_POLL_SECONDS[-1])

    async def _wait(self, transaction_hash: bytes, deadline: float) -> TxReceipt:
        """Its receipt. The chain may be out of reach for a while; only the deadline ends the wait."""
        is_down = False
        for pause in chain(_POLL_SECONDS, repeat(_POLL_SECONDS[-1])):
            try:
                if (receipt := await self.rpc.receipt(transaction_hash)) is not None:
                    return receipt
            except ChainUnreachable as error:
                log.log(logging.DEBUG if is_down else logging.WARNING, "%s; waiting", error)
                is_down = True
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(pause)
        raise NotMined("0x" + transaction_hash.hex(), self.timeout_seconds)

    async def _why(self, transaction: dict[str, Any], receipt: TxReceipt, call: Call) -> Reverted:
        """Why a mined transaction failed, by running it again on the block's state; that may be past the reason."""
        if call.to is not None:
            try:
                await self.rpc.call(call.to, call.data, receipt["blockNumber"], self.address)
            except Reverted as error:
                return error
        return Reverted(
            f"{call.label} failed in transaction 0x{bytes(receipt['transactionHash']).hex()} after using"
            f" {receipt['gasUsed']} of {transaction['gas']} gas: try again"
        )

    async def _raise_if_broke(self, needed_wei: int, cause: ChainError) -> None:
        if await self.rpc.balance(self.address) < needed_wei:
            raise OutOfGasMoney(self.address) from cause

    def _result(self, receipt: TxReceipt) -> Receipt:
        names = self.contracts
        decoded = [decode_log(names[entry["address"]], entry) for entry in receipt["logs"] if entry["address"] in names]
        return Receipt(
            transaction_hash=bytes(receipt["transactionHash"]),
            block_number=receipt["blockNumber"],
            gas_used=receipt["gasUsed"],
            fee_wei=receipt["gasUsed"] * receipt["effectiveGasPrice"],
            contract_address=receipt["contractAddress"],
            events=tuple(event for event in decoded if event is not None),
        )
