"""What all commands have in common: options, and how results are shown.

A command is a module with `add_parser(subparsers)`, which sets `run`, a function from the parsed arguments to an exit
code. Importing it must be cheap: whatever is heavy is imported inside `run`.
"""

import json
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from efedllm.errors import EfedllmError

DEFAULT_DATA_DIR = "~/.efedllm"
DEFAULT_RPC = "http://127.0.0.1:8545"
_GWEI = 10**9
DEFAULT_MAX_GAS_PRICE = 500 * _GWEI  # wei: generous, and finite; ordinary prices are below a hundredth of it


class OptionError(EfedllmError):
    """An option whose value cannot be used."""


def add_json_option(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, amounts in base units")


def add_data_dir_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=folder,
        metavar="DIR",
        default=DEFAULT_DATA_DIR,
        help=f"keys, config.toml and stores (default: {DEFAULT_DATA_DIR})",
    )


def add_password_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--password-file", type=Path, metavar="FILE", help="its first line opens the keys (or set EFEDLLM_PASSWORD)"
    )


def add_chain_options(parser: ArgumentParser) -> None:
    """For commands that only read the chain: --rpc, --deployment, --data-dir, --json."""
    parser.add_argument("--rpc", metavar="URL", default=DEFAULT_RPC, help=f"the chain (default: {DEFAULT_RPC})")
    parser.add_argument(
        "--deployment", type=Path, metavar="FILE", help="(default: ~/.efedllm/deployments/<chain id>.json)"
    )
    add_data_dir_option(parser)
    add_json_option(parser)


def add_key_options(parser: ArgumentParser) -> None:
    """For commands that use a key as well: those of `add_chain_options`, --password-file and --max-gas-price."""
    add_chain_options(parser)
    add_password_option(parser)
    add_gas_option(parser)


def add_gas_option(parser: ArgumentParser) -> None:
    """`max_gas_price` is in wei."""
    parser.add_argument(
        "--max-gas-price",
        type=gas_price,
        metavar="GWEI",
        default=DEFAULT_MAX_GAS_PRICE,
        help=f"never offer more per gas; dearer transactions wait (default: {DEFAULT_MAX_GAS_PRICE // _GWEI})",
    )


def password(arguments: Namespace, environ: Mapping[str, str] = os.environ) -> str:
    """What opens the keys of --data-dir: first line of --password-file, else EFEDLLM_PASSWORD.

    Raises OptionError if there is none.
    """
    path: Path | None = arguments.password_file
    if path is not None:
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise OptionError(f"cannot read the password file {path}: {reason}") from error
        if not lines or not lines[0]:
            raise OptionError(f"the password file {path} is empty: its first line is the password")
        return lines[0]
    if given := environ.get("EFEDLLM_PASSWORD"):
        return given
    raise OptionError("no password: pass --password-file FILE or set EFEDLLM_PASSWORD")


def gas_price(text: str) -> int:
    """Wei of a positive decimal number of gwei."""
    try:
        gwei = Decimal(text)
        wei = int(gwei * _GWEI) if 0 < gwei < _GWEI else 0
    except ArithmeticError:
        wei = 0
    if wei <= 0:
        raise ArgumentTypeError(f"{text!r} is not a positive number of gwei, such as 30 or 0.5")
    return wei


def folder(text: str) -> Path:
    return Path(text).expanduser()


def emit(arguments: Namespace, result: Mapping[str, Any], text: str) -> None:
    """The result of a command on standard output: `result` as JSON with --json, `text` without."""
    print(json.dumps(result) if arguments.json else text, flush=True)


def progress(text: str) -> None:
    """Tell a person what is going on; standard output stays free for the result."""
    print(text, file=sys.stderr, flush=True)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned columns; numbers to the right."""
    body = [[str(cell) for cell in row] for row in rows]
    cells = [list(headings), *body]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    numeric = [bool(body) and all(_is_number(row[column]) for row in body) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    )


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).isdigit()
