"""Structure-aware mutation: changes of bytes, and of the values that msgpack, frames, JSON and ABI words stand for."""

import json
import math
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import msgpack

from efedllm.protocol.frames import HEADER, MAX_BODY_BYTES, MAX_TENSOR_BYTES

INTEGERS = (0, 1, -1, 7, 63, 64, 65, 255, 256, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS = (
    "", "0", "00", "1", "-1", "+1", " 1", "1_0", "1e3", "9" * 39, "9" * 78, str(2**128), str(2**128 - 1), "٣", "\x00",
    "\n", "\x1b[2J", "\u202e", "0x", "0x" + "00" * 20, "0X" + "aB" * 20, "ab" * 20, "é" * 300,
)  # fmt: skip
BYTES = (b"", b"\x00", bytes(31), bytes(32), bytes(33), bytes(65), b"\xff" * 65)
FLOATS = (0.0, -0.0, 1.0, 0.5, math.inf, -math.inf, math.nan, 1e308)
WORDS = (0, 1, 31, 32, 33, 64, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 2**64 - 32, 2**128, 2**255, 2**256 - 1)
DEPTHS = (3, 70, 600, 1100, 3000)


class Pairs(dict[Any, Any]):
    """A map that may hold a key twice and keeps its order, for writers that ask for `items`."""

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        super().__init__()
        self.pairs = pairs

    def items(self) -> Any:
        return self.pairs

    def __bool__(self) -> bool:
        return bool(self.pairs)


def mutate(data: bytes, shape: str, random: Random, max_size: int) -> bytes:
    """Another input of at most `max_size` bytes."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        change = SHAPES[shape] if random.random() < 0.75 else mutate_bytes
        data = change(data, random)[:max_size]
    return data


# bytes


def mutate_bytes(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    upto = min(len(data), at + random.choice((1, 1, 2, 4, 8, 32)))
    match random.randrange(7):
        case 0 if data:
            at = min(at, len(data) - 1)
            return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + random.randbytes(upto - at) + data[upto:]
        case 2:
            return data[:at] + random.randbytes(random.choice((1, 2, 4, 32))) + data[at:]
        case 3:
            return data[:at] + data[upto:]
        case 4:
            return data[:upto] + data[at:]
        case 5:
            number = random.choice(INTEGERS) % 2**32
            return data[:at] + struct.pack(random.choice((">I", "<I")), number) + data[at + 4 :]
        case _:
            return data[:at]


def mutate_words(data: bytes, random: Random) -> bytes:
    """ABI: words of 32 bytes, after a tag of some bytes."""
    words = len(data) // 32
    at = len(data) % 32 + 32 * random.randrange(words) if words else 0
    match random.randrange(4):
        case 0:
            return data[:at] + random.choice(WORDS).to_bytes(32) + data[at + 32 :]
        case 1:
            return data[:at] + random.choice(WORDS).to_bytes(32) + data[at:]
        case 2:
            return data[:at] + data[at + 32 :]
        case _:
            return data + data[at : at + 32]


# trees


def places(tree: Any) -> list[tuple[Any, int]]:
    """Every value below the root, as its container and number in there."""
    found: list[tuple[Any, int]] = []
    waiting = [tree]
    while waiting and len(found) < 5000:
        here = waiting.pop()
        inner = here.pairs if isinstance(here, Pairs) else here if isinstance(here, list) else []
        for at, item in enumerate(inner):
            found.append((here, at))
            waiting.append(item[1] if isinstance(here, Pairs) else item)
    return found


def value_at(place: tuple[Any, int]) -> Any:
    container, at = place
    return container.pairs[at][1] if isinstance(container, Pairs) else container[at]


def put(place: tuple[Any, int], value: Any) -> None:
    container, at = place
    if isinstance(container, Pairs):
        container.pairs[at] = (container.pairs[at][0], value)
    else:
        container[at] = value


def change_tree(tree: Any, random: Random, has_bytes: bool) -> Any:
    found = places(tree)
    if not found:
        return strange(random, has_bytes)
    place = random.choice(found)
    container, at = place
    inner = container.pairs if isinstance(container, Pairs) else container
    match random.randrange(9):
        case 0 | 1:
            put(place, near(value_at(place), random, has_bytes))
        case 2:
            put(place, strange(random, has_bytes))
        case 3:
            other = value_at(random.choice(found))
            put(place, [] if isinstance(other, list | Pairs) else other)  # a tree in itself would have no end
        case 4:
            del inner[at]
        case 5:
            inner.insert(random.randrange(len(inner) + 1), inner[at])
        case 6:
            second = random.randrange(len(inner))
            inner[at], inner[second] = inner[second], inner[at]
        case 7 if isinstance(container, Pairs):
            name = near(container.pairs[at][0], random, has_bytes)
            container.pairs[at] = (name if isinstance(name, str | bytes | int) else "x", container.pairs[at][1])
        case _:
            value = value_at(place)
            put(place, [value] * random.choice((0, 1, 2) if isinstance(value, list | Pairs) else (0, 1, 2, 65, 2000)))
    return tree


def near(value: Any, random: Random, has_bytes: bool) -> Any:
    match value:
        case bool():
            return random.choice((not value, int(value), float(value), None))
        case int():
            flipped = value ^ 1 << random.randrange(64)
            return random.choice((value + 1, value - 1, flipped, -value, str(value), f"0{value}"))
        case float():
            return random.choice((value * 2, math.nextafter(value, 9.0), int(value) if math.isfinite(value) else 0))
        case bytes():
            return mutate_bytes(value, random)
        case str():
            return near_text(value, random)
        case _:
            return strange(random, has_bytes)


def near_text(text: str, random: Random) -> str | int | bytes:
    at = random.randrange(len(text) + 1)
    return random.choice(
        (
            text[:at] + random.choice("0aA\n\ud800é") + text[at:],
            text[:at] + text[at + 1 :],
            text.lower(),
            text.upper(),
            text[2:],
            "0" + text,
            int(text[:20]) if text.isascii() and text.isdigit() else text + text,
        )
    )


def strange(random: Random, has_bytes: bool) -> Any:
    choices: list[Callable[[], Any]] = [
        lambda: random.choice(INTEGERS),
        lambda: random.choice(TEXTS),
        lambda: random.choice(FLOATS),
        lambda: random.choice((None, True, False)),
        lambda: [random.choice(INTEGERS)] * random.choice((0, 1, 65, 2000)),
        lambda: Pairs([(random.choice(TEXTS), random.choice(INTEGERS))] * random.choice((0, 1, 2))),
        lambda: deep(random.choice(DEPTHS)),
    ]
    if has_bytes:
        choices.append(lambda: random.choice(BYTES))
    return random.choice(choices)()


def deep(depth: int) -> list[Any]:
    tree: list[Any] = []
    for _ in range(depth):
        tree = [tree]
    return tree


# msgpack


def mutate_msgpack(data: bytes, random: Random) -> bytes:
    try:
        tree = msgpack.unpackb(data, raw=False, strict_map_key=False, object_pairs_hook=Pairs)
    except (ValueError, msgpack.exceptions.UnpackException):
        return mutate_bytes(data, random)
    if random.random() < 0.85:
        tree = change_tree(tree, random, has_bytes=True)
    return write_msgpack(tree, random if random.random() < 0.3 else None)


def write_msgpack(tree: Any, random: Random | None) -> bytes:
    """With `random` now and then in a longer form than needed. Too deep to write: cut short."""
    out = bytearray()
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        longer = random is not None and random.random() < 0.2
        match value:
            case Pairs():
                out += _length(len(value.pairs), 0x80, 16, (None, 0xDE, 0xDF), longer)
                for name, item in reversed(value.pairs):
                    waiting += [item, name]
            case list():
                out += _length(len(value), 0x90, 16, (None, 0xDC, 0xDD), longer)
                waiting += reversed(value)
            case bytes():
                out += _length(len(value), 0, 0, (0xC4, 0xC5, 0xC6), longer) + value
            case str():
                content = value.encode("utf-8", "surrogatepass")
                out += _length(len(content), 0xA0, 32, (0xD9, 0xDA, 0xDB), longer) + content
            case bool() | None:
                out += msgpack.packb(value)
            case int() if longer and 0 <= value < 2**64:
                out += b"\xcf" + value.to_bytes(8)
            case int():
                out += msgpack.packb(value if -(2**63) <= value < 2**64 else value % 2**64)
            case float() if longer:
                out += b"\xca" + struct.pack(">f", value if abs(value) < 1e38 else math.inf)
            case _:
                out += msgpack.packb(value)
    return bytes(out)


def _length(size: int, fixed: int, below: int, codes: tuple[int | None, int, int], longer: bool) -> bytes:
    forms = []
    if size < below:
        forms.append(bytes([fixed | size]))
    if codes[0] is not None and size < 1 << 8:
        forms.append(bytes([codes[0], size]))
    if size < 1 << 16:
        forms.append(bytes([codes[1]]) + size.to_bytes(2))
    forms.append(bytes([codes[2]]) + size.to_bytes(4))
    return forms[-1] if longer else forms[0]


def mutate_frame(data: bytes, random: Random) -> bytes:
    """A header that fits the body again, unless the header is what is changed."""
    if len(data) < HEADER.size:
        return mutate_bytes(data, random)
    magic, version, kind, request_id, position, body_length, tensor_length = HEADER.unpack_from(data)
    at = HEADER.size + min(body_length, len(data))
    body, tensor = data[HEADER.size : at], data[at:]
    match random.randrange(8):
        case 0:
            kind = random.randrange(16)
        case 1:
            position = random.choice(INTEGERS) % 2**32
        case 2:
            body_length = random.choice((0, len(body) + 1, MAX_BODY_BYTES, MAX_BODY_BYTES + 1, 2**32 - 1))
            tensor_length = random.choice((0, 1, MAX_TENSOR_BYTES, MAX_TENSOR_BYTES + 1, 2**32 - 1))
            header = HEADER.pack(magic, version, kind, request_id, position, body_length, tensor_length)
            return header + body + tensor
        case 3:
            tensor = mutate_bytes(tensor, random)
        case _:
            body = mutate_msgpack(body, random)
    return HEADER.pack(magic, version, kind, request_id, position, len(body), len(tensor)) + body + tensor


# JSON


def mutate_json(data: bytes, random: Random) -> bytes:
    """Written again with the indentation that it had."""
    try:
        text = data.decode("utf-8")
        tree = json.loads(text, object_pairs_hook=Pairs) if text.count("[") + text.count("{") < 900 else None
    except (ValueError, RecursionError):
        tree = None
    if tree is None:
        return mutate_bytes(data, random)
    indent = next((size for size in (1, 2) if text.startswith("{\n" + " " * size + '"')), None)
    if random.random() < 0.9:
        tree = change_tree(tree, random, has_bytes=False)
    if random.random() < 0.05:
        indent = random.choice((None, 1, 2))
    try:
        written = json.dumps(tree, indent=indent, ensure_ascii=random.random() < 0.1)
    except (TypeError, ValueError, RecursionError):
        return b"[" * random.choice(DEPTHS)
    return (written + text[len(text.rstrip()) :]).encode("utf-8", "surrogatepass")


def mutate_safetensors(data: bytes, random: Random) -> bytes:
    """Eight bytes of length, a header in JSON, and the data."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data):
        return mutate_bytes(data, random)
    header, rest = data[8 : 8 + size], data[8 + size :]
    match random.randrange(5):
        case 0:
            return random.choice(WORDS).to_bytes(32, "little")[:8] + header + rest
        case 1:
            rest = mutate_bytes(rest, random)
        case 2:
            kinds = (b"F64", b"F32", b"F16", b"BF16", b"I64", b"I8", b"U8", b"BOOL", b"F8_E4M3", b"U16", b"C64", b"F4")
            header = header.replace(b"I16", random.choice(kinds))
        case _:
            header = mutate_json(header, random)
    return len(header).to_bytes(8, "little") + header + rest


SHAPES: dict[str, Callable[[bytes, Random], bytes]] = {
    "bytes": mutate_bytes,
    "words": mutate_words,
    "msgpack": mutate_msgpack,
    "frame": mutate_frame,
    "json": mutate_json,
    "safetensors": mutate_safetensors,
}
