"""Typed messages inside frames: one dataclass per frame type, parsed and validated at the edge.

`parse` turns a frame into its message and refuses missing, unknown or mistyped fields; `frame()` is the inverse.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eth_utils.address import is_checksum_address

from efedllm.errors import on_one_line
from efedllm.protocol.errors import FrameError, shown
from efedllm.protocol.frames import MAX_PROMPT_TOKENS, Frame, Type, pack_tokens, unpack_tokens
from efedllm.protocol.objects import Receipt, Request, Voucher

NO_REQUEST = bytes(32)
MAX_TOKENS = 64
"""Generated ids in a frame: no more than the positions of a chunk."""
ROLE_ROWS = "rows"
"""A link on which the dialling worker sends residual rows to the next worker."""
ROLE_TOKENS = "tokens"
"""A link on which the last worker hands sampled tokens back to the first."""


@dataclass(frozen=True)
class Open:
    """Client -> worker: a signed request with its prompt."""

    request_id: bytes
    request: Request
    signature: bytes
    salt: bytes
    prompt: list[int]

    def frame(self) -> Frame:
        body = {"request": self.request.to_wire(), "signature": self.signature, "salt": self.salt}
        return Frame(Type.OPEN, self.request_id, 0, body, pack_tokens(self.prompt))


@dataclass(frozen=True)
class Opened:
    """Worker -> client: accepted. `epoch` and `total` are those of the channel's latest voucher that the worker holds;
    `window` is its credit. Amounts in base units."""

    request_id: bytes
    epoch: int
    total: int
    window: int

    def frame(self) -> Frame:
        body = {"epoch": self.epoch, "total": str(self.total), "window": str(self.window)}
        return Frame(Type.OPENED, self.request_id, 0, body)


@dataclass(frozen=True)
class Challenge:
    """Accepting worker -> dialling worker, as the first message on every connection: 32 random bytes."""

    challenge: bytes

    def frame(self) -> Frame:
        return Frame(Type.CHALLENGE, NO_REQUEST, 0, {"challenge": self.challenge})


@dataclass(frozen=True)
class LinkUp:
    """Dialling worker -> accepting worker: the challenge signed with the hot key (`Link`), and what the link is for."""

    request_id: bytes
    worker: str
    signature: bytes
    role: str

    def frame(self) -> Frame:
        body = {"worker": self.worker, "signature": self.signature, "role": self.role}
        return Frame(Type.LINK, self.request_id, 0, body)


@dataclass(frozen=True)
class Linked:
    """Accepting worker -> dialling worker: accepted, and everything behind this worker is linked too."""

    request_id: bytes

    def frame(self) -> Frame:
        return Frame(Type.LINKED, self.request_id, 0, {})


@dataclass(frozen=True)
class Rows:
    """Worker -> next worker: residual rows (int32 [count, hidden], little-endian) of positions
    `[position, position + count)`, and the generated ids since the last frame."""

    request_id: bytes
    position: int
    tokens: list[int]
    rows: bytes | memoryview

    def frame(self) -> Frame:
        return Frame(Type.ROWS, self.request_id, self.position, {"tokens": self.tokens}, self.rows)


@dataclass(frozen=True)
class Token:
    """Last worker -> first worker and client: the token at absolute `position`; `reason` is empty, or why it is the
    last ("stop", "length")."""

    request_id: bytes
    position: int
    token: int
    reason: str

    def frame(self) -> Frame:
        return Frame(Type.TOKEN, self.request_id, self.position, {"token": self.token, "reason": self.reason})


@dataclass(frozen=True)
class Signed:
    """A receipt with its signature: worker -> next worker, and worker -> client."""

    request_id: bytes
    receipt: Receipt
    signature: bytes

    def frame(self) -> Frame:
        body = {"receipt": self.receipt.to_wire(), "signature": self.signature}
        return Frame(Type.RECEIPT, self.request_id, self.receipt.positions, body)


@dataclass(frozen=True)
class Payment:
    """Client -> worker: the channel's new voucher, which adds the receipt with this digest."""

    request_id: bytes
    voucher: Voucher
    signature: bytes
    receipt_digest: bytes

    def frame(self) -> Frame:
        body = {"voucher": self.voucher.to_wire(), "signature": self.signature, "receipt": self.receipt_digest}
        return Frame(Type.VOUCHER, self.request_id, 0, body)


@dataclass(frozen=True)
class Credited:
    """Worker -> client: the voucher up to `total` is on disk."""

    request_id: bytes
    total: int

    def frame(self) -> Frame:
        return Frame(Type.CREDITED, self.request_id, 0, {"total": str(self.total)})


@dataclass(frozen=True)
class End:
    """Along the path: no more rows follow after `position` positions; `tokens` are generated ids not yet passed on."""

    request_id: bytes
    position: int
    tokens: list[int]
    reason: str

    def frame(self) -> Frame:
        return Frame(Type.END, self.request_id, self.position, {"tokens": self.tokens, "reason": self.reason})


@dataclass(frozen=True)
class Cancel:
    """Client -> worker: stop at the next token."""

    request_id: bytes

    def frame(self) -> Frame:
        return Frame(Type.CANCEL, self.request_id, 0, {})


@dataclass(frozen=True)
class Failure:
    """Any direction: the session (or connection) ends. `code` is a short constant, `message` one line for a person."""

    request_id: bytes
    code: str
    message: str

    def frame(self) -> Frame:
        body = {"code": on_one_line(self.code[:40]), "message": on_one_line(self.message[:500])}
        return Frame(Type.ERROR, self.request_id, 0, body)


Message = (
    Open | Opened | Challenge | LinkUp | Linked | Rows | Token | Signed | Payment | Credited | End | Cancel | Failure
)


def parse(frame: Frame) -> Message:
    """The message in a frame. Raises FrameError, or ProtocolError for an object inside that is not valid."""
    names, build = _PARSERS[frame.kind]
    if frame.body.keys() != names:
        odd = min(frame.body.keys() ^ names)
        raise FrameError(f"{frame.kind.name} frame: field {shown(odd)} is missing or unknown")
    if len(frame.tensor) and frame.kind not in (Type.OPEN, Type.ROWS):
        raise FrameError(f"{frame.kind.name} frame: carries no tensor")
    if frame.kind is Type.OPEN and len(frame.tensor) > 4 * MAX_PROMPT_TOKENS:
        raise FrameError(f"OPEN frame: a prompt has at most {MAX_PROMPT_TOKENS} tokens")
    message = build(frame)
    # One message, one frame: what `frame()` would not write, such as a position where none belongs, is refused.
    written = message.frame()
    same_header = (frame.request_id, frame.position) == (written.request_id, written.position)
    if not same_header or frame.body != written.body or list(frame.body) != list(written.body):
        raise FrameError(f"{frame.kind.name} frame: header or body are not as this message is written")
    return message


def _integer(frame: Frame, name: str) -> int:
    text = frame.get(name, str)
    if not (text.isascii() and text.isdigit() and len(text) <= 39 and int(text) < 1 << 128):
        raise FrameError(f"{frame.kind.name} frame: field {name} must be a decimal string of a uint128")
    return int(text)


def _tokens(frame: Frame) -> list[int]:
    tokens: list[Any] = frame.get("tokens", list)
    if len(tokens) > MAX_TOKENS:
        raise FrameError(f"{frame.kind.name} frame: {len(tokens)} tokens, at most {MAX_TOKENS} are allowed")
    for token in tokens:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < 1 << 32:
            raise FrameError(f"{frame.kind.name} frame: tokens must be uint32")
    return tokens


def _uint(frame: Frame, name: str, bits: int) -> int:
    value: int = frame.get(name, int)
    if not 0 <= value < 1 << bits:
        raise FrameError(f"{frame.kind.name} frame: field {name} must be uint{bits}")
    return value


def _address(frame: Frame, name: str) -> str:
    value: str = frame.get(name, str)
    if not is_checksum_address(value):
        raise FrameError(f"{frame.kind.name} frame: field {name} must be an address with checksum")
    return value


def _bytes32(frame: Frame, name: str) -> bytes:
    value: bytes = frame.get(name, bytes)
    if len(value) != 32:
        raise FrameError(f"{frame.kind.name} frame: field {name} must be 32 bytes")
    return value


_PARSERS: dict[Type, tuple[set[str], Callable[[Frame], Message]]] = {
    Type.OPEN: (
        {"request", "signature", "salt"},
        lambda f: Open(
            f.request_id,
            Request.from_wire(f.body["request"]),
            f.get("signature", bytes),
            _bytes32(f, "salt"),
            unpack_tokens(f.tensor),
        ),
    ),
    Type.OPENED: (
        {"epoch", "total", "window"},
        lambda f: Opened(f.request_id, _uint(f, "epoch", 64), _integer(f, "total"), _integer(f, "window")),
    ),
    Type.CHALLENGE: ({"challenge"}, lambda f: Challenge(_bytes32(f, "challenge"))),
    Type.LINK: (
        {"worker", "signature", "role"},
        lambda f: LinkUp(f.request_id, _address(f, "worker"), f.get("signature", bytes), f.get("role", str)),
    ),
    Type.LINKED: (set(), lambda f: Linked(f.request_id)),
    Type.ROWS: ({"tokens"}, lambda f: Rows(f.request_id, f.position, _tokens(f), f.tensor)),
    Type.TOKEN: (
        {"token", "reason"},
        lambda f: Token(f.request_id, f.position, _uint(f, "token", 32), f.get("reason", str)),
    ),
    Type.RECEIPT: (
        {"receipt", "signature"},
        lambda f: Signed(f.request_id, Receipt.from_wire(f.body["receipt"]), f.get("signature", bytes)),
    ),
    Type.VOUCHER: (
        {"voucher", "signature", "receipt"},
        lambda f: Payment(
            f.request_id, Voucher.from_wire(f.body["voucher"]), f.get("signature", bytes), _bytes32(f, "receipt")
        ),
    ),
    Type.CREDITED: ({"total"}, lambda f: Credited(f.request_id, _integer(f, "total"))),
    Type.END: (
        {"tokens", "reason"},
        lambda f: End(f.request_id, f.position, _tokens(f), f.get("reason", str)),
    ),
    Type.CANCEL: (set(), lambda f: Cancel(f.request_id)),
    Type.ERROR: (
        {"code", "message"},
        lambda f: Failure(f.request_id, f.get("code", str), f.get("message", str)),
    ),
}
