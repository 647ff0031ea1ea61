"""`efedllm deploy`: the contracts of a new network, and the file in which everybody finds them."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from efedllm.options import add_key_options, emit, password, progress, table

from .presets import LOCAL, NETWORK

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.deployment import Deployment
    from efedllm.chain.rpc import Rpc
    from efedllm.chain.transactions import Sender

NEW_TOKEN_DECIMALS = 18
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
    "pool_share_bps": "share of a slash that the reward pool gets, in 1/10000",
    "first_slash_bps": "share of the stake that a first fault costs, if it is more, in 1/10000",
    "move_deadline": "seconds that each side of a dispute has for a move",
    "demand_grace": "seconds in which a receipt can be disputed after its tokens were demanded and published",
    "force_grace": "seconds after a request's expiry in which its receipts can be force-drawn",
    "margin": "seconds that stake stays longer than the longest dispute",
    "credit_tokens": "generated tokens that a worker advances without a voucher",
    "confirmations": "blocks on top of a block that make it final for our programs",
}


_AMOUNTS = {
    "first_slash": "what a first fault costs at least",
    "base_bond": "bond of a challenge; every open one against the same worker adds as much",
    "force_fee": "what a worker gets for a receipt that is force-drawn",
    "demand_fee": "what a worker gets for publishing tokens",
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
    parser.add_argument("--no-disputes", action="store_true", help="nobody can slash: no contracts that judge disputes")
    parser.add_argument("--reward-pool", metavar="ADDRESS", help="who gets a share of slashes (default: it is burned)")
    for kind, metavar, options in ((str, "AMOUNT", _AMOUNTS), (int, "N", _NUMBERS)):
        for name, meaning in options.items():
            network, local = getattr(NETWORK, name), getattr(LOCAL, name)
            defaults = f"{network}" if network == local else f"{network}, with --local {local}"
            option = "--" + name.replace("_", "-")
            parser.add_argument(option, type=kind, metavar=metavar, help=f"{meaning} (default: {defaults})")
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
    result = {"path": str(path), **deployment.to_plain()}
    parts = (deployment.contracts, deployment.parameters, deployment.disputes)
    rows = [row for part in parts for row in asdict(part).items()]
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
    from efedllm.chain.deployment import Deployment
    from efedllm.chain.work_token import WorkToken
    from efedllm.protocol.values import ZERO_ADDRESS

    from .creation import Creator
    from .plan import Plan, create

    def address(given: str | None) -> str:
        return parse_address(given) if given else ZERO_ADDRESS

    preset = LOCAL if arguments.local else NETWORK
    names = [item.name for item in fields(preset)]
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    token = parse_address(arguments.token) if arguments.token else None
    decimals = NEW_TOKEN_DECIMALS if token is None else await WorkToken(rpc, token).decimals()
    plan = Plan.of(
        replace(preset, **given),
        decimals,
        token=token,
        supply=parse_amount(arguments.supply, NEW_TOKEN_DECIMALS),
        fee_bps=arguments.protocol_fee_bps,
        fee_recipient=address(arguments.fee_recipient),
        reward_pool=address(arguments.reward_pool),
        has_disputes=not arguments.no_disputes,
    )
    creator = Creator(rpc, sender, progress)
    contracts = await create(plan, creator)
    return Deployment(
        chain_id=chain_id,
        deploy_block=creator.first_block,
        token_symbol=await WorkToken(rpc, contracts.token).symbol(),
        token_decimals=decimals,
        contracts=contracts,
        parameters=plan.parameters,
        disputes=plan.disputes,
    )
