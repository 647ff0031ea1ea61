"""That a receipt may be disputed, as the contract wants it shown: its place in a claim, and the point that drew it."""

from collections.abc import Sequence

from eth_utils.crypto import keccak

from efedllm.chain.dispute_game import BookLeaf, Part
from efedllm.chain.dispute_game import Draw as DrawProof
from efedllm.protocol.claims import GROUP, Entry
from efedllm.protocol.drawing import BPS, DrawPolicy, points
from efedllm.protocol.merkle import prove
from efedllm.protocol.vouchers import Leaf, keccak_node

from .findings import Claim, Draw


class NotDrawn(ValueError):
    """No point lies in the leaf."""


def prove_draw(policy: DrawPolicy, claim: Claim, draw: Draw, leaves: Sequence[Leaf]) -> DrawProof:
    """leaves: all under the entry's root. Raises NotDrawn for a leaf that is not drawn, or of a claim without seed."""
    entry = claim.entries[draw.entry]
    part = prove_part(claim, draw, leaves)
    if policy.minimum_rate_bps >= BPS:
        return DrawProof(part)
    if claim.seed is None:
        raise NotDrawn(f"claim {claim.index} of {claim.worker} has no seed yet")
    reaching = [at for at, leaf in enumerate(leaves) if leaf.after > entry.start and leaf.before < entry.end]
    first, last = reaching[0], reaching[-1]
    leaf = draw.leaf
    # Fewer leaves give fewer points, the same ones: a point that is among those of a single leaf needs no ends.
    for count, ends in ((1, ()), (len(reaching), (first, last))):
        found = points(policy, claim.seed, entry, count)
        point = next((at for at, value in enumerate(found) if leaf.before < value <= leaf.after), None)
        if point is not None:
            hashes = [one.hash() for one in leaves]
            return DrawProof(part, tuple(_book_leaf(leaves, hashes, at) for at in ends), point)
    raise NotDrawn(f"receipt 0x{leaf.receipt_digest.hex()} of claim {claim.index} of {claim.worker} is not drawn")


def prove_part(claim: Claim, draw: Draw, leaves: Sequence[Leaf]) -> Part:
    """Where in its claim the money for a receipt lies."""
    groups = [_pack(claim.entries[at : at + GROUP]) for at in range(0, len(claim.entries), GROUP)]
    hashes = [leaf.hash() for leaf in leaves]
    return Part(
        claim_index=claim.index,
        entry=draw.entry,
        entries=groups[draw.entry // GROUP],
        groups=tuple(bytes(keccak(b"\x00" + group)) for group in groups),
        leaf=_book_leaf(leaves, hashes, draw.leaf_index),
    )


def _book_leaf(leaves: Sequence[Leaf], hashes: Sequence[bytes], at: int) -> BookLeaf:
    leaf = leaves[at]
    return BookLeaf(leaf.receipt_digest, leaf.before, leaf.after, at, tuple(prove(hashes, at, keccak_node)))


def _pack(entries: Sequence[Entry]) -> bytes:
    return b"".join(entry.pack() for entry in entries)
