"""Bytes of the leaves of a trace as integers, and back."""

from struct import Struct

from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.trace_tensors import Kind

Element = tuple[int, ...]
"""One integer, or the fields of a scale (M, m, e), cut (prefix, 0, before, target) or sample (token, tile, rest)."""

_STRUCTS = {
    Kind.INT8: Struct("<b"),
    Kind.INT16: Struct("<h"),
    Kind.UINT16: Struct("<H"),
    Kind.INT32: Struct("<i"),
    Kind.UINT32: Struct("<I"),
    Kind.UINT64: Struct("<Q"),
    Kind.SCALE: Struct("<QIi"),
    Kind.CUT: Struct("<IIQQ"),
    Kind.SAMPLE: Struct("<IIQ"),
}


def unpack(kind: Kind, data: bytes) -> list[Element]:
    """The elements of a leaf, or of a whole part. Raises ProtocolError for bytes that end within one."""
    if len(data) % kind.size:
        raise ProtocolError(f"{len(data)} bytes are no number of {kind.label}")
    return list(_STRUCTS[kind].iter_unpack(data))


def pack(kind: Kind, elements: list[Element]) -> bytes:
    """The inverse of `unpack`."""
    return b"".join(_STRUCTS[kind].pack(*element) for element in elements)


def first_difference(kind: Kind, mine: bytes, theirs: bytes) -> int | None:
    """The first element at which two leaves of one length differ."""
    for at in range(0, len(mine), kind.size):
        if mine[at : at + kind.size] != theirs[at : at + kind.size]:
            return at // kind.size
    return None
