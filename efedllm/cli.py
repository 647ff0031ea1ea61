"""The command `efedllm`: the only place that knows every program."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from efedllm import __version__
from efedllm.errors import EfedllmError
from efedllm.settings import apply_settings, subcommands

_HELP = """\
Exact, paid, receipted inference of large language models by machines that need not trust each other.
Options also come from EFEDLLM_<OPTION> variables and from config.toml in --data-dir.
"""

# In the order of the help text. Programs are folders beside the package in a checkout, and inside it once installed.
_COMMANDS = (
    "chain_scripts.chain",
    "chain_scripts.deploy",
    "chain_scripts.keys",
    "chain_scripts.fund",
    "efedllm.model.cli",
    "chain_scripts.stake",
    "chain_scripts.unstake",
    "worker.cli",
    "verifier.cli",
    "efedllm.client.cli",
    "chain_scripts.channel",
    "chain_scripts.claim",
    "chain_scripts.withdraw",
    "chain_scripts.status",
    "chain_scripts.verify_deployment",
    "chain_scripts.audit",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit code: 0, 1 for an error or a negative result, 2 for wrong usage, 130 for Ctrl-C."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        parser = build_parser()
        try:
            apply_settings(parser, arguments, os.environ)
            parsed = parser.parse_args(arguments)
        except SystemExit as stop:  # --help, --version, and wrong usage
            return int(stop.code or 0)
        return int(parsed.run(parsed) or 0)
    except EfedllmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away, as `head` does; what is left to write must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="efedllm", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"efedllm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in _COMMANDS:
        module = _load(name)
        if module is not None:
            module.add_parser(commands)
    model = commands.choices.get("model")
    model_commands = subcommands(model) if model is not None else None
    if model_commands is not None:
        _require("chain_scripts.register").add_parser(model_commands)
    commands.choices["claim"].set_defaults(held_vouchers=held_vouchers)
    return parser


def held_vouchers(*arguments: Any) -> Any:
    """The worker's `best_vouchers`, for `efedllm claim`: programs do not import each other."""
    return _require("worker.ledger").best_vouchers(*arguments)


def _load(name: str) -> ModuleType | None:
    """The module of that name, from the installed package if it is there; None if this installation lacks it."""
    for candidate in [name] if name.startswith("efedllm.") else [f"efedllm.{name}", name]:
        try:
            found = find_spec(candidate) is not None
        except ModuleNotFoundError:
            found = False
        if found:
            return importlib.import_module(candidate)
    return None


def _require(name: str) -> ModuleType:
    module = _load(name)
    if module is None:
        raise EfedllmError(f"this installation lacks {name}: install efedllm again")
    return module


if __name__ == "__main__":
    sys.exit(main())
