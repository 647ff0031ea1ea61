"""Whether the code at an address is that of a contract of ours, whatever its immutables are."""

from collections.abc import Iterable

Range = tuple[int, int]


def first_difference(runtime: bytes, immutables: Iterable[Range], code: bytes) -> str:
    """Where code on the chain differs from what was compiled, apart from immutables; empty if nowhere.

    runtime: with zeros where an immutable stands; immutables: half-open byte ranges of those.
    """
    if len(code) != len(runtime):
        return f"{len(code)} bytes instead of {len(runtime)}"
    masked = bytearray(code)
    for start, end in immutables:
        masked[start:end] = bytes(end - start)
    if bytes(masked) == runtime:
        return ""
    position = next(i for i, (own, other) in enumerate(zip(masked, runtime, strict=True)) if own != other)
    return f"byte {position} differs first"
