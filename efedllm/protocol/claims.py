"""What a claim moved, channel by channel: the entries that its event carries and its commitment holds."""

from dataclasses import dataclass
from typing import Self

from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

from efedllm.protocol.errors import ProtocolError

GROUP = 8
"""Entries under one hash of a commitment."""


def channel_id(payer: str, worker: str, session_key: str) -> bytes:
    """20 bytes that stand for a channel in the entries of a claim."""
    words = (to_canonical_address(address).rjust(32, b"\0") for address in (payer, worker, session_key))
    return bytes(keccak(b"".join(words))[:20])


@dataclass(frozen=True)
class Entry:
    """One channel's part `(start, end]` of a claim, in base units; `end` is below the voucher's total only where the
    deposit was."""

    channel: bytes
    start: int
    end: int
    receipts_root: bytes

    SIZE = 76

    def pack(self) -> bytes:
        return self.channel + self.start.to_bytes(12) + self.end.to_bytes(12) + self.receipts_root

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        if len(data) != cls.SIZE:
            raise ProtocolError(f"a claim entry has {cls.SIZE} bytes, not {len(data)}")
        return cls(data[:20], int.from_bytes(data[20:32]), int.from_bytes(data[32:44]), data[44:])

    def hash(self) -> bytes:
        """What draws are seeded with."""
        return bytes(keccak(b"\x00" + self.pack()))


def unpack_entries(data: bytes) -> tuple[Entry, ...]:
    """The entries as the event `Claimed` carries them. Raises ProtocolError for a broken length."""
    return tuple(Entry.unpack(data[at : at + Entry.SIZE]) for at in range(0, len(data), Entry.SIZE))


def commitment(entries: tuple[Entry, ...]) -> bytes:
    """What the contract keeps of a claim's entries: the hash over the hashes of groups of eight."""
    packed = [entry.pack() for entry in entries]
    groups = (keccak(b"\x00" + b"".join(packed[at : at + GROUP])) for at in range(0, len(packed), GROUP))
    return bytes(keccak(b"\x01" + b"".join(groups)))
