"""Which receipts are checked: points drawn by value over what a claim moved, from a seed nobody knew when it was made."""

from dataclasses import dataclass

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from efedllm.protocol.vouchers import Leaf

BPS = 10_000


@dataclass(frozen=True)
class Entry:
    """One channel's part `(start, end]` of a claim; amounts in base units. Packed, it is the preimage of a commitment leaf."""

    payer: str
    session_key: str
    epoch: int
    start: int
    end: int
    total: int
    receipts_root: bytes

    SIZE = 112

    def pack(self) -> bytes:
        return (
            bytes.fromhex(self.payer[2:])
            + bytes.fromhex(self.session_key[2:])
            + self.epoch.to_bytes(4)
            + self.start.to_bytes(12)
            + self.end.to_bytes(12)
            + self.total.to_bytes(12)
            + self.receipts_root
        )

    @classmethod
    def unpack(cls, data: bytes) -> "Entry":
        if len(data) != cls.SIZE:
            raise ValueError(f"a claim entry has {cls.SIZE} bytes, not {len(data)}")
        return cls(
            payer=to_checksum_address(data[:20]),
            session_key=to_checksum_address(data[20:40]),
            epoch=int.from_bytes(data[40:44]),
            start=int.from_bytes(data[44:56]),
            end=int.from_bytes(data[56:68]),
            total=int.from_bytes(data[68:80]),
            receipts_root=data[80:112],
        )

    def hash(self) -> bytes:
        return bytes(keccak(b"\x00" + self.pack()))


@dataclass(frozen=True)
class DrawPolicy:
    """Deployment parameters of drawing. `first_slash` is base units at stake for a first fault; zero switches drawing by value off."""

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
