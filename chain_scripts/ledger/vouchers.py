"""What clients signed behind every claim, from the transactions' inputs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from efedllm.chain.claims import vouchers_in
from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.objects import Voucher

from .difference import Difference
from .state import ChannelKey, ClaimKey, ClaimState, Part


@dataclass(frozen=True)
class Paid:
    """A voucher that a claim was made with, and the channel that it draws on."""

    claim: ClaimKey
    channel: ChannelKey
    voucher: Voucher


@dataclass
class VoucherCheck:
    """`unavailable`: claims whose vouchers are not in the transaction's own input."""

    paid: list[Paid] = field(default_factory=list)
    unavailable: list[ClaimKey] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)


@dataclass(frozen=True)
class _Offered:
    """A voucher of an input with whoever signed it."""

    voucher: Voucher
    signer: str


def check_vouchers(
    domain: eip712.Domain,
    channels: str,
    claims: Mapping[ClaimKey, ClaimState],
    inputs: Mapping[bytes, tuple[str, bytes]],
) -> VoucherCheck:
    """`inputs`: receiver and input of every claim's transaction, by its hash."""
    check = VoucherCheck()
    for key, state in claims.items():
        to, data = inputs[state.origin.transaction_hash]
        offered = vouchers_in(data, key.worker) if to.lower() == channels.lower() else []
        if not offered:
            check.unavailable.append(key)
            continue
        signed = [_Offered(voucher, _signer(domain, voucher, signature)) for voucher, signature in offered]
        for part in state.parts:
            voucher = _behind(part, signed)
            if voucher is not None:
                check.paid.append(Paid(key, part.channel, voucher))
                continue
            where = f"{key}, {part.channel}, transaction 0x{state.origin.transaction_hash.hex()}"
            wanted = f"of {part.entry.end}, epoch {part.epoch}, signed by {part.channel.session_key}"
            check.differences.append(Difference(where, "voucher", wanted, _instead(part, signed)))
    return check


def _signer(domain: eip712.Domain, voucher: Voucher, signature: bytes) -> str:
    try:
        return eip712.recover(domain, voucher, signature)
    except ProtocolError:
        return "nobody"


def _behind(part: Part, signed: Iterable[_Offered]) -> Voucher | None:
    """The voucher that gave a claim this part: its total is the end, unless the deposit was smaller than the total."""
    for one in signed:
        voucher = one.voucher
        whose = voucher.payer, one.signer, voucher.epoch, voucher.receiptsRoot
        if whose != (part.channel.payer, part.channel.session_key, part.epoch, part.entry.receipts_root):
            continue
        if min(voucher.total, part.deposit) == part.entry.end:
            return voucher
    return None


def _instead(part: Part, signed: Sequence[_Offered]) -> str:
    """What the input holds in its place: the voucher that agrees in most."""

    def agreements(one: _Offered) -> int:
        voucher = one.voucher
        found = voucher.receiptsRoot, voucher.total, voucher.payer, one.signer, voucher.epoch
        wanted = part.entry.receipts_root, part.entry.end, part.channel.payer, part.channel.session_key, part.epoch
        return sum(a == b for a, b in zip(found, wanted, strict=True))

    nearest = max(signed, key=agreements)
    voucher = nearest.voucher
    text = f"of {voucher.total}, epoch {voucher.epoch}, signed by {nearest.signer}"
    if voucher.payer != part.channel.payer:
        text += f", of payer {voucher.payer}"
    if voucher.receiptsRoot != part.entry.receipts_root:
        text += f", over root 0x{voucher.receiptsRoot.hex()} and not 0x{part.entry.receipts_root.hex()}"
    return text
