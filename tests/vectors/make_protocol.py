"""Writes the golden vectors of the protocol: `python -m tests.vectors.make_protocol` from the checkout's root.

Every digest is computed a second time by eth_account's EIP-712 encoder and every root by a naive padded tree, so the
files do not merely repeat what `efedllm.protocol` says. Solidity and Python tests read them.
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_utils.crypto import keccak

from efedllm.protocol import claims, drawing, eip712, merkle
from efedllm.protocol.objects import Fetch, Hop, Link, Receipt, Request, Sampling, Voucher
from efedllm.protocol.pricing import fee_of
from efedllm.protocol.values import ZERO_HASH, Struct
from efedllm.protocol.vouchers import Book, Leaf

FOLDER = Path(__file__).parent
DOMAIN = eip712.Domain(31337, "0xCf7Ed3AccA5a467e9e704C703E8D87F634fB0Fc9")
COUNTS = (*range(10), 17)

# Throw-away keys, derived so that none has to be written down.
PAYER, SESSION, HOT_A, HOT_B, COLD_A, COLD_B, COLD_C = (
    Account.from_key(keccak(b"efedllm vector key " + name))
    for name in (b"payer", b"session", b"hot a", b"hot b", b"cold a", b"cold b", b"cold c")
)


def digest_of(label: str) -> bytes:
    """32 bytes that stand for a hash nobody needs to know the preimage of."""
    return sha256(label.encode()).digest()


def typed_data(value: Struct) -> dict[str, Any]:
    """The object as `eth_signTypedData` takes it: what wallets show and sign."""
    types: dict[str, list[dict[str, str]]] = {}

    def collect(kind: type[Struct]) -> None:
        members = []
        for item in kind.__dataclass_fields__.values():
            name = item.metadata["abi"]
            members.append({"name": item.name, "type": name})
            inner = {"Hop": Hop, "Sampling": Sampling}.get(name.removesuffix("[]"))
            if inner is not None:
                collect(inner)
        types[kind.__name__] = members

    collect(type(value))
    types["EIP712Domain"] = [
        {"name": "name", "type": "string"},
        {"name": "version", "type": "string"},
        {"name": "chainId", "type": "uint256"},
        {"name": "verifyingContract", "type": "address"},
    ]
    return {
        "types": types,
        "primaryType": type(value).__name__,
        "domain": {
            "name": "eFedLLM",
            "version": "1",
            "chainId": DOMAIN.chain_id,
            "verifyingContract": DOMAIN.verifying_contract,
        },
        "message": {name: list(item) if isinstance(item, tuple) else item for name, item in asdict(value).items()},
    }


def independent_digest(value: Struct) -> tuple[bytes, bytes]:
    """(struct hash, digest) by eth_account."""
    message = encode_typed_data(full_message=typed_data(value))
    return bytes(message.body), bytes(_hash_eip191_message(message))


def naive_root(leaves: list[bytes], combine: Callable[[bytes, bytes], bytes]) -> bytes:
    """The definition, word for word: pad with 32 zero bytes to a power of two, then halve until one is left."""
    if not leaves:
        return bytes(32)
    level = list(leaves)
    while len(level) & (len(level) - 1):
        level.append(bytes(32))
    while len(level) > 1:
        level = [combine(left, right) for left, right in zip(level[::2], level[1::2], strict=True)]
    return level[0]


def sha_node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def keccak_node(left: bytes, right: bytes) -> bytes:
    return bytes(keccak(b"\x01" + left + right))


def plain(value: object) -> object:
    """JSON form: integers as decimal strings, bytes as 0x-hex."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def signed_objects() -> list[tuple[Struct, Any]]:
    """What is signed by whom; extremes of every integer type are among them."""
    one = (Hop(COLD_A.address, 0, 4, 3, 10),)
    three = (
        Hop(COLD_A.address, 0, 2, 3, 10),
        Hop(COLD_B.address, 2, 3, 0, 7),
        Hop(COLD_C.address, 3, 4, (1 << 128) - 1, 1),
    )

    def request(path: tuple[Hop, ...], stop_ids: tuple[int, ...], nonce: int, sampling: Sampling) -> Request:
        return Request(
            payer=PAYER.address,
            nonce=nonce,
            expiry=1_900_000_000,
            kind=0,
            modelId=digest_of("model"),
            path=path,
            promptRoot=digest_of(f"prompt {nonce}"),
            promptCount=70,
            maxTokens=40,
            stopIds=stop_ids,
            seed=(42).to_bytes(32),
            sampling=sampling,
        )

    def receipt(shard: int, hop: Hop, generated: int, upstream: bytes, epoch: int) -> Receipt:
        positions = 70 + generated - 1 if generated else 64
        return Receipt(
            requestId=digest_of("request"),
            shard=shard,
            worker=hop.worker,
            payer=PAYER.address,
            epoch=epoch,
            positions=positions,
            promptCount=70,
            generated=generated,
            tokenRoot=digest_of("tokens"),
            inputRoot=digest_of(f"input {shard}"),
            outputRoot=digest_of(f"output {shard}"),
            upstream=upstream,
            fee=fee_of(hop, 70, positions, generated),
        )

    greedy, warm = Sampling(0, 0, 65536), Sampling(52429, 40, 62259)
    large = (1 << 64) - 1
    return [
        (request(one, (), 0, greedy), SESSION),
        (request(one, (2,), 1, warm), SESSION),
        (request(three, (0, 2, 4095), 2, warm), SESSION),
        (request(three, (), large, Sampling(6553600, (1 << 32) - 1, 1)), SESSION),
        (request((), (), 3, greedy), SESSION),
        (receipt(0, three[0], 0, ZERO_HASH, 0), HOT_A),
        (receipt(0, three[0], 17, ZERO_HASH, 1), HOT_A),
        (receipt(1, three[1], 17, digest_of("upstream"), large), HOT_B),
        (Voucher(PAYER.address, COLD_A.address, 0, 380, 1, digest_of("root 1")), SESSION),
        (Voucher(PAYER.address, COLD_B.address, large, (1 << 128) - 1, large, digest_of("root 2")), SESSION),
        (Link(digest_of("request"), COLD_A.address, digest_of("challenge")), HOT_A),
        (Fetch(digest_of("request"), PAYER.address, 1_900_000_000), SESSION),
    ]


def eip712_vectors() -> dict[str, Any]:
    cases = []
    for value, signer in signed_objects():
        struct_hash, digest = independent_digest(value)
        assert struct_hash == eip712.struct_hash(value), f"{value}: struct hash differs from eth_account's"
        assert digest == eip712.digest(DOMAIN, value), f"{value}: digest differs from eth_account's"
        cases.append(
            {
                "type": type(value).__name__,
                "typeString": eip712.type_string(type(value)),
                "message": asdict(value),
                "structHash": struct_hash,
                "digest": digest,
                "signature": eip712.sign(DOMAIN, value, signer),
                "signer": signer.address,
            }
        )
    domain = {"chainId": DOMAIN.chain_id, "verifyingContract": DOMAIN.verifying_contract}
    return {"domain": domain, "separator": DOMAIN.separator(), "cases": cases}


def tree(leaves: list[bytes], combine: Callable[[bytes, bytes], bytes]) -> dict[str, Any]:
    root = naive_root(leaves, combine)
    assert root == merkle.tree_root(leaves, combine), f"root over {len(leaves)} leaves differs from the naive one"
    return {
        "count": len(leaves),
        "leaves": leaves,
        "root": root,
        "proofs": [merkle.prove(leaves, at, combine) for at in range(len(leaves))],
    }


def entries(count: int) -> list[claims.Entry]:
    """Claim entries with the extremes of every field among them."""
    rows = []
    for at in range(count):
        full = at % 4 == 3
        start = 0 if at % 2 == 0 else 100 * at
        end = (1 << 96) - 1 if full else start + 1 + 37 * at
        rows.append(
            claims.Entry(
                channel=claims.channel_id((PAYER if at % 2 == 0 else COLD_C).address, COLD_A.address, SESSION.address),
                start=start,
                end=end,
                receipts_root=digest_of(f"receipts {at}"),
            )
        )
    return rows


def merkle_vectors() -> dict[str, Any]:
    tokens = [[(at * 7919) % 32000 for at in range(count)] for count in COUNTS]
    rows = [bytes(at % 251 for at in range(length)) for length in (4, 1023, 1024, 1025, 3072, 4096 * 4)]
    paid = []
    for count in COUNTS:
        leaves = [Leaf(ZERO_HASH, digest_of(f"receipt {at}"), at * 11, (at + 1) * 11) for at in range(count)]
        case = tree([leaf.hash() for leaf in leaves], keccak_node)
        case["receiptDigests"] = [leaf.receipt_digest for leaf in leaves]
        case["before"] = [leaf.before for leaf in leaves]
        case["after"] = [leaf.after for leaf in leaves]
        paid.append(case)
    claimed = []
    for count in COUNTS[1:]:
        made = entries(count)
        claimed.append(
            {
                "entries": [asdict(entry) for entry in made],
                "packed": b"".join(entry.pack() for entry in made),
                "commitment": claims.commitment(tuple(made)),
            }
        )
    return {
        "sha256": [tree([merkle.leaf_hash(bytes([at])) for at in range(count)], sha_node) for count in COUNTS],
        "tokens": [
            tree([sha256(b"\x00" + token.to_bytes(4, "little")).digest() for token in ids], sha_node) | {"tokens": ids}
            for ids in tokens
        ],
        "rows": [{"data": row, "root": merkle.row_root(row)} for row in rows],
        "vouchers": paid,
        "claims": claimed,
    }


def voucher_vectors() -> dict[str, Any]:
    """One channel over a sequence of receipts: grown in place, interleaved with others, and returned to."""
    a, b, c = digest_of("request a"), digest_of("request b"), digest_of("request c")
    book = Book(PAYER.address, COLD_A.address, 1)
    steps = []
    for at, (request_id, fee) in enumerate([(a, 5), (a, 60), (b, 1), (a, 61), (a, 300), (c, 7), (b, 2), (b, 90)]):
        receipt_digest = digest_of(f"step {at}")
        leaf, replaces = book.next_leaf(request_id, receipt_digest, fee)
        voucher = book.voucher_after(leaf, replaces)
        book.add(leaf, replaces)
        assert voucher.receiptsRoot == naive_root([item.hash() for item in book.leaves], keccak_node)
        steps.append(
            {
                "requestId": request_id,
                "receiptDigest": receipt_digest,
                "fee": fee,
                "before": leaf.before,
                "after": leaf.after,
                "replaces": replaces,
                "voucher": asdict(voucher),
                "digest": eip712.digest(DOMAIN, voucher),
            }
        )
    return {"payer": book.payer, "worker": book.worker, "epoch": book.epoch, "steps": steps}


def drawing_vectors() -> dict[str, Any]:
    cases = []
    bounds = [0, 10, 11, 500, 1000, 1001, 5000]
    for at, (rate, slash, start, end) in enumerate(
        [(0, 0, 0, 5000), (500, 0, 0, 5000), (500, 10_000, 10, 1000), (0, 3000, 0, 5000), (10_000, 1, 11, 1001)]
    ):
        policy = drawing.DrawPolicy(rate, slash, 5000)
        leaves = [
            Leaf(digest_of(f"request {i}"), digest_of(f"leaf {i}"), *pair)
            for i, pair in enumerate(itertools.pairwise(bounds))
        ]
        entry = claims.Entry(
            claims.channel_id(PAYER.address, COLD_A.address, SESSION.address),
            start,
            end,
            naive_root([leaf.hash() for leaf in leaves], keccak_node),
        )
        seed = digest_of(f"seed {at}")
        cases.append(
            {
                "policy": asdict(policy),
                "seed": seed,
                "entry": asdict(entry),
                "bounds": bounds,
                "points": drawing.points(policy, seed, entry, len(leaves)),
                "drawn": drawing.draw(policy, seed, entry, leaves),
            }
        )
    return {"cases": cases}


VECTORS: dict[str, Callable[[], dict[str, Any]]] = {
    "eip712": eip712_vectors,
    "merkle": merkle_vectors,
    "vouchers": voucher_vectors,
    "drawing": drawing_vectors,
}


def render(name: str) -> str:
    """The text of `tests/vectors/{name}.json`."""
    return json.dumps(plain(VECTORS[name]()), indent=1) + "\n"


if __name__ == "__main__":
    for name in VECTORS:
        (FOLDER / f"{name}.json").write_text(render(name))
