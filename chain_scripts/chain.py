"""`efedllm chain`: a local chain in the foreground."""

from __future__ import annotations

import json
import signal
import sys
from argparse import ArgumentParser, Namespace
from types import FrameType
from typing import TYPE_CHECKING

from efedllm.options import add_json_option

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.local import AnvilProcess


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser("chain", help="run a local chain until Ctrl-C")
    parser.add_argument("--port", type=int, default=8545, help="0 lets the system choose (default: 8545)")
    parser.add_argument("--block-time", type=int, default=1, metavar="SECONDS", help="between blocks (default: 1)")
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    from efedllm.chain.local import AnvilProcess

    # Both explicitly: a shell lets its background jobs ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    with AnvilProcess.start(arguments.port, arguments.block_time) as anvil:
        try:
            _announce(arguments, anvil)
            code = anvil.process.wait()
        except KeyboardInterrupt:
            print("local chain ended", file=sys.stderr)
            return 0
    print(f"error: the local chain ended by itself with code {code}", file=sys.stderr)
    return 1


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
