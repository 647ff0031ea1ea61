"""The JSON-RPC endpoint: what we ask a node, with errors that a person can act on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

from aiohttp import ClientError, ClientTimeout
from eth_typing import HexStr
from hexbytes import HexBytes
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.exceptions import (
    BadResponseFormat,
    BlockNotFound,
    ContractLogicError,
    MethodUnavailable,
    TransactionNotFound,
    Web3RPCError,
    Web3ValueError,
)
from web3.types import LogReceipt, RPCEndpoint, TxParams, TxReceipt

from efedllm.chain.errors import ChainError, ChainUnreachable, UnknownBlock
from efedllm.chain.reverts import explain
from efedllm.options import DEFAULT_RPC

BlockId = int | str  # a number, or "latest"


@dataclass(frozen=True)
class Block:
    """Header of a block; `timestamp` is unix seconds, `base_fee_wei` None on chains without EIP-1559."""

    number: int
    hash: bytes
    parent: bytes
    timestamp: int
    base_fee_wei: int | None


class Rpc:
    """One endpoint over HTTP. Every method raises ChainUnreachable when there is no answer, ChainError for a refusal.

    Nothing is retried here: who asks knows how long an answer is worth waiting for.
    """

    def __init__(self, url: str = DEFAULT_RPC, timeout_seconds: float = 30) -> None:
        self.url = url
        provider = AsyncHTTPProvider(
            url,
            request_kwargs={"timeout": ClientTimeout(total=timeout_seconds)},
            exception_retry_configuration=None,
        )
        # Without middleware nothing happens behind our back: no extra requests, no filled-in fields.
        self._w3: AsyncWeb3[AsyncHTTPProvider] = AsyncWeb3(provider, middleware=[])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._w3.provider.disconnect()

    async def chain_id(self) -> int:
        with self._answers():
            return await self._w3.eth.chain_id

    async def block_number(self) -> int:
        with self._answers():
            return await self._w3.eth.get_block_number()

    async def block(self, block: BlockId = "latest") -> Block:
        """Raises UnknownBlock if there is no such block (yet)."""
        with self._answers():
            found = await self._w3.eth.get_block(cast(Any, block))
        return Block(
            number=found["number"],
            hash=bytes(found["hash"]),
            parent=bytes(found["parentHash"]),
            timestamp=found["timestamp"],
            base_fee_wei=found.get("baseFeePerGas"),
        )

    async def balance(self, address: str, block: BlockId = "latest") -> int:
        """The chain's own coin, in wei."""
        with self._answers():
            return await self._w3.eth.get_balance(cast(Any, address), cast(Any, block))

    async def code(self, address: str) -> bytes:
        with self._answers():
            return bytes(await self._w3.eth.get_code(cast(Any, address)))

    async def call(self, to: str, data: bytes, block: BlockId = "latest", sender: str | None = None) -> bytes:
        """Raises Reverted if the contract refuses."""
        parameters: dict[str, Any] = {"to": to, "data": HexStr("0x" + data.hex())}
        if sender is not None:
            parameters["from"] = sender
        with self._answers():
            return bytes(await self._w3.eth.call(cast(TxParams, parameters), cast(Any, block), ccip_read_enabled=False))

    async def estimate_gas(self, transaction: TxParams) -> int:
        """Raises Reverted if the transaction would be refused."""
        with self._answers():
            return await self._w3.eth.estimate_gas(transaction)

    async def transaction_count(self, address: str) -> int:
        """The next nonce of `address`, with what waits in the node's pool."""
        with self._answers():
            return await self._w3.eth.get_transaction_count(cast(Any, address), "pending")

    async def priority_fee(self) -> int:
        """What the node thinks a timely block wants on top of the base fee, in wei per gas; 0 if it has no opinion."""
        with self._answers():
            try:
                return int(await self._w3.manager.coro_request(RPCEndpoint("eth_maxPriorityFeePerGas"), []), 16)
            except MethodUnavailable:
                return 0

    async def gas_price(self) -> int:
        with self._answers():
            return await self._w3.eth.gas_price

    async def send_raw(self, raw: bytes) -> bytes:
        with self._answers():
            return bytes(await self._w3.eth.send_raw_transaction(HexBytes(raw)))

    async def accounts(self) -> tuple[str, ...]:
        """Accounts whose keys the node holds; none on any real network."""
        with self._answers():
            return tuple(await self._w3.eth.accounts)

    async def send_unlocked(self, transaction: TxParams) -> bytes:
        """Let the node sign with an account of its own; only local chains have any."""
        with self._answers():
            return bytes(await self._w3.eth.send_transaction(transaction))

    async def receipt(self, transaction_hash: bytes) -> TxReceipt | None:
        with self._answers():
            try:
                return await self._w3.eth.get_transaction_receipt(HexBytes(transaction_hash))
            except TransactionNotFound:
                return None

    async def knows(self, transaction_hash: bytes) -> bool:
        """Whether the transaction is mined or waits in the node's pool."""
        with self._answers():
            try:
                await self._w3.eth.get_transaction(HexBytes(transaction_hash))
            except TransactionNotFound:
                return False
            return True

    async def logs(self, addresses: Sequence[str], first: int, last: int) -> list[LogReceipt]:
        """Logs of the contracts in blocks `first` to `last`, both included."""
        with self._answers():
            return await self._w3.eth.get_logs(
                cast(Any, {"address": list(addresses), "fromBlock": hex(first), "toBlock": hex(last)})
            )

    @contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except ContractLogicError as error:
            data = error.data if isinstance(error.data, str) and error.data.startswith("0x") else "0x"
            raise explain(bytes.fromhex(data[2:]), error.message or "") from error
        except BlockNotFound as error:
            raise UnknownBlock(f"the chain at {self.url} does not know that block: {error}") from error
        except Web3RPCError as error:
            raise ChainError(f"the chain at {self.url} refused: {_reason(error)}") from error
        except (ClientError, TimeoutError, OSError) as error:
            raise ChainUnreachable(self.url, str(error) or type(error).__name__) from error
        except (BadResponseFormat, Web3ValueError, ValueError) as error:
            raise ChainUnreachable(self.url, "it does not speak JSON-RPC") from error


def _reason(error: Web3RPCError) -> str:
    """The node's own words, without the envelope."""
    detail = (error.rpc_response or {}).get("error")
    if isinstance(detail, dict) and isinstance(detail.get("message"), str):
        return str(detail["message"])
    return str(error.message)
