"""Contract interfaces as the compiler wrote them, and conversion between their values and our dataclasses."""

import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import cache
from importlib import resources
from typing import Any, Self, TypeVar

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import abi_to_signature, collapse_if_tuple
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from efedllm.chain.errors import ChainError

CONTRACTS = ("WorkToken", "ModelRegistry", "StakeRegistry", "Channels", "Beacon", "DisputeGame")
JUDGES = (
    "PaperJudge", "StatementJudge", "TraceJudge", "StepVerifier", "AttentionVerifier", "SamplingVerifier",
)  # fmt: skip
"""What the game asks. They have no state and no events; their refusals come out of the game."""

AbiItem = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Signature:
    """A function, event or error: its name, canonical signature and parameters."""

    name: str
    text: str
    inputs: tuple[AbiItem, ...]
    outputs: tuple[AbiItem, ...]

    @classmethod
    def parse(cls, item: AbiItem) -> Self:
        text = abi_to_signature(typing.cast(Any, item))
        return cls(item["name"], text, tuple(item.get("inputs", ())), tuple(item.get("outputs", ())))

    @property
    def hash(self) -> bytes:
        """Topic of an event; its first four bytes select a function or error."""
        return keccak(text=self.text)


@dataclass(frozen=True)
class Interface:
    """One contract: its functions by name, events by topic, errors by selector, creation code, and the code on the
    chain, with zeros at the half-open byte ranges of `immutables`."""

    name: str
    functions: Mapping[str, Signature]
    events: Mapping[bytes, Signature]
    errors: Mapping[bytes, Signature]
    constructor: tuple[AbiItem, ...]
    bytecode: bytes
    runtime: bytes
    immutables: tuple[tuple[int, int], ...]

    def encode_call(self, function: str, *arguments: object) -> bytes:
        signature = self.functions[function]
        return signature.hash[:4] + encode_values(signature.inputs, arguments)

    def decode_result(self, function: str, data: bytes) -> tuple[Any, ...]:
        """Raises ChainError if `data` is not what the function returns: no contract there, or another one."""
        try:
            return decode_values(self.functions[function].outputs, data)
        except DecodingError as error:
            raise ChainError(
                f"{self.name}.{function} answered with something else: the deployment file does not fit this chain"
            ) from error

    def creation_code(self, *arguments: object) -> bytes:
        return self.bytecode + encode_values(self.constructor, arguments)


@cache
def interface(contract: str) -> Interface:
    """The compiled contract of that name. Raises ChainError if it was never compiled."""
    file = resources.files("efedllm.chain") / "artifacts" / f"{contract}.json"
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise ChainError(f"the compiled contract {contract} is missing: run `make contracts`") from error
    items: list[AbiItem] = content["abi"]
    kinds = ("function", "event", "error")
    of_type = {kind: [Signature.parse(item) for item in items if item["type"] == kind] for kind in kinds}
    return Interface(
        name=contract,
        functions={signature.name: signature for signature in of_type["function"]},
        events={signature.hash: signature for signature in of_type["event"]},
        errors={signature.hash[:4]: signature for signature in of_type["error"]},
        constructor=next((tuple(i["inputs"]) for i in items if i["type"] == "constructor"), ()),
        bytecode=bytes.fromhex(content["bytecode"].removeprefix("0x")),
        runtime=bytes.fromhex(content["deployedBytecode"].removeprefix("0x")),
        immutables=tuple((start, end) for start, end in content["immutables"]),
    )


def encode_values(parameters: Sequence[AbiItem], values: Sequence[object]) -> bytes:
    """Dataclasses stand for structs, with their fields in the struct's order."""
    return encode([collapse_if_tuple(dict(item)) for item in parameters], [_plain(value) for value in values])


def decode_values(parameters: Sequence[AbiItem], data: bytes) -> tuple[Any, ...]:
    """Structs as tuples, addresses with checksum. Raises eth_abi's DecodingError."""
    try:
        values = decode([collapse_if_tuple(dict(item)) for item in parameters], data)
    except (OverflowError, ValueError) as error:  # lengths beyond any, and text that is none
        raise DecodingError(f"not such values ({type(error).__name__})") from error
    return tuple(_checksummed(item, value) for item, value in zip(parameters, values, strict=True))


def build(kind: type[T], values: Sequence[Any]) -> T:
    """Dataclass `kind` from a decoded struct, in order; nested dataclasses and enums by the types of its fields."""
    hints = typing.get_type_hints(kind)
    names = [item.name for item in fields(typing.cast(Any, kind))]
    return kind(**{name: _typed(hints[name], value) for name, value in zip(names, values, strict=True)})


def _typed(hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias):
        if is_dataclass(hint):
            return build(hint, value)
        if issubclass(hint, IntEnum):
            if value not in list(hint):
                raise ChainError(f"{value} is no {hint.__name__}: the deployment file does not fit this chain")
            return hint(value)
    return value


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return tuple(_plain(getattr(value, item.name)) for item in fields(value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, IntEnum):
        return int(value)
    return value


def _checksummed(item: AbiItem, value: Any) -> Any:
    kind: str = item["type"]
    if kind.endswith("]"):
        element = {**item, "type": kind[: kind.rindex("[")]}
        return tuple(_checksummed(element, entry) for entry in value)
    if kind == "tuple":
        return tuple(_checksummed(part, entry) for part, entry in zip(item["components"], value, strict=True))
    return to_checksum_address(value) if kind == "address" else value
