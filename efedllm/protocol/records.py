"""What a worker hands out about its receipts and its channels, over HTTP, to those entitled to it (msgpack maps).

`POST /v1/receipts` with `{"fetch": Fetch, "signature": bytes}` answers a `Record`; `GET /v1/books/{receiptsRoot}`
answers the leaves under a voucher's root.
"""

from dataclasses import dataclass, field
from typing import Any

import msgpack

from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.frames import pack_tokens, unpack_tokens
from efedllm.protocol.objects import Receipt, Request
from efedllm.protocol.vouchers import Leaf

MAX_RECORD_BYTES = 1 << 28


@dataclass(frozen=True)
class Record:
    """Everything needed to check one worker's receipts for one request.

    `receipts` are all that were signed, in order of positions, each with its signature. `rows` is int32
    [positions, hidden] as bytes: what entered the shard (empty in the first). `upstream` are the receipts of the worker
    before that these continue, so that a check needs nobody else.
    """

    request: Request
    request_signature: bytes
    salt: bytes
    prompt: list[int]
    generated: list[int]
    receipts: list[tuple[Receipt, bytes]]
    rows: bytes
    upstream: list[tuple[Receipt, bytes]] = field(default_factory=list)

    def pack(self) -> bytes:
        packed: bytes = msgpack.packb(
            {
                "request": self.request.to_wire(),
                "signature": self.request_signature,
                "salt": self.salt,
                "prompt": pack_tokens(self.prompt),
                "generated": pack_tokens(self.generated),
                "receipts": _pack_receipts(self.receipts),
                "upstream": _pack_receipts(self.upstream),
                "rows": self.rows,
            }
        )
        return packed

    @classmethod
    def unpack(cls, data: bytes) -> "Record":
        """Raises ProtocolError for anything that `pack` does not produce."""
        body = _unpack_map(
            data, {"request", "signature", "salt", "prompt", "generated", "receipts", "upstream", "rows"}
        )
        for name in ("signature", "salt", "prompt", "generated", "rows"):
            if not isinstance(body[name], bytes):
                raise ProtocolError(f"record: field {name} must be bytes")
        return cls(
            request=Request.from_wire(body["request"]),
            request_signature=body["signature"],
            salt=body["salt"],
            prompt=unpack_tokens(body["prompt"]),
            generated=unpack_tokens(body["generated"]),
            receipts=_unpack_receipts(body["receipts"], "receipts"),
            rows=body["rows"],
            upstream=_unpack_receipts(body["upstream"], "upstream"),
        )


def _pack_receipts(receipts: list[tuple[Receipt, bytes]]) -> list[list[Any]]:
    return [[receipt.to_wire(), signature] for receipt, signature in receipts]


def _unpack_receipts(pairs: object, name: str) -> list[tuple[Receipt, bytes]]:
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], bytes) for pair in pairs
    ):
        raise ProtocolError(f"record: field {name} must be a list of receipt and signature")
    return [(Receipt.from_wire(receipt), signature) for receipt, signature in pairs]


def pack_leaves(leaves: list[Leaf]) -> bytes:
    packed: bytes = msgpack.packb(
        {"leaves": [[leaf.request_id, leaf.receipt_digest, str(leaf.before), str(leaf.after)] for leaf in leaves]}
    )
    return packed


def unpack_leaves(data: bytes) -> list[Leaf]:
    """Raises ProtocolError unless the leaves are well-formed and lie end to end from 0."""
    items = _unpack_map(data, {"leaves"})["leaves"]
    if not isinstance(items, list):
        raise ProtocolError("leaves: expected a list")
    leaves = []
    at = 0
    for item in items:
        leaf = _leaf(item)
        if leaf.before != at or leaf.after <= at:
            raise ProtocolError(f"leaves: they do not lie end to end at {at}")
        at = leaf.after
        leaves.append(leaf)
    return leaves


def _leaf(item: object) -> Leaf:
    match item:
        case [bytes() as request_id, bytes() as digest, str() as before, str() as after]:
            if len(request_id) == len(digest) == 32 and _is_amount(before) and _is_amount(after):
                return Leaf(request_id, digest, int(before), int(after))
    raise ProtocolError("leaves: expected [request id, receipt digest, before, after]")


def _is_amount(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 39


def _unpack_map(data: bytes, names: set[str]) -> dict[str, Any]:
    if len(data) > MAX_RECORD_BYTES:
        raise ProtocolError(f"record of {len(data)} bytes is larger than the {MAX_RECORD_BYTES} allowed")
    try:
        body = msgpack.unpackb(data, raw=False, strict_map_key=True, max_ext_len=0)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolError("record is not msgpack") from error
    if not isinstance(body, dict) or body.keys() != names:
        raise ProtocolError(f"record: expected the fields {', '.join(sorted(names))}")
    return body
