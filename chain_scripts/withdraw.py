"""`efedllm withdraw stake|earnings`: money out."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from efedllm.options import add_key_options, emit, progress

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.chain import Chain
    from efedllm.chain.transactions import Sender


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser("withdraw", help="get earnings or unbonded stake paid out")
    commands = parser.add_subparsers(metavar="WHAT", required=True)
    stake = commands.add_parser("stake", help="what `efedllm unstake` asked back, once nothing can reach it")
    earnings = commands.add_parser("earnings", help="release what can be released, and pay it out")
    for command, run in ((stake, run_stake), (earnings, run_earnings)):
        command.add_argument("--to", metavar="ADDRESS", help="who gets it (default: the cold key)")
        add_key_options(command)
        command.set_defaults(run=run)


def run_stake(arguments: Namespace) -> int:
    from .network import run_on_chain

    return run_on_chain(arguments, _withdraw_stake)


def run_earnings(arguments: Namespace) -> int:
    from .network import run_on_chain

    return run_on_chain(arguments, _withdraw_earnings)


async def _withdraw_stake(arguments: Namespace, chain: Chain) -> int:
    from efedllm.chain.addresses import parse_address
    from efedllm.chain.events import StakeWithdrawn

    from .network import own_sender, show_amount

    sender = own_sender(arguments, chain)
    to = parse_address(arguments.to) if arguments.to else sender.address
    receipt = await sender.send(chain.stakes.withdraw_stake(to))
    amount = sum(event.amount for event in receipt.events if isinstance(event, StakeWithdrawn))
    emit(
        arguments,
        {"to": to, "withdrawn": str(amount)},
        f"{show_amount(amount, chain.deployment)} of stake sent to {to}",
    )
    return 0


async def _withdraw_earnings(arguments: Namespace, chain: Chain) -> int:
    from efedllm.chain.addresses import parse_address
    from efedllm.chain.errors import ChainError

    from .network import own_sender, show_amount, show_time

    sender = own_sender(arguments, chain)
    to = parse_address(arguments.to) if arguments.to else sender.address
    released, next_release = await _release(chain, sender)
    account = await chain.channels.account_of(sender.address)
    waiting = f"{show_amount(account.pending, chain.deployment)} pending"
    if next_release is not None:
        waiting += f", releasable {show_time(next_release)}"
    if account.earnings == 0:
        raise ChainError(f"{sender.address} has no earnings to withdraw yet: {waiting}")
    await sender.send(chain.channels.withdraw_earnings(to))
    result = {
        "to": to,
        "withdrawn": str(account.earnings),
        "released_claims": released,
        "pending": str(account.pending),
        "next_release_at": next_release,
    }
    emit(arguments, result, f"{show_amount(account.earnings, chain.deployment)} sent to {to}\n{waiting}")
    return 0


async def _release(chain: Chain, sender: Sender) -> tuple[list[int], int | None]:
    """Release the worker's claims that can be. Returns their indices, and from when (unix) the next one can be."""
    from efedllm.chain.pending_claims import find_pending_claims
    from efedllm.chain.stake_registry import FOREVER

    from .network import chain_time

    released: list[int] = []
    later: list[int] = []
    for index in await find_pending_claims(chain, sender.address):
        until = await chain.channels.releasable_at(sender.address, index)
        if until <= await chain_time(chain):
            await sender.send(chain.channels.release(sender.address, index))
            progress(f"released claim {index}")
            released.append(index)
        elif until != FOREVER:
            later.append(until)
    return released, min(later, default=None)
