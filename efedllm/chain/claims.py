"""The vouchers in the input of a claim's transaction."""

from eth_utils.address import to_canonical_address, to_checksum_address

from efedllm.chain.abi import interface
from efedllm.protocol.objects import Voucher

VOUCHER_BYTES = 139
"""One voucher in the input of a claim."""


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
