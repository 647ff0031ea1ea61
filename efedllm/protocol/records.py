"""What a worker hands out about its receipts and its channels, over HTTP, to those entitled to it (msgpack maps).

`POST /v1/receipts` with `{"fetch": Fetch, "signature": bytes}` answers a `Record`; `GET /v1/books/{receiptsRoot}`
answers the leaves under a voucher's root.
"""

from dataclasses import dataclass, field
from typing import Any

from efedllm.protocol import packing
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.frames import MAX_PROMPT_TOKENS, pack_tokens, unpack_tokens
from efedllm.protocol.objects import Fetch, Receipt, Request
from efedllm.protocol.vouchers import Leaf

MAX_RECORD_BYTES = 1 << 28
_RECORD_FIELDS = ("request", "signature", "salt", "prompt", "generated", "receipts", "upstream", "rows")


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
        return packing.pack(
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

    @classmethod
    def unpack(cls, data: bytes) -> "Record":
        """Raises ProtocolError for anything that `pack` does not produce."""
        body = _unpack_map("record", data, _RECORD_FIELDS)
        for name in ("signature", "salt", "prompt", "generated", "rows"):
            if not isinstance(body[name], bytes):
                raise ProtocolError(f"record: field {name} must be bytes")
        for name in ("prompt", "generated"):
            if len(body[name]) > 4 * MAX_PROMPT_TOKENS:
                raise ProtocolError(f"record: field {name} has more than {MAX_PROMPT_TOKENS} tokens")
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
    return packing.pack(
        {"leaves": [[leaf.request_id, leaf.receipt_digest, str(leaf.before), str(leaf.after)] for leaf in leaves]}
    )


def unpack_leaves(data: bytes) -> list[Leaf]:
    """Raises ProtocolError unless the leaves are well-formed and lie end to end from 0."""
    items = _unpack_map("leaves", data, ("leaves",))["leaves"]
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
    """A uint128 as `str` writes it."""
    return text.isascii() and text.isdigit() and len(text) <= 39 and int(text) < 1 << 128 and str(int(text)) == text


def pack_fetch(fetch: Fetch, signature: bytes) -> bytes:
    """The body of `POST /v1/receipts`."""
    return packing.pack({"fetch": fetch.to_wire(), "signature": signature})


def unpack_fetch(data: bytes) -> tuple[Fetch, bytes]:
    """A fetch and its signature, which is the caller's to check. Raises ProtocolError."""
    body = _unpack_map("fetch", data, ("fetch", "signature"))
    if not isinstance(body["signature"], bytes):
        raise ProtocolError("fetch: field signature must be bytes")
    return Fetch.from_wire(body["fetch"]), body["signature"]


def _unpack_map(what: str, data: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    if len(data) > MAX_RECORD_BYTES:
        raise ProtocolError(f"{what} of {len(data)} bytes is larger than the {MAX_RECORD_BYTES} allowed")
    try:
        body = packing.unpack(data)
    except ProtocolError as error:
        raise ProtocolError(f"{what} {error}") from error
    if not isinstance(body, dict) or tuple(body) != names:
        raise ProtocolError(f"{what}: expected the fields {', '.join(names)}")
    return body
