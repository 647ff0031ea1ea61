"""`efedllm verify-deployment`: are the contracts on the chain those of the source, created as the file says?"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from efedllm.options import add_chain_options, emit, progress, table

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Collection, Iterable, Mapping

    from efedllm.chain.abi import Signature
    from efedllm.chain.chain import Chain

    from .comparison import Finding

_CHECKOUT = Path(__file__).resolve().parents[1]
# Contracts of one deployment follow each other; this is an hour of blocks on the slowest chains.
_CREATION_BLOCKS = 300


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "verify-deployment",
        help="compile the source again and compare it with the contracts on the chain",
        description="Compile the contracts from source and compare them with those on the chain: code, constructor"
        " arguments, what they answer, and the transactions that created them. Exit code 0 only if all agree.",
    )
    parser.add_argument(
        "--source", type=Path, metavar="DIR", help="a checkout with its npm packages (default: this program's own)"
    )
    parser.add_argument(
        "--fee-recipient", metavar="ADDRESS", help="who has to get the protocol fee (default: whoever it is is shown)"
    )
    parser.add_argument(
        "--reward-pool", metavar="ADDRESS", help="who has to get a share of slashes (default: whoever it is is shown)"
    )
    add_chain_options(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    from .network import run_on_chain

    return run_on_chain(arguments, _verify)


async def _verify(arguments: Namespace, chain: Chain) -> int:
    from efedllm.chain.abi import Signature
    from efedllm.chain.addresses import parse_address
    from efedllm.chain.compiled import compile_checkout

    from .comparison import compare
    from .expectations import OpenAddresses, expectations

    open_addresses = OpenAddresses(
        parse_address(arguments.fee_recipient) if arguments.fee_recipient else None,
        parse_address(arguments.reward_pool) if arguments.reward_pool else None,
    )
    expected = expectations(chain.deployment, await chain.rpc.chain_id(), open_addresses, await _parts(chain))
    checkout = _checkout(arguments.source)
    progress(f"compiling {checkout}")
    compiled = compile_checkout(checkout, list(expected))
    creations = await _creations(chain, {item.address for item in expected.values()})
    findings = [
        compare(
            compiled[name],
            item,
            await chain.rpc.code(item.address),
            await _read(chain, item.address, map(Signature.parse, compiled[name].getters)),
            creations.get(item.address),
        )
        for name, item in expected.items()
    ]
    differences = [line for finding in findings for line in finding.differences]
    result = {
        "agrees": not differences,
        "source": str(checkout),
        "contracts": [vars(finding) for finding in findings],
    }
    emit(arguments, result, _text(findings, differences))
    return 1 if differences else 0


def _checkout(given: Path | None) -> Path:
    """Raises ChainError if there are no contracts to compile."""
    from efedllm.chain.errors import ChainError
    from efedllm.chain.solidity import is_checkout

    folder = given or _CHECKOUT
    if not is_checkout(folder):
        raise ChainError(f"there are no contracts in {folder}: name a checkout with --source DIR")
    return folder.resolve()


async def _creations(chain: Chain, wanted: Collection[str]) -> Mapping[str, bytes]:
    """Input of the transactions that created these contracts, of those that are found."""
    from efedllm.chain.errors import ChainError

    from .creation import creation_address

    found: dict[str, bytes] = {}
    first = chain.deployment.deploy_block
    try:
        last = min(await chain.rpc.block_number(), first + _CREATION_BLOCKS)
        for block in range(first, last + 1):
            for transaction in await chain.rpc.transactions(block):
                if transaction.to is None:
                    address = creation_address(transaction.sender, transaction.nonce)
                    if address in wanted:
                        found[address] = transaction.data
            if found.keys() == set(wanted):
                break
    except ChainError as error:  # a node that keeps no old blocks: shown as not found
        progress(f"old blocks cannot be read: {error}")
    return found


async def _parts(chain: Chain) -> dict[str, str]:
    """Judges by name, of those that are told. The addresses count where the code that tells them is the source's."""
    from efedllm.chain.abi import interface

    from .expectations import JUDGES, STEP_JUDGES

    contracts = chain.deployment.contracts
    if not contracts.has_game:
        return {}
    found: dict[str, str] = {}
    for address, name, getters in (
        (contracts.dispute_game, "DisputeGame", JUDGES),
        (contracts.step_verifier, "StepVerifier", STEP_JUDGES),
    ):
        signatures = interface(name).functions
        told = await _read(chain, address, [signatures[getter] for getter in getters])
        found |= {name: str(told[getter]) for getter, name in getters.items() if told[getter] is not None}
    return found


async def _read(chain: Chain, address: str, getters: Iterable[Signature]) -> dict[str, object]:
    """What a contract says about itself; None where it refuses or says something else."""
    from eth_abi.exceptions import DecodingError

    from efedllm.chain.abi import decode_values
    from efedllm.chain.errors import Reverted

    values: dict[str, object] = {}
    for signature in getters:
        try:
            [value] = decode_values(signature.outputs, await chain.rpc.call(address, signature.hash[:4]))
        except (DecodingError, Reverted):
            value = None
        values[signature.name] = value
    return values


def _text(findings: list[Finding], differences: list[str]) -> str:
    rows = [(item.contract, item.address, item.code, item.arguments, item.creation) for item in findings]
    lines = [table(("contract", "address", "code", "arguments", "creation"), rows)]
    lines += [f"{item.contract}: {name} {value}" for item in findings for name, value in item.values.items()]
    lines += differences or ["everything agrees with the source and with the deployment file"]
    return "\n".join(lines)
