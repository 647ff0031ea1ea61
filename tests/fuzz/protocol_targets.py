"""Targets of the protocol package: frames, records, leaves, fetches, claim entries, signatures, Merkle proofs."""

import contextlib
from dataclasses import replace

from eth_account import Account
from eth_utils.crypto import keccak

from efedllm.protocol import eip712, messages
from efedllm.protocol.claims import Entry, commitment, unpack_entries
from efedllm.protocol.errors import ProtocolError, VoucherError
from efedllm.protocol.frames import decode
from efedllm.protocol.merkle import prove, tree_root, verify
from efedllm.protocol.messages import Message, parse
from efedllm.protocol.objects import Fetch, Link, Receipt, Request, Voucher
from efedllm.protocol.receipts import check_shape, check_tokens
from efedllm.protocol.records import Record, pack_fetch, pack_leaves, unpack_fetch, unpack_leaves
from efedllm.protocol.requests import ModelLimits, check_prompt, check_request
from efedllm.protocol.values import Struct
from efedllm.protocol.vouchers import Book, Leaf
from tests.fuzz.target import Target
from tests.vectors.make_protocol import DOMAIN, signed_objects

KEY = Account.from_key(keccak(b"efedllm fuzz key"))
OBJECTS = [value for value, _ in signed_objects()]
REQUESTS = [value for value in OBJECTS if isinstance(value, Request)]
RECEIPTS = [value for value in OBJECTS if isinstance(value, Receipt)]
VOUCHERS = [value for value in OBJECTS if isinstance(value, Voucher)]
ID = eip712.digest(DOMAIN, REQUESTS[0])
SALT = b"\x55" * 32


def sign(value: Struct) -> bytes:
    return eip712.sign(DOMAIN, value, KEY)


def all_messages() -> list[Message]:
    """One of every type at least."""
    fetched = [
        messages.Opened(ID, 3, 10**20, 320),
        messages.Challenge(SALT),
        messages.LinkUp(ID, KEY.address, sign(Link(ID, KEY.address, SALT)), messages.ROLE_ROWS),
        messages.Linked(ID),
        messages.Rows(ID, 64, [7, 2**32 - 1], bytes(range(192))),
        messages.Token(ID, 70, 12, "stop"),
        messages.Credited(ID, 2**128 - 1),
        messages.End(ID, 70, [12], "length"),
        messages.Cancel(ID),
        messages.Failure(ID, "busy", "this worker serves 8 sessions already: try again later"),
    ]
    opens = [messages.Open(ID, value, sign(value), SALT, [1, 2, 300]) for value in REQUESTS]
    receipts = [messages.Signed(ID, value, sign(value)) for value in RECEIPTS]
    payments = [messages.Payment(ID, value, sign(value), SALT) for value in VOUCHERS]
    return [*opens, *receipts, *payments, *fetched]


def frames() -> list[bytes]:
    return [message.frame().encode() for message in all_messages()]


def frame(data: bytes) -> bytes:
    message = parse(decode(data))
    if isinstance(message, messages.Open):
        with contextlib.suppress(ProtocolError):
            check_request(message.request, ModelLimits(message.request.modelId, 8, 1000, 4096), 0)
            check_prompt(message.request, message.salt, message.prompt, 1000)
    return message.frame().encode()


def record(data: bytes) -> bytes:
    found = Record.unpack(data)
    for receipt, signature in [*found.receipts, *found.upstream]:
        with contextlib.suppress(ProtocolError):
            eip712.recover(DOMAIN, receipt, signature)
        with contextlib.suppress(ProtocolError):
            check_shape(found.request, ID, receipt)
            check_tokens(found.request, receipt, found.prompt, found.generated)
    return found.pack()


def records() -> list[bytes]:
    request, signed = REQUESTS[0], [(value, sign(value)) for value in RECEIPTS]
    return [
        Record(request, sign(request), SALT, [1, 2, 3], [4], signed[:2], b"", []).pack(),
        Record(request, sign(request), SALT, [1], [], signed[:1], bytes(96), signed[1:2]).pack(),
        Record(replace(request, stopIds=(), path=()), b"", b"", [], [], [], b"").pack(),
    ]


def leaves(data: bytes) -> bytes:
    found = unpack_leaves(data)
    tree_root([leaf.hash() for leaf in found])
    Book.restore(KEY.address, KEY.address, 1, found)
    return pack_leaves(found)


def books() -> list[bytes]:
    made = [Leaf(keccak(bytes([at])), keccak(bytes([at, 1])), at * 10**19, (at + 1) * 10**19) for at in range(9)]
    return [pack_leaves(made[:count]) for count in (0, 1, 2, 9)]


def fetch(data: bytes) -> bytes:
    wanted, signature = unpack_fetch(data)
    with contextlib.suppress(ProtocolError):
        eip712.recover(DOMAIN, wanted, signature)
    return pack_fetch(wanted, signature)


def fetches() -> list[bytes]:
    return [pack_fetch(value, sign(value)) for value in (Fetch(ID, KEY.address, at) for at in (1, 2**32, 2**64 - 1))]


def entries(data: bytes) -> bytes:
    found = unpack_entries(data)
    commitment(found)
    return b"".join(entry.pack() for entry in found)


def claims() -> list[bytes]:
    entry = Entry(keccak(b"channel")[:20], 5, 2**96 - 1, keccak(b"root"))
    return [entry.pack() * count for count in (0, 1, 9)]


_SIGNED = keccak(b"efedllm fuzz digest")
_SIGNATURE = bytes(KEY.unsafe_sign_hash(_SIGNED).signature)


def signature(data: bytes) -> bytes:
    """Nobody but the signer has a second signature of the same digest: any other bytes are another's, or nobody's."""
    signer = eip712.recover_digest(_SIGNED, data)
    if signer == KEY.address:
        assert data == _SIGNATURE
    r, vs = eip712.compact(data)
    return r + bytes([vs[0] & 0x7F]) + vs[1:] + bytes([27 + (vs[0] >> 7)])


_LEAVES = [keccak(bytes([at])) for at in range(5)]
_ROOT = tree_root(_LEAVES)


def proof(data: bytes) -> bytes:
    """Index, then leaf and siblings with a length byte each, against a tree of five leaves."""
    index, parts, at = data[0] if data else 0, [], 1
    while at < len(data):
        if at + data[at] >= len(data):
            raise VoucherError("cut short")
        parts.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    if not parts or not verify(_ROOT, parts[0], index, len(_LEAVES), parts[1:]):
        raise VoucherError("not proved")
    return _proof(index)


def _proof(index: int) -> bytes:
    parts = [_LEAVES[index], *prove(_LEAVES, index)]
    return bytes([index]) + b"".join(bytes([len(part)]) + part for part in parts)


def proofs() -> list[bytes]:
    return [_proof(index) for index in range(len(_LEAVES))]


TARGETS = (
    Target("frame", frame, frames, "frame", ProtocolError, runs=200_000),
    Target("record", record, records, "msgpack", ProtocolError, runs=50_000),
    Target("leaves", leaves, books, "msgpack", ProtocolError, runs=100_000),
    Target("fetch", fetch, fetches, "msgpack", ProtocolError, runs=100_000),
    Target("entries", entries, claims, "bytes", ProtocolError, runs=300_000),
    Target("signature", signature, lambda: [_SIGNATURE], "bytes", ProtocolError, runs=100_000),
    Target("proof", proof, proofs, "bytes", VoucherError, runs=300_000),
)
