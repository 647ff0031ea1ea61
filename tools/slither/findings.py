"""Findings, and the answers to them in contracts/slither.toml.

    [[answer]]
    detector = "timestamp"
    places = ["Channels.release"]      once for each finding there
    why = "..."

A finding is known by its detector and place, not by its line, so that an answer outlives other edits.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.setup import ROOT

ANSWERS = ROOT / "contracts" / "slither.toml"

Key = tuple[str, str]


@dataclass(frozen=True)
class Finding:
    """What a detector says; `place` is a contract's function or variable, `impact` its own word for the weight."""

    detector: str
    impact: str
    confidence: str
    place: str
    file: str
    line: int
    text: str

    @property
    def key(self) -> Key:
        return self.detector, self.place


def read_answers(path: Path = ANSWERS) -> Counter[Key]:
    """How many findings of a detector at a place are answered. Raises ValueError for an entry without a reason."""
    answered: Counter[Key] = Counter()
    for entry in tomllib.loads(path.read_text()).get("answer", []):
        if set(entry) != {"detector", "places", "why"} or not entry["why"].strip() or not entry["places"]:
            raise ValueError(f"{path.name}: an answer has `detector`, `places` and `why`: {entry}")
        answered.update((entry["detector"], place) for place in entry["places"])
    return answered


def unanswered(findings: Iterable[Finding], answered: Counter[Key]) -> list[Finding]:
    """Findings beyond those that are answered, in order."""
    left = Counter(answered)
    found = []
    for finding in findings:
        if left[finding.key] > 0:
            left[finding.key] -= 1
        else:
            found.append(finding)
    return found


def stale(findings: Sequence[Finding], answered: Counter[Key]) -> list[Key]:
    """Answers to which there is no finding any more."""
    return sorted((answered - Counter(finding.key for finding in findings)).elements())
