"""The JSON-RPC endpoint: what we ask a node, with errors that a person can act on."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from aiohttp import (
    ClientConnectionError,
    ClientError,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    TCPConnector,
)
from web3 import AsyncHTTPProvider
from web3.exceptions import BadResponseFormat, Web3Exception
from web3.types import RPCEndpoint, RPCResponse

from efedllm.chain import answers
from efedllm.chain.answers import Block, Log, Mined, Transaction
from efedllm.chain.errors import ChainError, ChainSlow, ChainUnreachable, UnknownBlock, WrongChain
from efedllm.chain.reverts import explain
from efedllm.options import DEFAULT_RPC
from efedllm.strict_json import parse_json

__all__ = ["Block", "BlockId", "Identity", "Log", "Rpc"]

BlockId = int | str  # a number, or "latest"
T = TypeVar("T")

_PAUSES = (0.1, 0.4)  # before a read is asked again, where the connection broke or the endpoint was busy
_BUSY = frozenset({429, 502, 503, 504})
_CHECK_SECONDS = 10.0
_NO_METHOD = -32601
_REVERTED = 3


@dataclass(frozen=True)
class Identity:
    """Which chain it is. The first block tells chains of one id apart, as a local one before and after a restart."""

    chain_id: int
    genesis: bytes


class _Refused(ChainError):
    """An error in the sense of JSON-RPC."""

    def __init__(self, url: str, code: object, reason: str) -> None:
        super().__init__(f"the chain at {url} refused: {reason}")
        self.code = code


class Provider(AsyncHTTPProvider):
    """Reads JSON strictly: a deep answer must not end the process. Has an HTTP session of its own: web3 guards the one
    that it shares with a lock which a question keeps that is given up at the wrong moment, and then nobody is answered.
    """

    def __init__(self, url: str, timeout: ClientTimeout) -> None:
        # Without web3's own retries and formatters nothing happens behind our back.
        super().__init__(url, exception_retry_configuration=None)
        self._timeout = timeout
        self._http: ClientSession | None = None

    async def disconnect(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:
        if self._http is None:
            # A connection each: one that the endpoint ends while it is idle would look like a lost answer.
            self._http = ClientSession(connector=TCPConnector(force_close=True), timeout=self._timeout)
        headers = self.get_request_headers()
        async with self._http.post(str(self.endpoint_uri), data=request_data, headers=headers) as answer:
            answer.raise_for_status()
            return await answer.read()

    @staticmethod
    def decode_rpc_response(raw_response: bytes) -> RPCResponse:
        """Raises ValueError."""
        return cast(RPCResponse, parse_json(raw_response))


class Rpc:
    """One endpoint over HTTP. Every method raises ChainUnreachable when there is no usable answer, ChainError for a
    refusal, WrongChain once another chain answers than the one to `expect`.

    Broken connections are tried again for half a second, and no answer takes longer than `timeout_seconds`; who wants
    to wait longer asks again.
    """

    def __init__(self, url: str = DEFAULT_RPC, timeout_seconds: float = 20) -> None:
        self.url = url
        self._provider = Provider(url, ClientTimeout(total=timeout_seconds))
        self._expected: Identity | None = None
        self._checked = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._provider.disconnect()

    # which chain

    async def identity(self) -> Identity:
        chain_id = await self._ask_unchecked("eth_chainId", [], answers.quantity)
        first = await self._ask_unchecked("eth_getBlockByNumber", ["0x0", False], answers.optional(answers.block))
        if first is None:
            raise ChainUnreachable(self.url, "it has no first block")
        return Identity(chain_id, first.hash)

    def expect(self, identity: Identity) -> None:
        """Believe only this chain from now on: checked now and then, and whenever the endpoint was out of reach."""
        self._expected, self._checked = identity, time.monotonic()

    async def check(self) -> None:
        """Raises WrongChain if the endpoint serves another chain than it should by now."""
        if self._expected is None:
            return
        found = await self.identity()
        if found.chain_id != self._expected.chain_id:
            raise WrongChain(
                f"{self.url} serves chain {found.chain_id} by now instead of {self._expected.chain_id}:"
                " start again with another --rpc"
            )
        if found != self._expected:
            raise WrongChain(
                f"{self.url} serves another chain of id {found.chain_id} than before:"
                " if it was restarted, run `efedllm deploy`, then start this program again"
            )
        self._checked = time.monotonic()

    # reading

    async def chain_id(self) -> int:
        return await self._ask("eth_chainId", [], answers.quantity)

    async def block_number(self) -> int:
        return await self._ask("eth_blockNumber", [], answers.quantity)

    async def block(self, block: BlockId = "latest") -> Block:
        """Raises UnknownBlock if there is no such block (yet)."""
        found = await self._ask("eth_getBlockByNumber", [_block(block), False], answers.optional(answers.block))
        if found is None:
            raise self._unknown(block)
        return found

    async def transactions(self, block: int) -> Sequence[Transaction]:
        """All transactions of a block. Raises UnknownBlock."""
        found = await self._ask("eth_getBlockByNumber", [_block(block), True], answers.optional(answers.transactions))
        if found is None:
            raise self._unknown(block)
        return found

    async def balance(self, address: str, block: BlockId = "latest") -> int:
        """The chain's own coin, in wei."""
        return await self._ask_at("eth_getBalance", [address], block, answers.quantity)

    async def code(self, address: str, block: BlockId = "latest") -> bytes:
        return await self._ask_at("eth_getCode", [address], block, answers.data)

    async def call(self, to: str, data: bytes, block: BlockId = "latest", sender: str | None = None) -> bytes:
        """Raises Reverted if the contract refuses."""
        parameters = {"to": to, "data": "0x" + data.hex()} | ({} if sender is None else {"from": sender})
        return await self._ask_at("eth_call", [parameters], block, answers.data)

    async def estimate_gas(self, transaction: Mapping[str, Any]) -> int:
        """Raises Reverted if the transaction would be refused."""
        return await self._ask("eth_estimateGas", [_plain(transaction), "latest"], answers.quantity)

    async def transaction_count(self, address: str, block: BlockId = "pending") -> int:
        """The next nonce of `address`: by default with what waits in the node's pool."""
        return await self._ask_at("eth_getTransactionCount", [address], block, answers.quantity)

    async def priority_fee(self) -> int:
        """What the node thinks a timely block wants on top of the base fee, in wei per gas; 0 if it has no opinion."""
        try:
            return await self._ask("eth_maxPriorityFeePerGas", [], answers.quantity)
        except _Refused as error:
            if error.code != _NO_METHOD:
                raise
            return 0

    async def gas_price(self) -> int:
        return await self._ask("eth_gasPrice", [], answers.quantity)

    async def accounts(self) -> tuple[str, ...]:
        """Accounts whose keys the node holds; none on any real network."""
        return await self._ask("eth_accounts", [], answers.sequence(answers.address))

    async def receipt(self, transaction_hash: bytes) -> Mined | None:
        parameters = ["0x" + transaction_hash.hex()]
        return await self._ask("eth_getTransactionReceipt", parameters, answers.optional(answers.mined))

    async def knows(self, transaction_hash: bytes) -> bool:
        """Whether the transaction is mined or waits in the node's pool."""
        return await self._ask("eth_getTransactionByHash", ["0x" + transaction_hash.hex()], answers.known)

    async def logs(self, addresses: Sequence[str], first: int, last: int) -> list[Log]:
        """Logs of the contracts in blocks `first` to `last`, both included. A node may not have all of them yet."""
        wanted = {"address": list(addresses), "fromBlock": hex(first), "toBlock": hex(last)}
        return list(await self._ask("eth_getLogs", [wanted], answers.sequence(answers.log)))

    async def logs_of(self, addresses: Sequence[str], block: Block) -> list[Log]:
        """Logs of the contracts in exactly this block. Raises UnknownBlock where a node does not give them (yet)."""
        wanted = {"address": list(addresses), "blockHash": "0x" + block.hash.hex()}
        try:
            return list(await self._ask("eth_getLogs", [wanted], answers.sequence(answers.log)))
        except _Refused as error:
            # Another node behind the same address may know the block, so asking for it would decide nothing.
            raise UnknownBlock(f"no logs of block {block.number}: {error}") from error

    # sending

    async def send_raw(self, raw: bytes) -> bytes:
        return await self._ask("eth_sendRawTransaction", ["0x" + raw.hex()], answers.hash32, is_read=False)

    async def send_unlocked(self, transaction: Mapping[str, Any]) -> bytes:
        """Let the node sign with an account of its own; only local chains have any."""
        return await self._ask("eth_sendTransaction", [_plain(transaction)], answers.hash32, is_read=False)

    # asking

    async def _ask_at(self, method: str, parameters: list[Any], block: BlockId, parse: Callable[[Any], T]) -> T:
        """Like `_ask`, about one block. What nodes say about a block they do not know differs, so the facts decide."""
        try:
            return await self._ask(method, [*parameters, _block(block)], parse)
        except _Refused as error:
            if not isinstance(block, int):
                raise
            try:
                await self.block(block)
            except UnknownBlock as unknown:
                raise unknown from error
        try:
            return await self._ask(method, [*parameters, _block(block)], parse)  # of a node that has it, hopefully
        except _Refused as error:
            # A node that was started anew has blocks without their states until it made or fetched later ones.
            raise UnknownBlock(f"the state after block {block} is not to be had, try again later: {error}") from error

    async def _ask(self, method: str, parameters: list[Any], parse: Callable[[Any], T], is_read: bool = True) -> T:
        if self._expected is not None and time.monotonic() >= self._checked + _CHECK_SECONDS:
            await self.check()
        try:
            return await self._ask_unchecked(method, parameters, parse, is_read)
        except ChainUnreachable:
            self._checked = float("-inf")  # who answers next may be another one
            raise

    async def _ask_unchecked(
        self, method: str, parameters: list[Any], parse: Callable[[Any], T], is_read: bool = True
    ) -> T:
        response = await self._post(method, parameters, _PAUSES if is_read else ())
        if not isinstance(response, dict):
            raise ChainUnreachable(self.url, "it does not speak JSON-RPC")
        if response.get("error") is not None:
            raise self._refusal(response["error"])
        try:
            return parse(response["result"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ChainUnreachable(self.url, f"its answer to {method} makes no sense") from error

    async def _post(self, method: str, parameters: list[Any], pauses: Sequence[float]) -> object:
        for pause in (*pauses, None):
            try:
                return await self._provider.make_request(cast(RPCEndpoint, method), parameters)
            except TimeoutError as error:
                raise ChainSlow(self.url, "no answer in time") from error
            except (ClientError, OSError) as error:
                is_worth_it = isinstance(error, ClientConnectionError)
                is_worth_it |= isinstance(error, ClientResponseError) and error.status in _BUSY
                if pause is None or not is_worth_it:
                    raise ChainUnreachable(self.url, str(error) or type(error).__name__) from error
                await asyncio.sleep(pause)
            except (BadResponseFormat, Web3Exception, ValueError) as error:
                raise ChainUnreachable(self.url, "it does not speak JSON-RPC") from error
        raise AssertionError("the last attempt returns or raises")

    def _refusal(self, error: object) -> ChainError:
        """The node's own words without the envelope, or a contract's explained."""
        fields = error if isinstance(error, dict) else {}
        message = fields.get("message")
        if not isinstance(message, str):
            return ChainUnreachable(self.url, "it refuses without a reason")
        message = " ".join(message.split())
        if fields.get("code") == _REVERTED or "revert" in message.lower():
            return explain(answers.revert_data(fields.get("data")), message)
        return _Refused(self.url, fields.get("code"), message)

    def _unknown(self, block: BlockId) -> UnknownBlock:
        return UnknownBlock(f"the chain at {self.url} does not know block {block}: it may be behind, try again")


def _block(block: BlockId) -> str:
    return hex(block) if isinstance(block, int) else block


def _plain(transaction: Mapping[str, Any]) -> dict[str, Any]:
    return {name: hex(value) if isinstance(value, int) else value for name, value in transaction.items()}
