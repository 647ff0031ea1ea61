"""Which receipts are checked: points drawn by value, from a seed that nobody knew when the claim was made."""

from dataclasses import dataclass

from eth_utils.crypto import keccak

from efedllm.protocol.claims import Entry
from efedllm.protocol.vouchers import Leaf

BPS = 10_000


@dataclass(frozen=True)
class DrawPolicy:
    """Deployment parameters. `first_slash`: base units that a first fault costs; zero switches drawing by value off."""

    minimum_rate_bps: int
    first_slash: int
    challenger_share_bps: int


def points(policy: DrawPolicy, seed: bytes, entry: Entry, leaves: int) -> list[int]:
    """Points in `(entry.start, entry.end]`, as many as `docs/protocol.md` (Draws) asks for."""
    value = entry.end - entry.start
    if value <= 0 or leaves <= 0:
        return []
    by_count = -(-leaves * policy.minimum_rate_bps // BPS)
    by_value = 0
    if policy.first_slash > 0:
        denominator = (BPS - policy.challenger_share_bps) * policy.first_slash
        by_value, remainder = divmod(2 * value * BPS, denominator)
        if int.from_bytes(keccak(seed + entry.hash() + b"carry")) % denominator < remainder:
            by_value += 1
    count = min(max(by_count, by_value), 16 * leaves)
    base = seed + entry.hash()
    return [entry.start + 1 + int.from_bytes(keccak(base + at.to_bytes(4))) % value for at in range(count)]


def draw(policy: DrawPolicy, seed: bytes, entry: Entry, leaves: list[Leaf]) -> list[int]:
    """Indices of the drawn leaves, ascending. `leaves` are all leaves under the entry's root, end to end from 0."""
    reaching = [at for at, leaf in enumerate(leaves) if leaf.after > entry.start and leaf.before < entry.end]
    if policy.minimum_rate_bps >= BPS:
        return reaching
    chosen: set[int] = set()
    for point in points(policy, seed, entry, len(reaching)):
        chosen.update(at for at in reaching if leaves[at].before < point <= leaves[at].after)
    return sorted(chosen)
