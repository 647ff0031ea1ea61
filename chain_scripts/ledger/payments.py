"""Whether anything was paid for twice: a receipt by two leaves, or a request from two channels."""

from collections.abc import Iterator, Mapping

from efedllm.protocol.vouchers import Leaf

from .books import BookKey
from .difference import Difference

PAIR = 64
"""Bytes of a leaf's request id and receipt digest."""


def pairs_of(leaves: list[Leaf]) -> bytes:
    """What is compared, end to end: small enough to hand over for every receipt of a ledger."""
    return b"".join(leaf.request_id + leaf.receipt_digest for leaf in leaves)


def check_payments(books: Mapping[BookKey, bytes]) -> list[Difference]:
    """`books`: `pairs_of` the leaves under the latest root of each. A request is served once per worker, by receipts
    of one channel and epoch; its receipts differ."""
    return [*_receipts(books), *_requests(books)]


def _receipts(books: Mapping[BookKey, bytes]) -> Iterator[Difference]:
    seen: dict[bytes, tuple[BookKey, int]] = {}
    for key, pairs in books.items():
        for at in range(0, len(pairs), PAIR):
            digest, leaf = pairs[at + 32 : at + PAIR], at // PAIR + 1
            if digest not in seen:
                seen[digest] = key, leaf
                continue
            first, number = seen[digest]
            both = f"by leaf {number} of {first} and again by leaf {leaf} of {key}"
            yield Difference(f"receipt 0x{digest.hex()}", "paid", "once", both)


def _requests(books: Mapping[BookKey, bytes]) -> Iterator[Difference]:
    seen: dict[tuple[str, bytes], BookKey] = {}
    for key, pairs in books.items():
        for request in dict.fromkeys(pairs[at : at + 32] for at in range(0, len(pairs), PAIR)):
            first = seen.setdefault((key.channel.worker, request), key)
            if first != key:
                both = f"{first} and {key}"
                yield Difference(f"request 0x{request.hex()}", "paid from", "one channel and epoch", both)
