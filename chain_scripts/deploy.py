"""`efedllm deploy`: the contracts of a new network, and the file in which everybody finds them."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from efedllm.options import add_key_options, emit, password, progress, table

from .presets import LOCAL, NETWORK

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.deployment import Deployment
    from efedllm.chain.rpc import Rpc
    from efedllm.chain.transactions import Sender

_NUMBERS = {
    "challenge_window": "seconds in which a claim can be challenged",
    "withdrawal_delay": "seconds until a payer gets back what is not claimed",
    "unbonding": "seconds until stake can be withdrawn",
    "hot_key_delay": "seconds until a new hot key signs",
    "stake_multiple": "stake per amount released within a window",
    "beacon_delay": "blocks between a claim and its first beacon candidate, at least",
    "beacon_spacing": "blocks between candidates, a divisor of 256",
    "minimum_rate_bps": "least share of receipts drawn for checking, in 1/10000",
    "challenger_share_bps": "share of a slash that challengers get, in 1/10000",
    "credit_tokens": "generated tokens that a worker advances without a voucher",
    "confirmations": "blocks on top of a block that make it final for our programs",
}


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "deploy",
        help="put the contracts on a chain and write the deployment file",
        description="Put the contracts on a chain, paid by the cold key (--local: by a development account).",
    )
    parser.add_argument("--local", action="store_true", help="a local chain: its own account pays, all times are short")
    parser.add_argument("--out", type=Path, metavar="FILE", help="(default: ~/.efedllm/deployments/<chain id>.json)")
    parser.add_argument("--token", metavar="ADDRESS", help="an ERC-20 to pay with (default: a new token, all yours)")
    parser.add_argument("--supply", default="1000000000", metavar="AMOUNT", help="of a new token (default: 10^9)")
    parser.add_argument("--protocol-fee-bps", type=int, default=0, metavar="N", help="of what is released, in 1/10000")
    parser.add_argument("--fee-recipient", metavar="ADDRESS", help="who gets the fee (default: none is taken)")
    parser.add_argument("--first-slash", metavar="AMOUNT", help="what a first fault costs (default: 1000 tokens)")
    for name, meaning in _NUMBERS.items():
        network, local = getattr(NETWORK, name), getattr(LOCAL, name)
        defaults = f"{network}" if network == local else f"{network}, with --local {local}"
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=int, metavar="N", help=f"{meaning} (default: {defaults})")
    add_key_options(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    return asyncio.run(_run(arguments))


async def _run(arguments: Namespace) -> int:
    from efedllm.chain.deployment import default_path
    from efedllm.chain.rpc import Rpc

    async with Rpc(arguments.rpc) as rpc:
        chain_id = await rpc.chain_id()
        sender = await _sender(arguments, rpc, chain_id)
        deployment = await _deploy(arguments, rpc, chain_id, sender)
    path = arguments.out or arguments.deployment or default_path(chain_id)
    deployment.write(path)
    result = {"path": str(path), **asdict(deployment)}
    result["parameters"]["first_slash"] = str(deployment.parameters.first_slash)
    rows = [*asdict(deployment.contracts).items(), *asdict(deployment.parameters).items()]
    emit(arguments, result, f"{table(('what', 'value'), rows)}\nwritten to {path}")
    return 0


async def _sender(arguments: Namespace, rpc: Rpc, chain_id: int) -> Sender:
    from efedllm.chain.keys import KeyRole, KeyStore
    from efedllm.chain.local import development_account
    from efedllm.chain.transactions import Sender, UnlockedAccount

    if arguments.local:
        return Sender(rpc, chain_id, UnlockedAccount(development_account(arguments.rpc)), {})
    store = KeyStore(arguments.data_dir)
    store.find(KeyRole.COLD)  # a missing key is told before a missing password
    account, highest = store.load(KeyRole.COLD, password(arguments)), arguments.max_gas_price
    return Sender(rpc, chain_id, account, {}, max_fee_wei=highest)


async def _deploy(arguments: Namespace, rpc: Rpc, chain_id: int, sender: Sender) -> Deployment:
    from efedllm.chain.addresses import parse_address
    from efedllm.chain.amounts import parse_amount
    from efedllm.chain.deployment import Contracts, Deployment, Parameters
    from efedllm.chain.work_token import WorkToken
    from efedllm.protocol.values import ZERO_ADDRESS

    from .creation import Creator

    creator = Creator(rpc, sender, progress)
    preset = asdict(LOCAL if arguments.local else NETWORK)
    preset |= {name: given for name in preset if (given := getattr(arguments, name)) is not None}
    fee_recipient = parse_address(arguments.fee_recipient) if arguments.fee_recipient else ZERO_ADDRESS
    token = parse_address(arguments.token) if arguments.token else None
    if token is None:
        token = await creator.create("WorkToken", sender.address, parse_amount(arguments.supply, 18))
    binding = WorkToken(rpc, token)
    decimals, symbol = await binding.decimals(), await binding.symbol()
    first_slash = parse_amount(preset["first_slash"], decimals)
    models = await creator.create("ModelRegistry")
    beacon = await creator.create("Beacon", preset["beacon_delay"], preset["beacon_spacing"])
    # Each of the two knows the other for good, so the second one's address has to be known before it exists.
    channels = await creator.address_after_next()
    stakes = await creator.create(
        "StakeRegistry",
        (token, models, channels, ZERO_ADDRESS, preset["unbonding"], preset["hot_key_delay"]),
    )
    created = await creator.create(
        "Channels",
        (
            stakes,
            fee_recipient,
            arguments.protocol_fee_bps,
            preset["challenge_window"],
            preset["withdrawal_delay"],
            preset["stake_multiple"],
        ),
    )
    creator.check_address("Channels", created, channels)
    return Deployment(
        chain_id=chain_id,
        deploy_block=creator.first_block,
        token_symbol=symbol,
        token_decimals=decimals,
        contracts=Contracts(token, models, stakes, channels, beacon),
        parameters=Parameters(
            challenge_window_seconds=preset["challenge_window"],
            withdrawal_delay_seconds=preset["withdrawal_delay"],
            unbonding_seconds=preset["unbonding"],
            hot_key_delay_seconds=preset["hot_key_delay"],
            stake_multiple=preset["stake_multiple"],
            protocol_fee_bps=arguments.protocol_fee_bps,
            beacon_delay_blocks=preset["beacon_delay"],
            beacon_spacing_blocks=preset["beacon_spacing"],
            minimum_rate_bps=preset["minimum_rate_bps"],
            challenger_share_bps=preset["challenger_share_bps"],
            first_slash=first_slash,
            credit_tokens=preset["credit_tokens"],
            confirmations=preset["confirmations"],
        ),
    )
