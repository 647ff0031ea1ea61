"""Line and branch coverage of the contracts by the Solidity tests: `python -m tools.coverage`.

Hardhat counts statements only, and takes assembly for one. So this runs the tests on a copy of the sources in which
every condition reports which way it went: of `if`, `while`, `for` and `?:`, both operands of `&&` and `||`, and `if`
and `for` in assembly. Both ways of each have to be taken. Not counted are the checks that the compiler adds by itself
(overflow, arguments of calls). The copy has the lines of the original: one run gives Hardhat's lines and our branches.

Prints one line per file and one per gap; exit status 1 where a line or a way was not taken.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.setup import ROOT, VENV

COPY = ROOT / "build" / "coverage"
CONTRACTS = ROOT / "contracts"
TAG = 0xBEAC << 240
"""Of our own reports; Hardhat's are hashes."""
REPORTER = "Reporter.sol"
# The address at which the test runner collects reports, see @nomicfoundation/edr/coverage.
REPORTER_SOURCE = """// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

library Reporter {
    function way(uint256 tag, bool taken) internal pure returns (bool) {
        _pure(_report)(taken ? tag + 1 : tag);
        return taken;
    }

    function _report(uint256 tag) private view {
        assembly ("memory-safe") {
            mstore(0, tag)
            pop(staticcall(gas(), 0xc0bEc0BEc0BeC0bEC0beC0bEC0bEC0beC0beC0BE, 0, 32, 0, 0))
        }
    }

    function _pure(function(uint256) view given) private pure returns (function(uint256) pure same) {
        assembly {
            same := given
        }
    }
}
"""
YUL_REPORTER = (
    "function way(tag, condition) -> same { same := condition mstore(0, add(tag, iszero(iszero(condition)))) "
    "pop(staticcall(gas(), 0xc0bEc0BEc0BeC0bEC0beC0bEC0bEC0beC0beC0BE, 0, 32, 0, 0)) }"
)


class CoverageError(Exception):
    """The tests fail on the copy, or the compiler does not understand a source."""


@dataclass(frozen=True)
class Condition:
    """A half-open range of bytes of a source file; `tag` + 1 is reported where it holds, `tag` where not."""

    source: str
    start: int
    end: int
    tag: int
    in_assembly: bool


def sources() -> list[Path]:
    """All of our contracts but the tests, relative to the folder of contracts."""
    return sorted(
        path.relative_to(CONTRACTS)
        for path in CONTRACTS.rglob("*.sol")
        if path.relative_to(CONTRACTS).parts[0] != "test"
    )


def syntax_trees() -> dict[str, Any]:
    """Source name -> syntax tree, of our contracts and of what they import. Raises CoverageError."""
    packages = ROOT / "node_modules" / "@openzeppelin" / "contracts"
    texts = {f"contracts/{path}": (CONTRACTS / path).read_text() for path in sources()}
    for path in packages.rglob("*.sol"):
        texts[f"@openzeppelin/contracts/{path.relative_to(packages)}"] = path.read_text()
    wanted = [name for name in texts if name.startswith("contracts/")]
    needed: dict[str, dict[str, str]] = {}
    while wanted:  # and what they import
        name = wanted.pop()
        needed[name] = {"content": texts[name]}
        for found in re.findall(r'import [^"]*"([^"]+)";', texts[name]):
            at = os.path.normpath(os.path.join(os.path.dirname(name), found)) if found.startswith(".") else found
            wanted += [at] if at not in needed else []
    settings = {"outputSelection": {"*": {"": ["ast"]}}}
    request = {"language": "Solidity", "sources": needed, "settings": settings}
    result = subprocess.run(
        [str(ROOT / "tools" / "solc"), "--standard-json"], input=json.dumps(request), capture_output=True, text=True
    )
    if result.returncode:
        raise CoverageError(result.stderr.strip())
    answer = json.loads(result.stdout)
    errors = [error["formattedMessage"] for error in answer.get("errors", ()) if error["severity"] == "error"]
    if errors:
        raise CoverageError("\n".join(errors))
    return {name: entry["ast"] for name, entry in answer["sources"].items() if name.startswith("contracts/")}


def expressions(node: Any) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every expression whose truth decides what happens next, and whether it is in assembly."""
    if isinstance(node, list):
        for child in node:
            yield from expressions(child)
        return
    if not isinstance(node, dict):
        return
    kind = node.get("nodeType")
    if kind in ("IfStatement", "Conditional", "WhileStatement", "ForStatement", "DoWhileStatement"):
        yield from ((condition, False) for condition in [node.get("condition")] if condition is not None)
    if kind == "BinaryOperation" and node["operator"] in ("&&", "||"):
        yield node["leftExpression"], False
        yield node["rightExpression"], False
    if kind in ("YulIf", "YulForLoop"):
        yield node["condition"], True
    for key, child in node.items():
        if key != "documentation":
            yield from expressions(child)


def conditions(trees: dict[str, Any]) -> list[Condition]:
    found: dict[tuple[str, int, int], bool] = {}
    for source, tree in trees.items():
        for node, in_assembly in expressions(tree):
            start, length = map(int, node["src"].split(":")[:2])
            found[source, start, start + length] = in_assembly
    return [
        Condition(source, start, end, TAG + 2 * number, in_assembly)
        for number, ((source, start, end), in_assembly) in enumerate(sorted(found.items()))
    ]


def instrument(source: str, text: bytes, found: list[Condition]) -> bytes:
    """The source with each condition wrapped in a report; lines stay where they are."""
    inserted: list[tuple[int, int, bytes]] = []
    for one in found:
        call = f"way({hex(one.tag)}, " if one.in_assembly else f"Reporter.way({hex(one.tag)}, "
        # Of those that begin together the longest opens first; of those that end together it closes last.
        inserted.append((one.start, -(one.end - one.start), call.encode()))
        inserted.append((one.end, -len(text) - one.start, b")"))
    for place, _, addition in sorted(inserted, reverse=True):
        text = text[:place] + addition + text[place:]
    depth = len(Path(source).parents) - 2
    library = ("../" * depth or "./") + REPORTER
    pragma = b"pragma solidity 0.8.37;"
    text = text.replace(pragma, pragma + f' import {{Reporter}} from "{library}";'.encode(), 1)
    if any(one.in_assembly for one in found):
        text = text.replace(b" internal pure ", b" internal view ")  # a report is a call
        text = re.sub(rb'(assembly (?:\("memory-safe"\) )?\{)', rb"\1 " + YUL_REPORTER.encode(), text)
    return text


def make_copy(found: list[Condition]) -> None:
    shutil.rmtree(COPY / "contracts", ignore_errors=True)
    shutil.copytree(CONTRACTS, COPY / "contracts")
    shutil.rmtree(COPY / "coverage", ignore_errors=True)
    for path in sources():
        source = f"contracts/{path}"
        text = (CONTRACTS / path).read_bytes()
        (COPY / source).write_bytes(instrument(source, text, [one for one in found if one.source == source]))
    (COPY / "contracts" / REPORTER).write_text(REPORTER_SOURCE)
    for name in ("hardhat.config.js", "package.json"):
        shutil.copy(ROOT / name, COPY / name)
    shutil.copytree(ROOT / "tests" / "vectors", COPY / "tests" / "vectors", dirs_exist_ok=True)
    if not (COPY / "node_modules").exists():
        (COPY / "node_modules").symlink_to(ROOT / "node_modules")


def run_tests() -> None:
    """Raises CoverageError with the runner's words if a test fails."""
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # How often a drawn test is repeated says nothing about which ways there are.
    environment = {"FUZZ_RUNS": "32", "INVARIANT_RUNS": "2", **os.environ, "PATH": path, "CI": "true"}
    command = [str(ROOT / "node_modules" / ".bin" / "hardhat"), "--coverage", "test", "solidity"]
    result = subprocess.run(command, cwd=COPY, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise CoverageError(f"the tests fail:\n{result.stdout}{result.stderr}")


def read_tags() -> set[int]:
    tags: set[int] = set()
    for path in (COPY / "coverage" / "data").rglob("*.json"):
        tags.update(int(tag, 16) for tag in json.loads(path.read_text()))
    return tags


def read_lines() -> dict[str, dict[int, bool]]:
    """Source -> line -> whether it was run."""
    lines: dict[str, dict[int, bool]] = {}
    for row in (COPY / "coverage" / "lcov.info").read_text().splitlines():
        key, _, value = row.partition(":")
        if key == "SF":
            current = lines.setdefault(value, {})
        elif key == "DA":
            number, count = value.split(",")[:2]
            current[int(number)] = count != "0"
    return lines


def report(found: list[Condition], tags: set[int], lines: dict[str, dict[int, bool]]) -> bool:
    """Prints what was covered; true if everything was."""
    gaps: list[str] = []
    totals = [0, 0, 0, 0]
    for path in sources():
        source = f"contracts/{path}"
        text = (CONTRACTS / path).read_bytes()
        own = [one for one in found if one.source == source]
        ways = [(one, way) for one in own for way in (0, 1)]
        missed = [(one, way) for one, way in ways if one.tag + way not in tags]
        run = lines.get(source, {})
        if not run and not ways:
            continue
        counts = (sum(run.values()), len(run), len(ways) - len(missed), len(ways))
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        print(f"{source}: lines {counts[0]} of {counts[1]}, branches {counts[2]} of {counts[3]}")
        gaps += [f"{source}:{number}: never run" for number, hit in run.items() if not hit]
        for one, way in missed:
            number = text[: one.start].count(b"\n") + 1
            gaps.append(f"{source}:{number}: never {bool(way)!s}: {text[one.start : one.end].decode()}")
    for gap in gaps:
        print(gap)
    print(
        f"coverage: lines {totals[0]} of {totals[1]}, branches {totals[2]} of {totals[3]}"
        f" ({len(gaps)} gap{'' if len(gaps) == 1 else 's'})"
    )
    return not gaps and totals[1] > 0 and totals[3] > 0


def main() -> int:
    argparse.ArgumentParser(prog="python -m tools.coverage", description=__doc__).parse_args()
    try:
        found = conditions(syntax_trees())
        make_copy(found)
        run_tests()
        return 0 if report(found, read_tags(), read_lines()) else 1
    except CoverageError as error:
        print(f"coverage: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
