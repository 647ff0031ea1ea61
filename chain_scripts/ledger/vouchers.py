"""What clients signed behind every claim, from the transactions' inputs."""

from collections.abc import Iterable, Mapping
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
        signed = list(_signed(domain, offered))
        for part in state.parts:
            voucher = _behind(part, signed)
            if voucher is None:
                wanted = f"a voucher signed by {part.channel.session_key}"
                check.differences.append(Difference(f"{key}, {part.channel}", "voucher", wanted, "none in the input"))
            else:
                check.paid.append(Paid(key, part.channel, voucher))
    return check


def _signed(domain: eip712.Domain, offered: Iterable[tuple[Voucher, bytes]]) -> Iterable[tuple[Voucher, str]]:
    """Vouchers with whoever signed them; without those that nobody can have signed."""
    for voucher, signature in offered:
        try:
            yield voucher, eip712.recover(domain, voucher, signature)
        except ProtocolError:
            continue


def _behind(part: Part, signed: Iterable[tuple[Voucher, str]]) -> Voucher | None:
    """The voucher that gave a claim this part: its total is the end, unless the deposit was smaller than the total."""
    for voucher, signer in signed:
        whose = voucher.payer, signer, voucher.epoch, voucher.receiptsRoot
        if whose != (part.channel.payer, part.channel.session_key, part.epoch, part.entry.receipts_root):
            continue
        if min(voucher.total, part.deposit) == part.entry.end:
            return voucher
    return None
