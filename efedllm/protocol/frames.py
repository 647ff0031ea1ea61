"""Binary frames between clients and workers. Limits are checked on the header, before anything is allocated."""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from efedllm.protocol import packing
from efedllm.protocol.errors import FrameError, ProtocolError

MAGIC = b"eF"
VERSION = 1
HEADER = struct.Struct(">2sBB32sIII")
MAX_BODY_BYTES = 1 << 20
MAX_TENSOR_BYTES = 1 << 22
"""64 positions (one prompt chunk) of the largest rows, int32 [2^14]."""
MAX_PROMPT_TOKENS = 1 << 17
"""The largest context that the semantics allows."""
MAX_FRAME_BYTES = HEADER.size + MAX_BODY_BYTES + MAX_TENSOR_BYTES


class Type(IntEnum):
    """Frame types of docs/protocol.md."""

    OPEN = 1
    OPENED = 2
    CHALLENGE = 3
    LINK = 4
    LINKED = 5
    ROWS = 6
    TOKEN = 7
    RECEIPT = 8
    VOUCHER = 9
    CREDITED = 10
    END = 11
    CANCEL = 12
    ERROR = 13


@dataclass(frozen=True)
class Frame:
    """One message. `body` is a map with string keys; `tensor` is raw little-endian."""

    kind: Type
    request_id: bytes
    position: int
    body: dict[str, Any]
    tensor: bytes | memoryview = b""

    def encode(self) -> bytes:
        body = packing.pack(self.body)
        if len(body) > MAX_BODY_BYTES or len(self.tensor) > MAX_TENSOR_BYTES:
            raise FrameError(f"{self.kind.name} frame too large: body {len(body)}, tensor {len(self.tensor)} bytes")
        header = HEADER.pack(
            MAGIC,
            VERSION,
            self.kind,
            self.request_id,
            self.position,
            len(body),
            len(self.tensor),
        )
        return b"".join((header, body, self.tensor))

    def get(self, name: str, expected: type[Any]) -> Any:
        """Field `name` of the body. Raises FrameError if it is missing or of another type."""
        value = self.body.get(name)
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            raise FrameError(f"{self.kind.name} frame: field {name} must be {expected.__name__}")
        return value


def decode(data: bytes) -> Frame:
    """Parses one whole message. Raises FrameError for anything that `encode` does not produce."""
    if len(data) < HEADER.size:
        raise FrameError(f"frame of {len(data)} bytes is shorter than its header")
    magic, version, kind, request_id, position, body_length, tensor_length = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise FrameError("not an eFedLLM frame")
    if version != VERSION:
        raise FrameError(f"frame version {version}, this side speaks {VERSION}")
    if body_length > MAX_BODY_BYTES or tensor_length > MAX_TENSOR_BYTES:
        raise FrameError(f"frame announces {body_length} + {tensor_length} bytes, more than allowed")
    if len(data) != HEADER.size + body_length + tensor_length:
        raise FrameError(f"frame announces {HEADER.size + body_length + tensor_length} bytes and has {len(data)}")
    try:
        known = Type(kind)
    except ValueError as error:
        raise FrameError(f"unknown frame type {kind}") from error
    view = memoryview(data)[HEADER.size :]
    try:
        body = packing.unpack(view[:body_length])
    except ProtocolError as error:
        raise FrameError(f"{known.name} frame: body {error}") from error
    if not isinstance(body, dict) or not all(isinstance(name, str) for name in body):
        raise FrameError(f"{known.name} frame: body is not a map with string keys")
    return Frame(known, request_id, position, body, view[body_length:])


def pack_tokens(tokens: list[int]) -> bytes:
    """Token ids as uint32, little-endian."""
    return struct.pack(f"<{len(tokens)}I", *tokens)


def unpack_tokens(data: bytes | memoryview) -> list[int]:
    if len(data) % 4:
        raise FrameError(f"{len(data)} bytes are not a list of uint32 token ids")
    return list(struct.unpack(f"<{len(data) // 4}I", data))
