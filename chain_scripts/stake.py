"""`efedllm stake`: take part, with something to lose."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from efedllm.options import add_key_options, emit, progress

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.chain import Chain
    from efedllm.chain.stake_registry import Participant, Role


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "stake",
        help="register if needed, and put tokens at stake",
        description="Put tokens of the cold key at stake; the first time it registers, with the hot key of --data-dir.",
    )
    parser.add_argument("amount", metavar="AMOUNT", help="whole tokens")
    parser.add_argument("--role", choices=("worker", "verifier"), default="worker", help="(default: worker)")
    parser.add_argument(
        "--hot-key", metavar="ADDRESS", help="the key that will sign (default: the hot key of --data-dir)"
    )
    add_key_options(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    from .network import run_on_chain

    return run_on_chain(arguments, _stake)


async def _stake(arguments: Namespace, chain: Chain) -> int:
    from efedllm.chain.amounts import parse_amount
    from efedllm.chain.stake_registry import Role

    from .network import approve_and_send, own_address, own_sender, show_amount

    amount = parse_amount(arguments.amount, chain.deployment.token_decimals)
    own, role = own_address(arguments), Role[arguments.role.upper()]
    state = await chain.stakes.participant_of(own)
    is_new = _must_register(state, role, own)
    hot_key = _hot_key(arguments) if is_new else state.hot_key
    sender = own_sender(arguments, chain)
    before = [chain.stakes.register(role, hot_key)] if is_new else []
    await approve_and_send(chain, sender, chain.stakes.stake(amount), amount, before)
    if is_new:
        progress(f"registered {own} as {arguments.role} with hot key {hot_key}")
    state = await chain.stakes.participant_of(own)
    result = {"participant": own, "role": arguments.role, "hot_key": hot_key, "stake": str(state.stake)}
    emit(arguments, result, f"{own} has {show_amount(state.stake, chain.deployment)} at stake as {arguments.role}")
    return 0


def _must_register(state: Participant, role: Role, own: str) -> bool:
    """Whether the participant is new. Raises ChainError if it has the other role or may not stake."""
    from efedllm.chain.errors import ChainError
    from efedllm.chain.stake_registry import Role

    if state.role is Role.NONE:
        return True
    if state.role is not role:
        raise ChainError(
            f"{own} is registered as a {state.role.name.lower()}: use another --data-dir for the other role"
        )
    if state.jailed:
        raise ChainError(f"{own} was slashed and is jailed: start again with another --data-dir")
    return False


def _hot_key(arguments: Namespace) -> str:
    from efedllm.chain.addresses import parse_address
    from efedllm.chain.keys import KeyRole, KeyStore

    if arguments.hot_key:
        return parse_address(arguments.hot_key)
    return KeyStore(arguments.data_dir).find(KeyRole.HOT).address
