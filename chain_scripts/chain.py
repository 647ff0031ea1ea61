"""`efedllm chain`: a local chain in the foreground."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from efedllm.options import add_json_option

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.local import AnvilProcess

_SAVE_SECONDS = 1.0


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser("chain", help="run a local chain until Ctrl-C")
    parser.add_argument("--port", type=int, default=8545, help="0 lets the system choose (default: 8545)")
    parser.add_argument("--block-time", type=int, default=1, metavar="SECONDS", help="between blocks (default: 1)")
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="keep the chain in this file, once a second and at the end, and go on from it (default: forget it)",
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    from efedllm.chain.local import AnvilProcess

    # Both explicitly: a shell lets its background jobs ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    with AnvilProcess.start(arguments.port, arguments.block_time, state=arguments.state) as anvil:
        try:
            _announce(arguments, anvil)
            code = anvil.process.wait() if arguments.state is None else _keep(anvil, arguments.state)
        except KeyboardInterrupt:
            if arguments.state is not None:
                anvil.save(arguments.state)
            print("local chain ended", file=sys.stderr)
            return 0
    print(f"error: the local chain ended by itself with code {code}", file=sys.stderr)
    return 1


def _keep(anvil: AnvilProcess, state: Path) -> int:
    """Save the chain again and again until it ends; its exit code."""
    from efedllm.chain.errors import ChainUnreachable

    while True:
        try:
            anvil.save(state)
            return anvil.process.wait(_SAVE_SECONDS)
        except ChainUnreachable:
            if anvil.process.poll() is None:
                raise
            return anvil.process.wait()
        except subprocess.TimeoutExpired:
            continue  # it runs on


def _announce(arguments: Namespace, anvil: AnvilProcess) -> None:
    if arguments.json:
        event = {"event": "serving", "rpc": anvil.url, "pid": anvil.process.pid, "accounts": anvil.accounts}
        print(json.dumps(event), flush=True)
    else:
        print(f"local chain at {anvil.url}, a block every {arguments.block_time} s; Ctrl-C ends it", flush=True)
        print(f"next: efedllm deploy --local{_rpc_option(anvil.url)}", flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _rpc_option(url: str) -> str:
    return "" if url.endswith(":8545") else f" --rpc {url}"
