"""`efedllm channel tend`: looks after a client's channels while no program of its runs."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from efedllm.options import add_key_options, emit, password, progress

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.deployment import Deployment
    from efedllm.client.tending import Tended

_DAY_SECONDS = 86_400


def add_command(commands: _SubParsersAction[ArgumentParser]) -> None:
    tend = commands.add_parser(
        "tend",
        help="deliver vouchers, fill channels up, close those without use",
        description="One pass over all channels: give workers the vouchers that they lack, fill up channels in use, "
        "close those without use or whose workers left, and end those whose withdrawal delay is over.",
    )
    tend.add_argument("--low-water", metavar="AMOUNT", help="fill up channels in use that have less (default: none)")
    tend.add_argument("--deposit", metavar="AMOUNT", help="what such a channel gets (default: twice --low-water)")
    tend.add_argument(
        "--budget", metavar="AMOUNT", help="the most ever in channels or paid from them (default: no limit)"
    )
    tend.add_argument("--idle-days", type=float, default=30, metavar="N", help="close after that (default: 30)")
    add_key_options(tend)
    tend.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    return asyncio.run(_tend(arguments))


async def _tend(arguments: Namespace) -> int:
    from efedllm.chain.amounts import parse_amount
    from efedllm.chain.chain import Chain
    from efedllm.client.api import Client, Spending

    async with await Chain.connect(arguments.rpc, arguments.deployment) as chain:
        deployment = chain.deployment
    low_water, deposit, budget = (
        None if text is None else parse_amount(text, deployment.token_decimals)
        for text in (arguments.low_water, arguments.deposit, arguments.budget)
    )
    idle_seconds = int(arguments.idle_days * _DAY_SECONDS)
    spending = Spending(deposit, budget, low_water=low_water, idle_seconds=idle_seconds)
    client = Client(arguments.rpc, deployment, arguments.data_dir, password(arguments), spending, upkeep_seconds=None)
    async with client:
        done = await client.tend()
    for problem in done.problems:
        progress(problem)
    emit(arguments, _result(done), _text(done, deployment))
    return 1 if done.problems else 0


def _result(done: Tended) -> dict[str, object]:
    """What --json prints; amounts in base units as decimal strings."""
    return {
        "delivered": [{"worker": worker, "amount": str(amount)} for worker, amount in done.delivered.items()],
        "settled": [{"worker": worker, "amount": str(amount)} for worker, amount in done.settled.items()],
        "topped_up": [{"worker": top.worker, "amount": str(top.amount)} for top in done.topped_up],
        "closing": done.closing,
        "closed": done.closed,
        "refund": str(done.refund),
        "problems": done.problems,
    }


def _text(done: Tended, deployment: Deployment) -> str:
    from .network import show_amount

    lines = [
        f"gave {worker} vouchers of {show_amount(amount, deployment)} that it lacked"
        for worker, amount in done.delivered.items()
    ]
    lines += [
        f"paid {worker} {show_amount(amount, deployment)} that earlier requests owed"
        for worker, amount in done.settled.items()
    ]
    lines += [f"filled up {top.worker} by {show_amount(top.amount, deployment)}" for top in done.topped_up]
    lines += [f"closing {worker}: run this again after the withdrawal delay" for worker in done.closing]
    lines += [f"closed {worker}" for worker in done.closed]
    if done.closed:
        lines.append(f"got back {show_amount(done.refund, deployment)}")
    return "\n".join(lines) or "nothing to do"
