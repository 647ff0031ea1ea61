"""The worker program as it is, but for shorter waits: tests of silence would take minutes otherwise.

`python -m tests.support.impatient_worker [options of efedllm worker]`.
"""

import argparse
import sys
from dataclasses import replace
from typing import Any

from efedllm.errors import EfedllmError
from worker import cli, program
from worker.context import Context

WAITS = {"stall_seconds": 5.0, "voucher_seconds": 2.5, "link_seconds": 6.0, "channel_seconds": 0.5}

contexts: list[Context] = []
"""That of the running worker, once there is one: a cheat signs with its key."""

_make_context = program._context


def _impatient(*arguments: Any) -> Context:
    contexts.append(replace(_make_context(*arguments), **WAITS))
    return contexts[0]


def main() -> int:
    program._context = _impatient
    commands = argparse.ArgumentParser().add_subparsers()
    cli.add_parser(commands)
    arguments = commands.choices["worker"].parse_args(sys.argv[1:])
    try:
        return cli.run(arguments)
    except EfedllmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
