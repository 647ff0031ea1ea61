"""`efedllm audit`: rebuild the ledger from events alone, and name everything that does not add up."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING

from efedllm.options import add_key_options, emit

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.chain import Chain
    from efedllm.client.records import Reader

    from .ledger.report import Audit

_DESCRIPTION = """\
Rebuild every deposit, claim, pending amount, stake and balance from events alone, compare them with the contracts at
one block, and check the vouchers and receipts behind every claim. Anybody can do this; it takes no key.

Exit code: 0 if everything adds up, 1 if anything differs. What workers do not hand out is counted as unavailable.
"""


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "audit",
        help="check that the ledger adds up",
        description=_DESCRIPTION,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the ledger, a line for every movement of money")
    parser.add_argument(
        "--records",
        action="store_true",
        help="also read the records behind all receipts, as the verifier or the payer of --data-dir",
    )
    add_key_options(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    from .network import run_on_chain

    return run_on_chain(arguments, _audit)


async def _audit(arguments: Namespace, chain: Chain) -> int:
    from .ledger.report import write_csv
    from .network import show_amount

    reader = await _reader(arguments, chain) if arguments.records else None
    audit = await run_audit(chain, reader)
    if arguments.csv:
        write_csv(audit.ledger, arguments.csv)
    text = "" if arguments.json else audit.to_text(lambda amount: show_amount(amount, chain.deployment))
    emit(arguments, audit.to_json(), text)
    return audit.exit_code


async def run_audit(chain: Chain, reader: Reader | None = None) -> Audit:
    """The whole audit as of the last confirmed block. Raises ChainError. With a reader, records are read too."""
    from efedllm.chain.batch import transaction_inputs

    from .ledger.books import by_book
    from .ledger.collect import Collector, tasks_of
    from .ledger.compare import compare
    from .ledger.difference import Difference
    from .ledger.fold import fold
    from .ledger.report import Audit
    from .ledger.snapshot import read_rules, read_snapshot
    from .ledger.vouchers import check_vouchers

    deployment = chain.deployment
    domain = deployment.domain
    block = await chain.confirmed_block()
    contracts = deployment.contracts.names().values()
    events = [event async for page in chain.events(*contracts).read(last=block) for event in page.events]
    rules = await read_rules(chain, block)
    ledger = fold(events, rules)
    snapshot = await read_snapshot(chain, ledger, block, rules)
    differences = compare(ledger, snapshot, rules)
    if (separator := await chain.channels.domain_separator()) != domain.separator():
        differences.append(Difference("Channels", "domain separator", domain.separator(), separator))
    hashes = list({state.origin.transaction_hash for state in ledger.claims.values()})
    inputs = dict(zip(hashes, await transaction_inputs(chain.rpc.url, hashes), strict=True))
    vouchers = check_vouchers(domain, rules.channels, ledger.claims, inputs)
    hot_keys = {worker: state.hot_keys(snapshot.timestamp) for worker, state in ledger.participants.items()}
    collected = await Collector(domain, hot_keys, reader).collect(tasks_of(ledger, by_book(vouchers.paid)))
    everything = (*differences, *vouchers.differences, *collected.differences)
    return Audit(rules, ledger, snapshot, vouchers, collected, everything)


async def _reader(arguments: Namespace, chain: Chain) -> Reader:
    """A registered verifier reads with its hot key, a payer with its session key what it paid for itself."""
    from efedllm.chain.keys import KeyRole, KeyStore
    from efedllm.chain.stake_registry import Role
    from efedllm.client.records import Reader
    from efedllm.options import password

    store = KeyStore(arguments.data_dir)
    own = store.find(KeyRole.COLD).address
    is_verifier = (await chain.stakes.participant_of(own)).role is Role.VERIFIER
    return Reader(own, store.load(KeyRole.HOT if is_verifier else KeyRole.SESSION, password(arguments)))
