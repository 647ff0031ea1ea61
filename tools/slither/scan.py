"""Runs every detector of Slither over a standard JSON input and prints the findings as JSON.

    python scan.py INPUT SOLC        in the environment of requirements.txt, from the root of the checkout

Prints a list of objects: `detector`, `impact`, `confidence`, `place` (contract and function), `file`, `line`, `text`.
Dependencies are read, but findings in them are left out.
"""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from crytic_compile import CryticCompile
from crytic_compile.platform.solc_standard_json import SolcStandardJson
from slither import Slither
from slither.detectors import all_detectors
from slither.detectors.abstract_detector import AbstractDetector


def main() -> int:
    content, solc = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
    project = CryticCompile(SolcStandardJson(content), solc=solc)
    slither = Slither(project, disable_plugins=True)
    for name in dir(all_detectors):
        kind = getattr(all_detectors, name)
        if inspect.isclass(kind) and issubclass(kind, AbstractDetector) and kind is not AbstractDetector:
            slither.register_detector(kind)
    found = [result for results in slither.run_detectors() for result in results]
    json.dump([item for item in map(finding, found) if item is not None], sys.stdout)
    return 0


def finding(result: dict[str, Any]) -> dict[str, Any] | None:
    """Where the first element of a finding is; None for a dependency's."""
    element: dict[str, Any] = next(iter(result["elements"]), {})
    source: dict[str, Any] = element.get("source_mapping", {})
    file, lines = str(source.get("filename_relative", "")), source.get("lines") or [0]
    if file.startswith("node_modules/"):
        return None
    return {
        "detector": result["check"],
        "impact": result["impact"],
        "confidence": result["confidence"],
        "place": place(element),
        "file": file,
        "line": lines[0],
        "text": " ".join(result["description"].split()),
    }


def place(element: dict[str, Any]) -> str:
    """`Contract.function`, also for a statement in it; the contract, variable or file otherwise."""
    names: list[str] = []
    at = element
    while at:
        if at.get("type") in {"contract", "function", "variable", "event", "struct", "enum"}:
            names.insert(0, at["name"])
        at = at.get("type_specific_fields", {}).get("parent")
    return ".".join(names) or str(element.get("name", ""))


if __name__ == "__main__":
    sys.exit(main())
