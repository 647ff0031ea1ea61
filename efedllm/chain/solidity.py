"""The contracts' sources as the compiler takes them: standard JSON input made from a checkout.

`contracts/compiler.json` of the checkout says which compiler with which settings. Imports are followed, so that the
input holds exactly what is needed: paths below the checkout, and npm packages by the names under which they are
imported.
"""

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from efedllm.chain.errors import ChainError

CONTRACTS_FOLDER = "contracts"
COMPILER_FILE = "contracts/compiler.json"
COMPILER = "tools/solc"

_IMPORT = re.compile(r"""^\s*import\b[^;"']*["']([^"']+)["']\s*;""", re.MULTILINE)


def is_checkout(folder: Path) -> bool:
    return (folder / COMPILER_FILE).is_file()


def settings(checkout: Path) -> dict[str, Any]:
    """What the contracts are compiled with, without a selection of outputs. Raises ChainError if it is not readable."""
    return dict(_compiler(checkout)["settings"])


def compiler_version(checkout: Path) -> str:
    return str(_compiler(checkout)["version"])


def standard_input(
    checkout: Path, roots: Iterable[str], outputs: Mapping[str, Sequence[str]], **changed: object
) -> dict[str, Any]:
    """Input for `solc --standard-json`.

    roots: files to compile, as paths below the checkout; what they import comes along.
    outputs: per contract (`*`) and per file (``), names of the compiler's outputs, for every source.
    changed: settings other than those of the deployed contracts.
    """
    return {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources(checkout, roots).items()},
        "settings": settings(checkout)
        | changed
        | {"outputSelection": {"*": {key: list(outputs[key]) for key in outputs}}},
    }


def sources(checkout: Path, roots: Iterable[str]) -> dict[str, str]:
    """Name -> text of `roots` and of everything that they import. Raises ChainError for a file that is not there."""
    found: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _read(checkout, name)
            waiting.extend(imports(name, found[name]))
    return dict(sorted(found.items()))


def imports(name: str, text: str) -> list[str]:
    """Names of the sources that source `name` imports."""
    paths: list[str] = _IMPORT.findall(text)
    folder = posixpath.dirname(name)
    return [posixpath.normpath(posixpath.join(folder, path)) if path.startswith(".") else path for path in paths]


def _read(checkout: Path, name: str) -> str:
    own = name.startswith(f"{CONTRACTS_FOLDER}/")
    path = checkout / name if own else checkout / "node_modules" / name
    try:
        return path.read_text()
    except FileNotFoundError as error:
        hint = "" if own else f": run `make setup` in {checkout}"
        raise ChainError(f"the Solidity source {path} is missing{hint}") from error


def _compiler(checkout: Path) -> dict[str, Any]:
    path = checkout / COMPILER_FILE
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise ChainError(f"cannot read {path}: name a checkout of the contracts ({error})") from error
