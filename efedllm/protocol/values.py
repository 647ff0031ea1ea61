"""Field types of signed objects: declared once, used for validation, EIP-712 hashing and the wire."""

import types
import typing
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, Self

from eth_utils.address import is_address, to_checksum_address

from efedllm.protocol.errors import ProtocolError, shown

ZERO_ADDRESS = "0x" + "00" * 20
ZERO_HASH = bytes(32)
MAX_ENTRIES = 64
"""Of a list on the wire: no path and no list of stop ids is longer, and looking at more takes time."""


def abi(kind: str) -> Any:
    """A dataclass field of Solidity type `kind`: uintN, address, bytes32, uint32[], or the name of a nested struct
    (with [] for a list)."""
    return field(metadata={"abi": kind})


@lru_cache(1024)
def _checksummed(text: str) -> str | None:
    """The same few addresses are in thousands of receipts."""
    return to_checksum_address(text) if is_address(text) else None


def _check(owner: str, name: str, kind: str, value: object) -> object:
    where = f"{owner}.{name}"
    if kind.endswith("[]"):
        if not isinstance(value, tuple | list):
            raise ProtocolError(f"{where}: expected a list, got {type(value).__name__}")
        return tuple(_check(owner, f"{name}[{at}]", kind[:-2], item) for at, item in enumerate(value))
    if kind.startswith("uint"):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ProtocolError(f"{where}: expected an integer, got {type(value).__name__}")
        if not 0 <= value < 1 << int(kind[4:]):
            raise ProtocolError(f"{where}: {value} does not fit {kind}")
        return value
    if kind == "bytes32":
        if not isinstance(value, bytes) or len(value) != 32:
            raise ProtocolError(f"{where}: expected 32 bytes")
        return value
    if kind == "address":
        if not isinstance(value, str) or len(value) > 42 or (address := _checksummed(value)) is None:
            raise ProtocolError(f"{where}: expected an address")
        return address
    if not isinstance(value, Struct):
        raise ProtocolError(f"{where}: expected a {kind}")
    return value


@dataclass(frozen=True)
class Struct:
    """Base of all signed objects: immutable, and valid as soon as it exists. Raises ProtocolError naming the field."""

    def __post_init__(self) -> None:
        for item in fields(self):
            kind = item.metadata["abi"]
            object.__setattr__(
                self,
                item.name,
                _check(type(self).__name__, item.name, kind, getattr(self, item.name)),
            )

    def to_wire(self) -> dict[str, Any]:
        """Plain map for msgpack or JSON stores: integers above 64 bits become decimal strings."""
        return {item.name: _to_wire(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_wire(cls, data: object) -> Self:
        """Strict inverse of `to_wire`: missing or unknown fields, and other forms of the same values, are refused."""
        if not isinstance(data, dict):
            raise ProtocolError(f"{cls.__name__}: expected a map")
        known = [item.name for item in fields(cls)]
        if unknown := sorted(str(name) for name in data.keys() - set(known)):
            raise ProtocolError(f"{cls.__name__}: unknown field {shown(unknown[0])}")
        if missing := sorted(name for name in known if name not in data):
            raise ProtocolError(f"{cls.__name__}: missing field {missing[0]}")
        if list(data) != known:
            raise ProtocolError(f"{cls.__name__}: fields are not in the order {', '.join(known)}")
        hints = _hints(cls)
        made = cls(**{name: _from_wire(f"{cls.__name__}.{name}", hints[name], value) for name, value in data.items()})
        for name, value in made.to_wire().items():
            if value != data[name]:
                raise ProtocolError(f"{cls.__name__}.{name}: not as it is written on the wire")
        return made


_HINTS: dict[str, dict[str, Any]] = {}


def _hints(kind: type[Struct]) -> dict[str, Any]:
    """By name: looking annotations up takes longer than all the rest."""
    if kind.__name__ not in _HINTS:
        _HINTS[kind.__name__] = typing.get_type_hints(kind)
    return _HINTS[kind.__name__]


def _to_wire(value: object) -> object:
    if isinstance(value, Struct):
        return value.to_wire()
    if isinstance(value, tuple):
        return [_to_wire(item) for item in value]
    if isinstance(value, int) and value >> 63:
        return str(value)
    return value


def _from_wire(where: str, hint: Any, value: object) -> object:
    if isinstance(hint, types.GenericAlias) and typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ProtocolError(f"{where}: expected a list")
        if len(value) > MAX_ENTRIES:
            raise ProtocolError(f"{where}: {len(value)} entries, at most {MAX_ENTRIES} are allowed")
        return tuple(_from_wire(where, typing.get_args(hint)[0], item) for item in value)
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint.from_wire(value)
    if hint is int and isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= 78):
            raise ProtocolError(f"{where}: expected an integer")
        return int(value)
    return value
