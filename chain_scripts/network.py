"""What the verbs share: the chain they talk to, the keys they send with, and how they show what they found."""

import asyncio
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from efedllm.chain.amounts import format_amount
from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.errors import ChainError
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.transactions import Receipt, Sender
from efedllm.options import DEFAULT_MAX_GAS_PRICE, password


def run_on_chain(arguments: Namespace, work: Callable[[Namespace, Chain], Awaitable[int]]) -> int:
    """Run `work` on the chain behind --rpc with the contracts of --deployment; returns its exit code."""

    async def run() -> int:
        highest = getattr(arguments, "max_gas_price", DEFAULT_MAX_GAS_PRICE)  # commands that only read have none
        async with await Chain.connect(arguments.rpc, arguments.deployment, max_fee_wei=highest) as chain:
            return await work(arguments, chain)

    return asyncio.run(run())


def own_address(arguments: Namespace) -> str:
    """The participant or payer of --data-dir: the address of its cold key. Takes no password."""
    return KeyStore(arguments.data_dir).find(KeyRole.COLD).address


def own_sender(arguments: Namespace, chain: Chain, role: KeyRole = KeyRole.COLD) -> Sender:
    return chain.sender(KeyStore(arguments.data_dir).load(role, password(arguments)))


async def approve_and_send(
    chain: Chain, sender: Sender, call: Call, amount: int, before: Sequence[Call] = ()
) -> Receipt:
    """Send a call that takes `amount` tokens, after the calls `before` it and after allowing it exactly that.

    Raises ChainError for too few tokens.
    """
    assert call.to is not None
    owned = await chain.token.balance_of(sender.address)
    if owned < amount:
        raise ChainError(
            f"{sender.address} has {show_amount(owned, chain.deployment)}, {show_amount(amount, chain.deployment)}"
            " are needed (local chain: `efedllm fund`)"
        )
    if await chain.token.allowance(sender.address, call.to) < amount:
        before = [*before, chain.token.approve(call.to, amount)]
    await sender.send_all(before)
    return await sender.send(call)


def show_amount(amount: int, deployment: Deployment) -> str:
    return f"{format_amount(amount, deployment.token_decimals)} {deployment.token_symbol}"


def show_time(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


async def chain_time(chain: Chain) -> int:
    """Unix seconds that the next block will have at least."""
    return max((await chain.rpc.block()).timestamp, int(time.time()))
