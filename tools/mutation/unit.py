"""Schemas compiled with the tests that can reach them.

The optimizer of the deployed contracts takes long and has no part in what is tested here, so units are compiled without
the intermediate language. A fault that does not compile (a sum of addresses, say) is none, and is left out.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efedllm.chain.solidity import COMPILER, imports, sources, standard_input
from tools.mutation.schema import Chosen, Schema, schema, viewed
from tools.mutation.sites import Kind, Mutant, Site, merged, mutants
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
class Fault:
    """A mutant with where and how it is planted."""

    mutant: Mutant
    site: Site
    text: str


@dataclass(frozen=True)
class Project:
    """All sources of the contracts and their tests; sites of each of our contracts; their faults by number."""

    texts: Mapping[str, str]
    sites: Mapping[str, Sequence[Site]]
    faults: Mapping[int, Fault]

    @classmethod
    def read(cls, root: Path = ROOT) -> Project:
        files = [path.relative_to(root).as_posix() for path in sorted((root / "contracts").rglob("*.sol"))]
        output = compile_json(standard_input(root, files, {"": ["ast"]}))
        if problems := errors(output):
            raise MutationError(f"the contracts do not compile:\n{problems[0]['formattedMessage']}")
        trees = {name: source["ast"] for name, source in output["sources"].items()}
        texts = sources(root, files)
        definitions = Definitions.collect(iter(trees.values()))
        mutated = [name for name in files if not name.startswith(NOT_MUTATED)]
        sites = {name: merged(solidity_sites(texts[name].encode(), trees[name], definitions)) for name in mutated}
        planted = [
            Fault(mutant, site, text)
            for name in mutated
            for site, text, mutant in mutants(name, texts[name].encode(), sites[name])
        ]
        return cls(texts, sites, dict(enumerate(planted, start=1)))

    @property
    def tests(self) -> list[str]:
        return [name for name in self.texts if name.startswith(TESTS) and name.endswith(".t.sol")]


@dataclass(frozen=True)
class Unit:
    """Faults, by number, compiled together with all tests. `contracts`: a JSON file, source -> name -> output."""

    numbers: Sequence[int]
    contracts: Path


@dataclass(frozen=True)
class Build:
    """Units that carry all faults, the faults that do not compile, and the tests that do not with all the faults."""

    units: Sequence[Unit]
    impossible: Sequence[int]
    left_out: Sequence[str]


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


def digest(project: Project, tool: bytes) -> str:
    """Names a build: everything that decides about it."""
    parts = [tool, *(f"{name}\0{project.texts[name]}".encode() for name in sorted(project.texts))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def build(project: Project, folder: Path) -> Build:
    """Compile the project's faults into `folder`: one unit, or several where one is too much for the compiler."""
    carrier = _Carrier(project)
    possible = carrier.compiling(sorted(project.faults))
    units: list[Unit] = []
    left_out: set[str] = set()
    waiting = [possible] if possible else []
    while waiting:
        numbers = waiting.pop()
        contracts, problem = carrier.compiled(numbers)
        if not problem:
            path = folder / f"{len(units)}.json"
            path.write_text(json.dumps(contracts))
            left_out |= set(project.tests) - contracts.keys()
            units.append(Unit(numbers, path))
        elif len(numbers) > 1:  # too many variables at once
            middle = len(numbers) // 2
            waiting += [numbers[:middle], numbers[middle:]]
        else:
            raise MutationError(f"{project.faults[numbers[0]].mutant.name}: {problem}")
    return Build(units, sorted(project.faults.keys() - set(possible)), sorted(left_out))


class _Carrier:
    """Compiles the project with some of its faults, by number, in it."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._large: set[str] = set()  # tests that compile with the intermediate language only

    def compiling(self, numbers: Sequence[int]) -> list[int]:
        """Those of the faults with which the compiler accepts the sources."""
        possible = list(numbers)
        while possible:
            carried = self._schemas(possible)
            problems = errors(compile_json(self._input(carried, self._project.tests, ("abi",), _QUICK)))
            if not problems:
                return possible
            places = [problem.get("sourceLocation", {}) for problem in problems]
            inside = [(place["file"], place["start"]) for place in places if place.get("file") in carried]
            found = {number for file, start in inside for number in carried[file].faults_at(start)}
            if found:
                possible = [number for number in possible if number not in found]
            elif len(possible) == 1:
                return []
            else:  # the compiler complains about something around the faults: which of them it is, takes trying
                suspects = self._suspects(possible, {file for file, _ in inside})
                others = [number for number in possible if number not in suspects]
                middle = (len(suspects) + 1) // 2
                kept = [self.compiling(half) for half in (suspects[:middle], suspects[middle:]) if half]
                possible = sorted([*others, *(number for half in kept for number in half)])
        return []

    def _suspects(self, numbers: Sequence[int], files: Collection[str]) -> list[int]:
        """Faults of the files that the compiler names; all of them where it names none."""
        named = [number for number in numbers if self._project.faults[number].mutant.file in files]
        return named or list(numbers)

    def compiled(self, numbers: Sequence[int]) -> tuple[dict[str, Any], str]:
        """Test contracts with these faults in what they test, or what the compiler cannot do."""
        carried = self._schemas(numbers)
        while True:
            quick = [test for test in self._project.tests if test not in self._large]
            output = compile_json(self._input(carried, quick, _OUTPUTS, _QUICK))
            problems = errors(output)
            if not problems:
                break
            place = str(problems[0].get("sourceLocation", {}).get("file"))
            large = {test for test in quick if place in closure(self._project.texts, [test])}
            if not large or not place.startswith(TESTS):
                return {}, str(problems[0]["formattedMessage"])
            self._large |= large
        contracts = {name: output["contracts"][name] for name in quick}
        if self._large:
            output = compile_json(self._input(carried, sorted(self._large), _OUTPUTS, _LARGE))
            if not errors(output):  # else the other tests judge alone
                contracts |= {name: output["contracts"][name] for name in self._large}
        return contracts, ""

    def _schemas(self, numbers: Sequence[int]) -> dict[str, Schema]:
        """File -> its schema, for files that carry any of the faults."""
        texts: dict[str, dict[Site, dict[int, str]]] = {}
        for number in numbers:
            fault = self._project.faults[number]
            texts.setdefault(fault.mutant.file, {}).setdefault(fault.site, {})[number] = fault.text
        helpers = {Kind.YUL_BLOCK, Kind.MODIFIER_DEFINITION}
        carried = {}
        for file, chosen in texts.items():
            sites = [site for site in self._project.sites[file] if site in chosen or site.kind in helpers]
            source = self._project.texts[file].encode()
            carried[file] = schema(source, [Chosen(site, chosen.get(site, {})) for site in sites])
        return carried

    def _input(
        self,
        carried: Mapping[str, Schema],
        tests: Sequence[str],
        outputs: Sequence[str],
        settings: Mapping[str, object],
    ) -> dict[str, Any]:
        content = standard_input(ROOT, [], {}, **settings)
        for name in closure(self._project.texts, tests):
            text = self._project.texts[name].encode()
            if name in carried:
                text = carried[name].text
            elif name.startswith("contracts/"):
                text = viewed(text)
            content["sources"][name] = {"content": text.decode()}
        content["settings"]["outputSelection"] = {test: {"*": list(outputs)} for test in tests}
        return content
