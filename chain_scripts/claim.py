"""`efedllm claim`: a worker's vouchers to the chain."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from efedllm.options import add_key_options, emit

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.chain import Chain
    from efedllm.chain.channels import VoucherClaim
    from efedllm.protocol.objects import Voucher

_BATCH = 100  # vouchers per transaction: beyond that a voucher gets hardly cheaper


class HeldVoucher(Protocol):
    """The best voucher of a channel and epoch, from a worker's store."""

    @property
    def payer(self) -> str: ...

    @property
    def session_key(self) -> str: ...

    @property
    def voucher(self) -> Voucher: ...

    @property
    def signature(self) -> bytes: ...


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Whoever builds the command line sets `held_vouchers`, a function from data directory, chain id and `Channels`."""
    parser = subparsers.add_parser(
        "claim",
        help="turn vouchers into pending earnings",
        description="Send the best vouchers that the worker of --data-dir holds, whatever the gas costs. A worker that "
        "serves claims by itself when that pays, with its hot key; so this may run beside it with the cold key only.",
    )
    parser.add_argument(
        "--key", choices=("hot", "cold"), default="cold", help="which key sends, and pays gas (default: cold)"
    )
    add_key_options(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    from .network import run_on_chain

    return run_on_chain(arguments, _claim)


async def _claim(arguments: Namespace, chain: Chain) -> int:
    from efedllm.chain.events import Claimed
    from efedllm.chain.keys import KeyRole

    from .network import own_address, own_sender, show_amount

    worker = own_address(arguments)
    deployment = chain.deployment
    held = arguments.held_vouchers(arguments.data_dir, deployment.chain_id, deployment.contracts.channels)
    claimable = await _claimable(chain, worker, held)
    claims: list[Claimed] = []
    if claimable:
        sender = own_sender(arguments, chain, KeyRole(arguments.key))
        for first in range(0, len(claimable), _BATCH):
            receipt = await sender.send(chain.channels.claim(worker, claimable[first : first + _BATCH]))
            claims += [event for event in receipt.events if isinstance(event, Claimed)]
    total = sum(claim.amount for claim in claims)
    account = await chain.channels.account_of(worker)
    result = {
        "worker": worker,
        "claimed": str(total),
        "claims": [{"index": claim.claim_index, "amount": str(claim.amount)} for claim in claims],
        "pending": str(account.pending),
        "earnings": str(account.earnings),
    }
    text = (
        f"claimed {show_amount(total, deployment)} from {len(claimable)} channels" if claims else "nothing new to claim"
    )
    emit(arguments, result, f"{text}; pending {show_amount(account.pending, deployment)}")
    return 0


async def _claimable(chain: Chain, worker: str, held: Sequence[HeldVoucher]) -> list[VoucherClaim]:
    """The vouchers that bring something in the state of the channels now."""
    from efedllm.chain.channels import VoucherClaim
    from efedllm.chain.participants import gather_some

    states = await gather_some(chain.channels.channel_of(one.payer, worker, one.session_key) for one in held)
    return [
        VoucherClaim.of(one.voucher, one.signature)
        for one, state in zip(held, states, strict=True)
        if one.voucher.epoch == state.epoch and min(one.voucher.total, state.deposit) > state.claimed
    ]
