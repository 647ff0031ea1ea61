"""`efedllm unstake`: ask stake back."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from efedllm.options import add_key_options, emit

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.chain import Chain


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "unstake",
        help="ask stake back; `efedllm withdraw stake` pays it out later",
        description="Ask stake back. While any is unbonding a worker gets no new requests; it can still be slashed.",
    )
    parser.add_argument("amount", nargs="?", metavar="AMOUNT", help="whole tokens (default: all)")
    parser.add_argument("--cancel", action="store_true", help="put what is unbonding back at stake instead")
    add_key_options(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    from .network import run_on_chain

    return run_on_chain(arguments, _unstake)


async def _unstake(arguments: Namespace, chain: Chain) -> int:
    from efedllm.chain.amounts import parse_amount
    from efedllm.chain.errors import ChainError
    from efedllm.chain.stake_registry import FOREVER

    from .network import own_address, own_sender, show_amount, show_time

    own = own_address(arguments)
    if arguments.cancel:
        call = chain.stakes.cancel_unbond()
    else:
        stake = (await chain.stakes.participant_of(own)).stake
        if stake == 0:
            raise ChainError(f"{own} has nothing at stake: `efedllm status` shows who has")
        given = arguments.amount
        call = chain.stakes.request_unbond(parse_amount(given, chain.deployment.token_decimals) if given else stake)
    await own_sender(arguments, chain).send(call)
    state, until = await chain.stakes.participant_of(own), await chain.stakes.withdrawable_at(own)
    text = f"at stake: {show_amount(state.stake, chain.deployment)}"
    if until != FOREVER:
        text += f"\nunbonding: {show_amount(state.unbonding, chain.deployment)}, withdrawable {show_time(until)}"
    result = {
        "participant": own,
        "stake": str(state.stake),
        "unbonding": str(state.unbonding),
        "withdrawable_at": None if until == FOREVER else until,
    }
    emit(arguments, result, text)
    return 0
