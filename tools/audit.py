"""`python -m tools.audit`: everything that a contract auditor would ask for, with one line of figures each at the end.

Parts: invariants, coverage, slither, mutation, gas (default: all). Exit code 0 only if every target is met.
docs/audit.md says how to read the figures.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tools.setup import ROOT, VENV

INVARIANTS_TARGET, CALLS_TARGET = 12, 10_000
INVARIANT_RUNS, INVARIANT_DEPTH = 40, 256

Judge = Callable[[int, Sequence[str]], tuple[bool, str]]


@dataclass(frozen=True)
class Part:
    """A program, and what its exit code and output come to: whether the target is met, and a line of figures."""

    command: Sequence[str]
    judge: Judge
    environment: Mapping[str, str] = field(default_factory=dict)


def judge_invariants(code: int, output: Sequence[str]) -> tuple[bool, str]:
    """Hardhat prints `invariant_name() (runs: 40)` for each that holds."""
    found = [re.search(r"\b(invariant_\w+)\(\) \(runs: (\d+)\)", line) for line in output]
    calls = [int(match[2]) * INVARIANT_DEPTH for match in found if match]
    fewest = min(calls, default=0)
    text = (
        f"invariants: {len(calls)} hold over {fewest:,} calls each (targets {INVARIANTS_TARGET} and {CALLS_TARGET:,})"
    )
    return code == 0 and len(calls) >= INVARIANTS_TARGET and fewest >= CALLS_TARGET, text


def last_line(name: str) -> Judge:
    """For a tool of ours, which ends with its own line of figures and fails where its target is missed."""

    def judge(code: int, output: Sequence[str]) -> tuple[bool, str]:
        figures = [line for line in output if line.startswith(f"{name}: ")]
        return code == 0 and bool(figures), figures[-1] if figures else f"{name}: ended without a result"

    return judge


def judge_gas(code: int, output: Sequence[str]) -> tuple[bool, str]:
    closing = next(
        (line for line in reversed(output) if "passed" in line or "failed" in line), "ended without a result"
    )
    return code == 0, f"gas: snapshot and limits, {closing.strip('= ')}"


_PYTHON = str(VENV / "bin" / "python")
PARTS: Mapping[str, Part] = {
    "invariants": Part(
        [str(ROOT / "node_modules/.bin/hardhat"), "test", "solidity", "contracts/test/Invariants.t.sol"],
        judge_invariants,
        {"INVARIANT_RUNS": str(INVARIANT_RUNS), "INVARIANT_DEPTH": str(INVARIANT_DEPTH), "CI": "true", "NO_COLOR": "1"},
    ),
    "coverage": Part([_PYTHON, "-m", "tools.coverage"], last_line("coverage")),
    "slither": Part([_PYTHON, "-m", "tools.slither"], last_line("slither")),
    "mutation": Part([_PYTHON, "-m", "tools.mutation"], last_line("mutation")),
    "gas": Part([_PYTHON, "-m", "pytest", "-q", "tests/gas"], judge_gas, {"OMP_NUM_THREADS": "1"}),
}


def run(part: Part) -> tuple[bool, str]:
    """Run a part to its end, showing its output as it comes."""
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"} | dict(part.environment)
    lines: list[str] = []
    with subprocess.Popen(
        part.command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
    return part.judge(process.returncode, lines)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description="Audit the contracts.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    chosen = parser.parse_args(words).parts or list(PARTS)
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]}")
    results = []
    for name in chosen:
        print(f"\n{name}", flush=True)
        results.append(run(PARTS[name]))
    print()
    for is_met, line in results:
        print(f"{'ok    ' if is_met else 'MISSED'}  {line}")
    return 0 if all(is_met for is_met, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
