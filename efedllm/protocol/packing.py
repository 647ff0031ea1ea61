"""Msgpack from strangers: one form per value, and memory in proportion to the bytes.

A byte of msgpack can stand for an object of 64 bytes, and five for a list of any length. So the values are counted
before any is made: our messages have one per eight bytes at most, besides a few short lists.
"""

from typing import Any

import msgpack

from efedllm.protocol.errors import ProtocolError

FREE_VALUES = 1024
"""So many values may be packed as tightly as they like."""
BYTES_PER_VALUE = 8

# Length bytes and then: bytes of content per unit, values per unit.
_SIZED = {
    0xC4: (1, 1, 0), 0xC5: (2, 1, 0), 0xC6: (4, 1, 0),
    0xD9: (1, 1, 0), 0xDA: (2, 1, 0), 0xDB: (4, 1, 0),
    0xDC: (2, 0, 1), 0xDD: (4, 0, 1), 0xDE: (2, 0, 2), 0xDF: (4, 0, 2),
}  # fmt: skip
_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_EXTENSIONS = {0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8}


def pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(data: bytes | memoryview) -> Any:
    """The inverse of `pack`, of plain values only. Raises ProtocolError for anything that `pack` does not produce."""
    _check_count(data)
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, max_ext_len=0)
        again = pack(value)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolError("is not msgpack") from error
    if again != data:  # the same value can be written in several ways; a changed byte must not pass
        raise ProtocolError("is not in msgpack's shortest form")
    return value


def _check_count(data: bytes | memoryview) -> None:
    """Walk over the values without making any. What is truncated ends the walk: parsing will find it."""
    size = len(data)
    left = FREE_VALUES + size // BYTES_PER_VALUE
    at, due = 0, 1
    while due and at < size:
        due -= 1
        code = data[at]
        at += 1
        if code < 0x80 or code >= 0xE0 or 0xC0 <= code <= 0xC3:
            continue
        inside = 0
        if code < 0xA0:
            inside = (code & 0x0F) * (2 if code < 0x90 else 1)
        elif code < 0xC0:
            at += code & 0x1F
        elif code in _FIXED:
            at += _FIXED[code]
        elif code in _EXTENSIONS:
            raise ProtocolError("is not msgpack of plain values")
        else:
            length_bytes, content, values = _SIZED[code]
            length = int.from_bytes(data[at : at + length_bytes])
            at += length_bytes + length * content
            inside = length * values
        due += inside
        left -= inside
        if left < 0:
            raise ProtocolError("has more values than its bytes can mean")
