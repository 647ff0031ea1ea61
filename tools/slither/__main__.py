"""`python -m tools.slither`: every detector over the contracts; fails on a finding that nobody has answered."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from efedllm.chain.solidity import COMPILER, standard_input
from tools.setup import ROOT
from tools.slither.environment import environment_python
from tools.slither.findings import ANSWERS, Finding, read_answers, stale, unanswered

_OUTPUTS = {"": ["ast"], "*": ["abi", "evm.bytecode", "evm.deployedBytecode", "evm.methodIdentifiers"]}
# Slither reads syntax trees, for which the slow way of compiling makes no difference.
_QUICK: dict[str, object] = {"viaIR": False, "optimizer": {"enabled": True, "runs": 1}}


def scan() -> list[Finding]:
    """All findings in our contracts, in order of file and line. Raises subprocess.CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "contracts.json")
        path.write_text(json.dumps(_input()))
        command = [environment_python(), Path(__file__).with_name("scan.py"), path, ROOT / COMPILER]
        result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found = [Finding(**item) for item in json.loads(result.stdout)]
    return sorted(found, key=lambda finding: (finding.file, finding.line, finding.detector))


def _input() -> dict[str, Any]:
    """Sources under their paths in the checkout, where Slither looks for them again."""
    paths = sorted((ROOT / "contracts").rglob("*.sol"))
    files = [path.relative_to(ROOT).as_posix() for path in paths if ROOT / "contracts" / "test" not in path.parents]
    content = standard_input(ROOT, files, _OUTPUTS, **_QUICK, remappings=["@=node_modules/@"])
    sources = content["sources"]
    content["sources"] = {f"node_modules/{name}" if name[0] == "@" else name: sources[name] for name in sources}
    return content


def main() -> int:
    try:
        findings, answered = scan(), read_answers()
    except subprocess.CalledProcessError as error:
        print(f"slither: {error}\n{error.stderr or ''}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"slither: {error}", file=sys.stderr)
        return 1
    open_ones, old = unanswered(findings, answered), stale(findings, answered)
    for finding in open_ones:
        print(f"{finding.file}:{finding.line} {finding.place} [{finding.detector}, {finding.impact}] {finding.text}")
    for detector, place in old:
        print(f"{ANSWERS.name} answers {detector} at {place}, where it finds nothing")
    print(
        f"slither: {len(findings)} findings, {len(findings) - len(open_ones)} answered, {len(open_ones)} not (target 0)"
    )
    return 1 if open_ones or old else 0


if __name__ == "__main__":
    sys.exit(main())
