"""Whether a contract on a chain is what was compiled, created with what was agreed: each difference in one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_abi.exceptions import DecodingError
from eth_utils.address import is_address, to_checksum_address

from efedllm.chain.abi import decode_values
from efedllm.chain.code import first_difference as code_difference
from efedllm.chain.compiled import Compiled

from .expectations import Expectation, Free

SAME, DIFFERENT, FOREIGN, MISSING, NOT_FOUND, NONE = "same", "different", "foreign", "missing", "not found", "none"
_WORD = 32


@dataclass
class Finding:
    """Outcome for one contract. `code`, `arguments` and `creation` are words of this module.

    `values`: what the file leaves open. `creation` says whether the transaction that created it was found and compared.
    """

    contract: str
    address: str
    code: str = SAME
    arguments: str = SAME
    creation: str = SAME
    values: dict[str, str] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


def compare(
    compiled: Compiled,
    expected: Expectation,
    code: bytes,
    getters: Mapping[str, object],
    creation: bytes | None,
) -> Finding:
    """code: on the chain. getters: their values, None for a refusal. creation: the transaction's input, if known."""
    finding = Finding(compiled.name, expected.address)
    if not code:
        finding.code, finding.arguments, finding.creation = MISSING, NONE, NONE
        finding.differences.append(f"{compiled.name}: there is no contract at {expected.address}")
        return finding
    place = first_difference(compiled, code)
    if place and expected.may_be_foreign:
        finding.code, finding.arguments, finding.creation = FOREIGN, NONE, NONE
        shared = {name: value for name, value in expected.getters.items() if name in {"symbol", "decimals"}}
        given = {name: getters.get(name) for name in shared}
        finding.differences += _differences(compiled.name, "getter", shared, given, finding)
        return finding
    if place:
        finding.code = DIFFERENT
        finding.differences.append(f"{compiled.name}: the code at {expected.address} is not the source's: {place}")
    found: list[str] = [] if place else list(_immutable_differences(compiled, expected, code, finding))
    found += _differences(compiled.name, "getter", expected.getters, getters, finding)
    if creation is None:
        finding.creation = NOT_FOUND
    else:
        found += _creation_differences(compiled, expected, creation, finding)
    finding.arguments = DIFFERENT if found else SAME if compiled.constructor else NONE
    finding.differences += found
    return finding


def first_difference(compiled: Compiled, code: bytes) -> str:
    """Where the code differs apart from immutables; empty if nowhere."""
    ranges = (place for places in compiled.immutables.values() for place in places)
    return code_difference(compiled.runtime, ranges, code)


def _immutable_differences(compiled: Compiled, expected: Expectation, code: bytes, finding: Finding) -> Iterator[str]:
    for name, ranges in sorted(compiled.immutables.items()):
        words = {code[start:end] for start, end in ranges}
        if name not in expected.immutables:
            yield f"{compiled.name}: nothing is known about its immutable {name}"
            continue
        wanted = expected.immutables[name]
        if isinstance(wanted, Free) and len(words) == 1:
            finding.values[name] = _show_word(next(iter(words)), wanted)
        elif isinstance(wanted, Free):
            yield f"{compiled.name}: immutable {name} is not the same everywhere in the code"
        elif words != {_word(wanted)}:
            shown = " and ".join(sorted(_show_word(word, wanted) for word in words))
            yield f"{compiled.name}: immutable {name} is {shown} instead of {_show(wanted)}"


def _creation_differences(compiled: Compiled, expected: Expectation, data: bytes, finding: Finding) -> Iterator[str]:
    if not data.startswith(compiled.creation):
        yield f"{compiled.name}: the transaction that created it carries other code than the source's"
        return
    try:
        values = decode_values(compiled.constructor, data[len(compiled.creation) :])
    except DecodingError:
        yield f"{compiled.name}: the constructor arguments in the transaction that created it cannot be read"
        return
    given = dict(_flat(compiled.constructor, values))
    yield from _differences(compiled.name, "constructor argument", expected.arguments, given, finding)


def _flat(parameters: Sequence[Mapping[str, Any]], values: Iterable[Any]) -> Iterator[tuple[str, object]]:
    for parameter, value in zip(parameters, values, strict=True):
        if parameter["type"] == "tuple":
            yield from _flat(parameter["components"], value)
        else:
            yield parameter["name"], value


def _differences(
    contract: str, kind: str, expected: Mapping[str, object], given: Mapping[str, object], finding: Finding
) -> Iterator[str]:
    for name in sorted(given.keys() - expected.keys()):
        yield f"{contract}: nothing is known about its {kind} {name}"
    for name, wanted in expected.items():
        value = given.get(name)
        if value is None:
            yield f"{contract}: {kind} {name} has no value"
        elif not isinstance(wanted, Free):
            if value != wanted:
                yield f"{contract}: {kind} {name} is {_show(value)} instead of {_show(wanted)}"
        elif (earlier := finding.values.setdefault(name, _show(value))) != _show(value):
            yield f"{contract}: {kind} {name} is {_show(value)}, elsewhere {earlier}"


def _word(value: object) -> bytes:
    """As an immutable stands in the code."""
    if isinstance(value, int):
        return value.to_bytes(_WORD)
    if isinstance(value, str):
        return bytes.fromhex(value[2:]).rjust(_WORD, b"\0")
    assert isinstance(value, bytes)
    return value


def _show_word(word: bytes, like: object) -> str:
    """A word as the kind of value that is expected."""
    if isinstance(like, bytes):
        return _show(word)
    is_address = like.is_address if isinstance(like, Free) else isinstance(like, str)
    return to_checksum_address(word[-20:]) if is_address else str(int.from_bytes(word))


def _show(value: object) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return to_checksum_address(value) if isinstance(value, str) and is_address(value) else str(value)
