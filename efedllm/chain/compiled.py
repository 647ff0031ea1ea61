"""The contracts compiled from source, each by itself.

With others beside it the compiler numbers its declarations otherwise, and may then order and inline functions
otherwise: the same source gives other bytes. So what is deployed comes from here too (`python -m tools.contracts`), and
whoever compiles it again gets the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efedllm.chain.errors import ChainError
from efedllm.chain.solidity import COMPILER, compiler_version, standard_input
from efedllm.errors import on_one_line

# Below the checkout; a compilation takes seconds, and its result is named after the hash of all that goes into it.
CACHE = "build/compiled"
_OUTPUTS = {
    "": ["ast"],
    "*": [
        "abi",
        "evm.bytecode.object",
        "evm.bytecode.linkReferences",
        "evm.deployedBytecode.object",
        "evm.deployedBytecode.immutableReferences",
    ],
}

Range = tuple[int, int]


@dataclass(frozen=True)
class Compiled:
    """One contract. `runtime` has zeros where an immutable stands: name -> half-open byte ranges."""

    name: str
    abi: Sequence[Mapping[str, Any]]
    creation: bytes
    runtime: bytes
    immutables: Mapping[str, Sequence[Range]]

    @property
    def constructor(self) -> Sequence[Mapping[str, Any]]:
        return next((item["inputs"] for item in self.abi if item["type"] == "constructor"), [])

    @property
    def getters(self) -> list[Mapping[str, Any]]:
        """Functions that take nothing and return one value."""
        return [
            item
            for item in self.abi
            if item["type"] == "function"
            and not item["inputs"]
            and len(item["outputs"]) == 1
            and item["stateMutability"] in {"pure", "view"}
        ]


def compile_checkout(checkout: Path, contracts: Sequence[str]) -> dict[str, Compiled]:
    """Contracts by name, each from the file of its name. Raises ChainError for whatever is missing.

    As many at once as there are cores; what did not change comes from the cache.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(contracts, pool.map(lambda name: _compile_one(checkout, name), contracts), strict=True))


def _compile_one(checkout: Path, name: str) -> Compiled:
    root = f"contracts/{name}.sol"
    content = standard_input(checkout, [root], _OUTPUTS)
    output = _cached(checkout, content) or _compile(checkout, content)
    return _contract(name, output["contracts"][root][name], dict(_variable_names(output["sources"])))


def _compile(checkout: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    try:
        from solcx import compile_standard
        from solcx.exceptions import SolcError
        from solcx.wrapper import get_solc_version
    except ImportError as error:
        raise ChainError("py-solc-x is missing: pip install 'efedllm[deploy]'") from error
    solc, wanted = checkout / COMPILER, compiler_version(checkout)
    if not solc.is_file():
        raise ChainError(f"the compiler {solc} is missing: name a whole checkout with --source")
    try:
        version = str(get_solc_version(solc))
        if version != wanted:
            raise ChainError(f"{solc} is version {version} instead of {wanted}: run `make setup` in {checkout}")
        output: dict[str, Any] = compile_standard(dict(content), solc_binary=solc)
    except SolcError as error:
        first = next((line for line in str(error).splitlines() if "rror" in line), "no reason given")
        raise ChainError(f"the contracts of {checkout} do not compile: {on_one_line(first)}") from error
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ChainError(f"{solc} does not run: run `make setup` in {checkout}") from error
    _keep(checkout, content, output)
    return output


def _cache_file(checkout: Path, content: Mapping[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps([compiler_version(checkout), content], sort_keys=True).encode())
    return checkout / CACHE / f"{digest.hexdigest()[:24]}.json"


def _cached(checkout: Path, content: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        return dict(json.loads(_cache_file(checkout, content).read_text()))
    except (OSError, ValueError):  # not there, or cut off: compile
        return None


def _keep(checkout: Path, content: Mapping[str, Any], output: Mapping[str, Any]) -> None:
    path = _cache_file(checkout, content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"contracts": output["contracts"], "sources": output["sources"]}))
    except OSError:  # a checkout that cannot be written to is compiled anew each time
        return


def _contract(name: str, output: Mapping[str, Any], names: Mapping[str, str]) -> Compiled:
    evm = output["evm"]
    if evm["bytecode"]["linkReferences"]:
        raise ChainError(f"{name} calls an external library: make its functions internal")
    places = evm["deployedBytecode"].get("immutableReferences", {})
    return Compiled(
        name=name,
        abi=output["abi"],
        creation=bytes.fromhex(evm["bytecode"]["object"]),
        runtime=bytes.fromhex(evm["deployedBytecode"]["object"]),
        immutables={
            names[number]: [(place["start"], place["start"] + place["length"]) for place in found]
            for number, found in places.items()
        },
    )


def _variable_names(sources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """State variables by the number that the compiler gives them."""
    for source in sources.values():
        for node in source["ast"]["nodes"]:
            for member in node.get("nodes", []):
                if member["nodeType"] == "VariableDeclaration":
                    yield str(member["id"]), member["name"]
