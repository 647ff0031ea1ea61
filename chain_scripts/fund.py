"""`efedllm fund`: coin for gas and tokens, on a local chain only."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from efedllm.options import add_chain_options, emit

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.chain import Chain


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "fund",
        help="get coin and tokens on a local chain",
        description="Send coin for gas, and payment tokens, from the account of the local chain that deployed.",
    )
    parser.add_argument(
        "addresses",
        nargs="*",
        metavar="ADDRESS",
        help="(default: the keys of --data-dir; the hot key gets coin only, the session key nothing)",
    )
    parser.add_argument("--work", metavar="AMOUNT", default="10000", help="whole tokens each (default: 10000; 0: none)")
    parser.add_argument("--eth", metavar="AMOUNT", default="10", help="whole coins each (default: 10; 0: none)")
    add_chain_options(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    from .network import run_on_chain

    return run_on_chain(arguments, _fund)


async def _fund(arguments: Namespace, chain: Chain) -> int:
    from efedllm.chain.amounts import format_amount, parse_amount
    from efedllm.chain.binding import Call
    from efedllm.chain.local import development_account
    from efedllm.chain.transactions import UnlockedAccount

    from .network import show_amount

    wei = 0 if arguments.eth == "0" else parse_amount(arguments.eth, 18)
    amount = 0 if arguments.work == "0" else parse_amount(arguments.work, chain.deployment.token_decimals)
    sender = chain.sender(UnlockedAccount(development_account(arguments.rpc)))
    funded, lines, calls = [], [], []
    for address, gets_tokens in _receivers(arguments):
        tokens = amount if gets_tokens else 0
        if wei:
            calls.append(Call(address, b"", "transfer of coin", wei))
        if tokens:
            calls.append(chain.token.transfer(address, tokens))
        funded.append({"address": address, "eth": str(wei), "work": str(tokens)})
        lines.append(f"{address} got {format_amount(wei, 18)} ETH and {show_amount(tokens, chain.deployment)}")
    await sender.send_all(calls)
    emit(arguments, {"funded": funded}, "\n".join(lines))
    return 0


def _receivers(arguments: Namespace) -> list[tuple[str, bool]]:
    """Addresses, and whether they get tokens. Raises ChainError for none or a malformed one."""
    from efedllm.chain.addresses import parse_address
    from efedllm.chain.errors import KeyStoreError
    from efedllm.chain.keys import KeyRole, KeyStore

    if arguments.addresses:
        return [(parse_address(text), True) for text in arguments.addresses]
    store = KeyStore(arguments.data_dir)
    keys = [key for key in store.list() if key.role is not KeyRole.SESSION]
    if not keys:
        raise KeyStoreError(f"no keys in {store.folder}: run `efedllm keys new` or name an address")
    return [(key.address, key.role is KeyRole.COLD) for key in keys]
