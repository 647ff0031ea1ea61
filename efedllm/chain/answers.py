"""What a node answers, read strictly: a value of the wrong kind is an error here and not a surprise elsewhere.

Everything raises ValueError, KeyError or TypeError for what is not as the JSON-RPC specification of Ethereum says.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

from eth_utils.address import to_checksum_address

T = TypeVar("T")

_QUANTITY = re.compile("0x[0-9a-fA-F]{1,64}", re.ASCII)
_DATA = re.compile("0x(?:[0-9a-fA-F]{2})*", re.ASCII)


class Log(TypedDict):
    """An entry of `eth_getLogs` or of a receipt."""

    address: str
    topics: list[bytes]
    data: bytes
    blockNumber: int
    blockHash: bytes
    transactionHash: bytes
    logIndex: int


@dataclass(frozen=True)
class Block:
    """Header of a block; `timestamp` is unix seconds, `base_fee_wei` None on chains without EIP-1559."""

    number: int
    hash: bytes
    parent: bytes
    timestamp: int
    base_fee_wei: int | None


@dataclass(frozen=True)
class Mined:
    """A transaction's place in the chain and what came of it; `status` is 1 unless it was reverted. Fees in wei."""

    transaction_hash: bytes
    block_number: int
    status: int
    gas_used: int
    gas_price_wei: int
    contract_address: str | None
    logs: tuple[Log, ...]


@dataclass(frozen=True)
class Transaction:
    """Who sent what is in a block; `to` is None where a contract is created by `data`."""

    hash: bytes
    sender: str
    nonce: int
    to: str | None
    data: bytes


def quantity(value: object) -> int:
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise ValueError("not a quantity")
    return int(value, 16)


def data(value: object, size: int | None = None) -> bytes:
    """Bytes, exactly `size` of them where it is given."""
    if not isinstance(value, str) or not _DATA.fullmatch(value):
        raise ValueError("not data")
    content = bytes.fromhex(value[2:])
    if size is not None and len(content) != size:
        raise ValueError("not so many bytes")
    return content


def hash32(value: object) -> bytes:
    return data(value, 32)


def address(value: object) -> str:
    """With checksum."""
    return to_checksum_address(data(value, 20))


def optional(parse: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """The same for values that may be null."""
    return lambda value: None if value is None else parse(value)


def sequence(parse: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    def parse_all(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise TypeError("not a list")
        return tuple(parse(item) for item in value)

    return parse_all


def block(value: Mapping[str, Any]) -> Block:
    return Block(
        number=quantity(value["number"]),
        hash=hash32(value["hash"]),
        parent=hash32(value["parentHash"]),
        timestamp=quantity(value["timestamp"]),
        base_fee_wei=optional(quantity)(value.get("baseFeePerGas")),
    )


def log(value: Mapping[str, Any]) -> Log:
    return Log(
        address=address(value["address"]),
        topics=list(sequence(hash32)(value["topics"])),
        data=data(value["data"]),
        blockNumber=quantity(value["blockNumber"]),
        blockHash=hash32(value["blockHash"]),
        transactionHash=hash32(value["transactionHash"]),
        logIndex=quantity(value["logIndex"]),
    )


def mined(value: Mapping[str, Any]) -> Mined:
    return Mined(
        transaction_hash=hash32(value["transactionHash"]),
        block_number=quantity(value["blockNumber"]),
        status=quantity(value["status"]),
        gas_used=quantity(value["gasUsed"]),
        gas_price_wei=quantity(value["effectiveGasPrice"]),
        contract_address=optional(address)(value["contractAddress"]),
        logs=sequence(log)(value["logs"]),
    )


def transactions(value: Mapping[str, Any]) -> Sequence[Transaction]:
    """Those of a block that was asked for with all of them."""
    return sequence(_transaction)(value["transactions"])


def _transaction(value: Mapping[str, Any]) -> Transaction:
    return Transaction(
        hash=hash32(value["hash"]),
        sender=address(value["from"]),
        nonce=quantity(value["nonce"]),
        to=optional(address)(value.get("to")),
        data=data(value["input"]),
    )


def known(value: object) -> bool:
    """Whether there is a transaction."""
    if value is not None and not isinstance(value, dict):
        raise TypeError("not a transaction")
    return value is not None


def revert_data(value: object) -> bytes:
    """What a contract returned when it refused, from the `data` of an error; nodes wrap it differently."""
    if isinstance(value, dict):
        value = value.get("data")
    if not isinstance(value, str):
        return b""
    found = value.removeprefix("Reverted ")
    return bytes.fromhex(found[2:]) if _DATA.fullmatch(found) else b""
