"""Compiles the contracts and keeps efedllm/chain/artifacts equal to them.

Without arguments: compiles and writes one JSON file per contract that can be deployed. With --check: writes nothing,
and fails when a source of ours gives a compiler warning or when the files written last time are not current.

Hardhat's own output is for its tests: the bytes that it makes depend on what else it compiles, so artifacts come from
`efedllm.chain.compiled`. An artifact has `contractName`, `abi`, `bytecode` (creation code, hex), `deployedBytecode`
(code on the chain with zeros for the immutables) and `immutables`: half-open byte ranges `[start, end)` of those zeros.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from efedllm.chain.compiled import Compiled, compile_checkout
from efedllm.chain.errors import ChainError
from efedllm.chain.solidity import CONTRACTS_FOLDER
from tools.setup import ROOT, VENV

BUILT = ROOT / "build" / "hardhat" / "artifacts"
ARTIFACTS = ROOT / "efedllm" / "chain" / "artifacts"
# The compiler's name for files of this project; those of npm packages begin with "npm/".
OWN_SOURCES = "project/"
# Code or creation code beyond what a public chain takes: tests never go to one.
SIZE_WARNINGS = ("5574", "3860")
TEST_SOURCES = OWN_SOURCES + "contracts/test/"


class ContractsError(Exception):
    """The contracts do not compile."""


def compile_contracts() -> None:
    """Compile contracts and tests into build/hardhat; unchanged sources come from its cache.

    Raises ContractsError with the compiler's words.
    """
    environment = os.environ | {"PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}", "CI": "true"}
    command = [str(ROOT / "node_modules" / ".bin" / "hardhat"), "build", "--quiet"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise ContractsError(f"the contracts do not compile:\n{result.stdout}{result.stderr}")


def warnings() -> list[str]:
    """What the compiler complained about in our own sources, tests included; each as it was printed."""
    found = []
    for path in sorted((BUILT / "build-info").glob("*.output.json")):
        for message in json.loads(path.read_text())["output"].get("errors", ()):
            location = message.get("sourceLocation", {}).get("file", OWN_SOURCES)
            is_large_test = message.get("errorCode") in SIZE_WARNINGS and location.startswith(TEST_SOURCES)
            if location.startswith(OWN_SOURCES) and not is_large_test:
                found.append(message["formattedMessage"].strip())
    return list(dict.fromkeys(found))


def artifact(compiled: Compiled) -> dict[str, Any]:
    """What Python needs of a contract."""
    return {
        "contractName": compiled.name,
        "abi": compiled.abi,
        "bytecode": "0x" + compiled.creation.hex(),
        "deployedBytecode": "0x" + compiled.runtime.hex(),
        "immutables": sorted([start, end] for places in compiled.immutables.values() for start, end in places),
    }


def current_artifacts() -> dict[str, str]:
    """File name -> text, for each of our contracts that is deployed; abstract ones have no code."""
    names = sorted(path.stem for path in (ROOT / CONTRACTS_FOLDER).glob("*.sol"))
    try:
        compiled = compile_checkout(ROOT, names)
    except ChainError as error:
        raise ContractsError(str(error)) from error
    return {
        f"{name}.json": json.dumps(artifact(one), indent=1) + "\n" for name, one in compiled.items() if one.creation
    }


def stored_artifacts() -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(ARTIFACTS.glob("*.json"))}


def check() -> list[str]:
    """Everything that is wrong, empty when nothing is."""
    current, stored = current_artifacts(), stored_artifacts()
    stale = sorted(name for name in current.keys() | stored.keys() if current.get(name) != stored.get(name))
    return warnings() + [f"{(ARTIFACTS / name).relative_to(ROOT)} is stale; run: make contracts" for name in stale]


def write() -> None:
    current = current_artifacts()
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    for name in stored_artifacts().keys() - current.keys():
        (ARTIFACTS / name).unlink()
    for name, text in current.items():
        (ARTIFACTS / name).write_text(text)
    print(f"{len(current)} artifacts in {ARTIFACTS.relative_to(ROOT)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.contracts", description="Compile the contracts for Python.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail on warnings and on stale artifacts")
    arguments = parser.parse_args()
    try:
        compile_contracts()
        if arguments.check:
            problems = check()
            print("\n\n".join(problems) if problems else "contracts: no warnings, artifacts current")
            return 1 if problems else 0
        write()
    except ContractsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
