"""What a claim moved, channel by channel: the event's entries, and the vouchers in the transaction's input."""

from dataclasses import dataclass
from typing import Self

from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from efedllm.chain.abi import interface
from efedllm.protocol.objects import Voucher

GROUP = 8
"""Entries under one hash of a commitment."""
VOUCHER_BYTES = 139
"""One voucher in the input of a claim."""


def channel_id(payer: str, worker: str, session_key: str) -> bytes:
    """20 bytes that stand for a channel in the entries of a claim."""
    words = (to_canonical_address(address).rjust(32, b"\0") for address in (payer, worker, session_key))
    return bytes(keccak(b"".join(words))[:20])


@dataclass(frozen=True)
class ClaimEntry:
    """One channel's part `(start, end]` of a claim; `end` is below the voucher's total only where the deposit was."""

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
            raise ValueError(f"a claim entry has {cls.SIZE} bytes, not {len(data)}")
        return cls(data[:20], int.from_bytes(data[20:32]), int.from_bytes(data[32:44]), data[44:])

    def hash(self) -> bytes:
        """What draws are seeded with."""
        return bytes(keccak(b"\x00" + self.pack()))


def unpack_entries(data: bytes) -> tuple[ClaimEntry, ...]:
    """The entries as the event `Claimed` carries them. Raises ValueError for a broken length."""
    size = ClaimEntry.SIZE
    return tuple(ClaimEntry.unpack(data[at : at + size]) for at in range(0, len(data), size))


def commitment(entries: tuple[ClaimEntry, ...]) -> bytes:
    """What the contract keeps of a claim's entries: the hash over the hashes of groups of eight."""
    packed = [entry.pack() for entry in entries]
    groups = (keccak(b"\x00" + b"".join(packed[at : at + GROUP])) for at in range(0, len(packed), GROUP))
    return bytes(keccak(b"\x01" + b"".join(groups)))


def vouchers_in(data: bytes, worker: str) -> list[tuple[Voucher, bytes]]:
    """Vouchers, and their 65-byte signatures, in the input of a transaction that calls `claim` for `worker`.

    Empty for any other call: a claim that was made through another contract does not show its vouchers.
    """
    signature = interface("Channels").functions["claim"]
    if data[:4] != signature.hash[:4] or len(data) < 100 or data[16:36] != to_canonical_address(worker):
        return []
    start = 4 + int.from_bytes(data[36:68])
    length = int.from_bytes(data[start : start + 32])
    packed = data[start + 32 : start + 32 + length]
    size = VOUCHER_BYTES
    return [_voucher(packed[at : at + size], worker) for at in range(0, len(packed) - size + 1, size)]


def _voucher(data: bytes, worker: str) -> tuple[Voucher, bytes]:
    voucher = Voucher(
        payer=to_checksum_address(data[:20]),
        worker=worker,
        epoch=int.from_bytes(data[128:131]),
        total=int.from_bytes(data[20:32]),
        count=int.from_bytes(data[131:139]),
        receiptsRoot=data[32:64],
    )
    vs = data[96:128]
    return voucher, data[64:96] + bytes([vs[0] & 0x7F]) + vs[1:] + bytes([27 + (vs[0] >> 7)])
