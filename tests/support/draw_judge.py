"""The contract's checks of what shows a draw, written down in Python."""

from __future__ import annotations

from eth_utils.crypto import keccak

from efedllm.chain.dispute_game import BookLeaf
from efedllm.chain.dispute_game import Draw as DrawProof
from efedllm.protocol.claims import GROUP, Entry, commitment
from efedllm.protocol.drawing import BPS, DrawPolicy, points
from efedllm.protocol.vouchers import keccak_node
from verifier.findings import Claim


def is_shown(policy: DrawPolicy, claim: Claim, digest: bytes, proof: DrawProof) -> bool:
    """The checks of the contract, in its terms."""
    part, seed = proof.part, claim.seed
    group, within = divmod(part.entry, GROUP)
    assert seed is not None and part.groups[group] == keccak(b"\x00" + part.entries)
    if keccak(b"\x01" + b"".join(part.groups)) != commitment(claim.entries):
        return False
    entry = Entry.unpack(part.entries[76 * within : 76 * (within + 1)])

    def is_under(leaf: BookLeaf) -> bool:
        at, index = bytes(keccak(b"\x00" + leaf.digest + leaf.before.to_bytes(16) + leaf.end.to_bytes(16))), leaf.index
        for sibling in leaf.proof:
            at = keccak_node(sibling, at) if index & 1 else keccak_node(at, sibling)
            index >>= 1
        return index == 0 and at == entry.receipts_root and leaf.end > entry.start and leaf.before < entry.end

    if part.leaf.digest != digest or not is_under(part.leaf):
        return False
    if policy.minimum_rate_bps >= BPS:
        return True
    count = 1
    if proof.ends:
        first, last = proof.ends
        if not (is_under(first) and is_under(last) and first.index <= last.index):
            return False
        count = last.index - first.index + 1
    found = points(policy, seed, entry, count)
    return proof.point < len(found) and part.leaf.before < found[proof.point] <= part.leaf.end
