"""Survivors that no test can notice, each with the reason: contracts/mutants.toml.

[[survivor]]
fault = "contracts/X.sol X.f: a < b -> (a <= b)"
why = "..."
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from tools.setup import ROOT

ANSWERS = ROOT / "contracts" / "mutants.toml"


def read(path: Path = ANSWERS) -> dict[str, str]:
    """Name of a fault -> why it survives. Raises ValueError for an entry that says nothing."""
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    for entry in tomllib.loads(path.read_text()).get("survivor", []):
        if set(entry) != {"fault", "why"} or not entry["why"].strip() or entry["fault"] in found:
            raise ValueError(f"{path.name}: each survivor has one entry, with `fault` and `why`: {entry}")
        found[entry["fault"]] = entry["why"]
    return found


def unanswered(survivors: Collection[str], answers: Mapping[str, str]) -> list[str]:
    return [name for name in survivors if name not in answers]


def stale(survivors: Collection[str], answers: Mapping[str, str], files: Collection[str]) -> list[str]:
    """Answers about faults of `files` that are not there any more, or that a test notices."""
    about = [name for name in answers if name.split(" ", 1)[0] in files]
    return [name for name in about if name not in survivors]
