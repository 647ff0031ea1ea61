"""Schemas compiled with the tests that can reach them.

The optimizer of the deployed contracts takes long and has no part in what is tested here, so units are compiled without
the intermediate language. A fault that does not compile (a sum of addresses, say) is none, and is left out.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efedllm.chain.solidity import COMPILER, imports, sources, standard_input
from tools.mutation.schema import Chosen, Schema, schema, viewed
from tools.mutation.sites import Kind, Mutant, Node, Site, merged, mutants
from tools.mutation.solidity_sites import Definitions, solidity_sites
from tools.setup import ROOT

TESTS = "contracts/test/"
NOT_MUTATED = (TESTS, "contracts/interfaces/")
_OUTPUTS = ("abi", "evm.bytecode.object", "evm.deployedBytecode.object")
_QUICK: Mapping[str, object] = {"viaIR": False, "optimizer": {"enabled": True, "runs": 1}}
# For tests with more variables in a function than the stack holds.
_LARGE: Mapping[str, object] = {"viaIR": True, "optimizer": {"enabled": True, "runs": 1}}


class MutationError(Exception):
    """The mutation run cannot go on; the message says why."""


@dataclass(frozen=True)
class Project:
    """All sources of the contracts and their tests, and their syntax trees."""

    texts: Mapping[str, str]
    trees: Mapping[str, Node]
    definitions: Definitions
    large: frozenset[str]  # tests that compile with the intermediate language only

    @classmethod
    def read(cls, root: Path = ROOT) -> Project:
        files = [path.relative_to(root).as_posix() for path in sorted((root / "contracts").rglob("*.sol"))]
        output = compile_json(standard_input(root, files, {"": ["ast"]}))
        if problems := errors(output):
            raise MutationError(f"the contracts do not compile:\n{problems[0]['formattedMessage']}")
        trees = {name: source["ast"] for name, source in output["sources"].items()}
        texts = sources(root, files)
        tests = [name for name in files if _is_test(name)]
        return cls(texts, trees, Definitions.collect(iter(trees.values())), _large(texts, tests))

    @property
    def mutated(self) -> list[str]:
        """Files that faults are planted in."""
        return [name for name in self.texts if name.startswith("contracts/") and not name.startswith(NOT_MUTATED)]

    def tests_of(self, file: str) -> list[str]:
        """Test files that `file` takes part in."""
        return [name for name in self.texts if _is_test(name) and file in closure(self.texts, [name])]

    def faults(self, file: str) -> list[tuple[Site, str, Mutant]]:
        source = self.texts[file].encode()
        return mutants(file, source, self.sites(file))

    def sites(self, file: str) -> list[Site]:
        return merged(solidity_sites(self.texts[file].encode(), self.trees[file], self.definitions))


@dataclass(frozen=True)
class Unit:
    """Faults by number, compiled: `contracts` is the path of a JSON file, source -> name -> compiler output."""

    file: str
    faults: Mapping[int, Mutant]
    contracts: Path


@dataclass(frozen=True)
class Build:
    """All units of a file, the faults that do not compile, and the tests that do not with all the faults."""

    units: Sequence[Unit]
    impossible: Sequence[Mutant]
    left_out: frozenset[str]


def closure(texts: Mapping[str, str], roots: Sequence[str]) -> set[str]:
    """`roots` and everything that they import."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(imports(name, texts[name]))
    return found


def compile_json(content: Mapping[str, Any]) -> dict[str, Any]:
    result = subprocess.run(
        [str(ROOT / COMPILER), "--standard-json"], input=json.dumps(content), capture_output=True, text=True
    )
    if result.returncode:
        raise MutationError(f"the compiler failed: {result.stderr.strip()[-500:]}")
    return dict(json.loads(result.stdout))


def errors(output: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [error for error in output.get("errors", ()) if error["severity"] == "error"]


def test_input(
    texts: Mapping[str, str], tests: Sequence[str], outputs: Sequence[str], settings: Mapping[str, object]
) -> dict[str, Any]:
    """Compiler input for test files, with nothing of ours `pure`."""
    content = standard_input(ROOT, tests, {}, **settings)
    for name, source in content["sources"].items():
        if name.startswith("contracts/"):
            source["content"] = viewed(texts[name].encode()).decode()
    content["settings"]["outputSelection"] = {test: {"*": list(outputs)} for test in tests}
    return content


def _is_test(name: str) -> bool:
    return name.startswith(TESTS) and name.endswith(".t.sol")


def _large(texts: Mapping[str, str], tests: Sequence[str]) -> frozenset[str]:
    found: set[str] = set()
    while remaining := [test for test in tests if test not in found]:
        problems = errors(compile_json(test_input(texts, remaining, ("evm.bytecode.object",), _QUICK)))
        if not problems:
            break
        places = {str(problem.get("sourceLocation", {}).get("file")) for problem in problems}
        stopped = {test for test in remaining if places & closure(texts, [test])}
        if not stopped:
            raise MutationError(f"the tests do not compile:\n{problems[0]['formattedMessage']}")
        found |= stopped
    return frozenset(found)


def digest(project: Project, file: str, tool: bytes) -> str:
    """Names a build: everything that decides about it."""
    names = sorted(closure(project.texts, [file, *project.tests_of(file)]))
    parts = [tool, file.encode(), *(f"{name}\0{project.texts[name]}".encode() for name in names)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def build(project: Project, file: str, folder: Path) -> Build:
    """Compile the schemas of `file` into `folder`: one, or several where one is too much for the compiler."""
    faults = dict(enumerate(project.faults(file), start=1))
    if not project.tests_of(file):
        raise MutationError(f"no test imports {file}")
    carrier = _Carrier(project, file, faults)
    possible = carrier.compiling(sorted(faults))
    units: list[Unit] = []
    left_out: set[str] = set()
    waiting = [possible] if possible else []
    while waiting:
        numbers = waiting.pop()
        contracts, problem = carrier.compiled(numbers)
        if not problem:
            path = folder / f"{len(units)}.json"
            path.write_text(json.dumps(contracts))
            left_out |= set(project.tests_of(file)) - contracts.keys()
            units.append(Unit(file, {number: faults[number][2] for number in numbers}, path))
        elif len(numbers) > 1:  # too many variables at once
            middle = len(numbers) // 2
            waiting += [numbers[:middle], numbers[middle:]]
        else:
            raise MutationError(f"{faults[numbers[0]][2].name}: {problem}")
    impossible = [faults[number][2] for number in faults if number not in possible]
    return Build(units, impossible, frozenset(left_out))


@dataclass(frozen=True)
class _Carrier:
    """Compiles one file with some of its faults (numbers of `faults`) in it."""

    project: Project
    file: str
    faults: Mapping[int, tuple[Site, str, Mutant]]

    def compiling(self, numbers: Sequence[int]) -> list[int]:
        """Those of the faults with which the compiler accepts the file."""
        possible = list(numbers)
        while possible:
            carried = self.schema(possible)
            problems = errors(compile_json(self.input(carried, self.project.tests_of(self.file), ("abi",), _QUICK)))
            if not problems:
                return possible
            places = [problem.get("sourceLocation", {}) for problem in problems]
            starts = [place["start"] for place in places if place.get("file") == self.file]
            found = {number for start in starts for number in carried.faults_at(start)}
            if found:
                possible = [number for number in possible if number not in found]
            elif len(possible) == 1:
                return []
            else:  # the compiler complains about something around the faults: which of them it is, takes trying
                middle = len(possible) // 2
                return self.compiling(possible[:middle]) + self.compiling(possible[middle:])
        return []

    def compiled(self, numbers: Sequence[int]) -> tuple[dict[str, Any], str]:
        """Test contracts with these faults in what they test, or what the compiler cannot do."""
        carried = self.schema(numbers)
        contracts: dict[str, Any] = {}
        for is_large, settings in ((False, _QUICK), (True, _LARGE)):
            tests = [test for test in self.project.tests_of(self.file) if (test in self.project.large) == is_large]
            if tests:
                output = compile_json(self.input(carried, tests, _OUTPUTS, settings))
                if problems := errors(output):
                    if is_large and contracts:
                        continue  # the other tests judge alone
                    return {}, str(problems[0]["formattedMessage"])
                contracts |= {name: output["contracts"][name] for name in tests}
        return contracts, ""

    def schema(self, numbers: Sequence[int]) -> Schema:
        texts: dict[Site, dict[int, str]] = {}
        for number in numbers:
            site, text, _ = self.faults[number]
            texts.setdefault(site, {})[number] = text
        helpers = {Kind.YUL_BLOCK, Kind.MODIFIER_DEFINITION}
        sites = [site for site in self.project.sites(self.file) if site in texts or site.kind in helpers]
        source = self.project.texts[self.file].encode()
        return schema(source, [Chosen(site, texts.get(site, {})) for site in sites])

    def input(
        self, carried: Schema, tests: Sequence[str], outputs: Sequence[str], settings: Mapping[str, object]
    ) -> dict[str, Any]:
        content = test_input(self.project.texts, tests, outputs, settings)
        content["sources"][self.file] = {"content": carried.text.decode()}
        return content
