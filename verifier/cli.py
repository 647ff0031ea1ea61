"""The command `efedllm verifier`."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from efedllm.options import add_key_options, emit, password, progress

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from .program import Options

_DESCRIPTION = """\
Follow claims, draw receipts, recompute them, and name whoever is at fault. Runs until Ctrl-C or SIGTERM; with --json
it prints an object a line for every event: watching, checked, fault, ended; and of what it takes to the chain: opened,
demanded, slashed, won, refunded, collected, lost, each with its transaction and gas, and float where bonds need more.

With --once: handle every claim that is mined by now, once, and report all that is known, this run's and earlier ones'.
Exit code then: 0 everything drawn is right, 3 a worker is at fault, 4 nothing worse than data that could not be had.
"""


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    from argparse import BooleanOptionalAction, RawDescriptionHelpFormatter

    parser = subparsers.add_parser(
        "verifier",
        help="recompute drawn receipts and name cheats",
        description=_DESCRIPTION,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_key_options(parser)
    parser.add_argument("--model", type=Path, required=True, metavar="OUT", help="folder of a built model")
    parser.add_argument("--once", action="store_true", help="one pass over what is there, then a report")
    parser.add_argument(
        "--wait", type=float, default=120.0, metavar="SECONDS", help="with --once: for blocks to come (default: 120)"
    )
    parser.add_argument("--poll", type=float, default=1.0, metavar="SECONDS", help="pause between passes (default: 1)")
    parser.add_argument("--backend", help="integer back end (default: the fastest that passes its self-test)")
    parser.add_argument("--threads", type=int, default=1, help="compute threads (default: 1)")
    parser.add_argument(
        "--challenge",
        action=BooleanOptionalAction,
        help="take faults to the chain (default: where it has a dispute game, and not with --once); bonds and gas are"
        " paid by the hot key",
    )
    parser.add_argument(
        "--bond-budget",
        metavar="AMOUNT",
        help="whole tokens bound in bonds at a time (default: what the hot key holds)",
    )
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    from .program import run as verify

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    def announce(text: str, event: dict[str, object]) -> None:
        if arguments.json and not arguments.once:
            print(json.dumps(event), flush=True)
        elif text:
            progress(text)

    report = asyncio.run(verify(_options(arguments), announce))
    if arguments.once:
        emit(arguments, report.to_json(), report.to_text())
        return report.exit_code
    announce(report.to_text(), {"event": "ended", **report.to_json()})
    return 0


def _options(arguments: Namespace) -> Options:
    from .program import Options

    return Options(
        model=arguments.model,
        once=arguments.once,
        wait_seconds=arguments.wait,
        poll_seconds=arguments.poll,
        data_dir=arguments.data_dir,
        rpc=arguments.rpc,
        deployment=arguments.deployment,
        password=password(arguments),
        backend=arguments.backend,
        threads=arguments.threads,
        max_gas_price=arguments.max_gas_price,
        challenge=arguments.challenge,
        bond_budget=arguments.bond_budget,
    )
