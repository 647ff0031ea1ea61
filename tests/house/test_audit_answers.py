"""Answers to what the tools find: each has a reason, hides nothing new, and goes when its finding goes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tools.mutation import answers
from tools.slither.findings import Finding, read_answers, stale, unanswered


def finding(detector: str, place: str, line: int = 1) -> Finding:
    return Finding(detector, "Low", "High", place, "contracts/X.sol", line, "text")


def test_every_committed_answer_has_a_reason() -> None:
    assert sum(read_answers().values()) > 0
    assert all(len(why) > 20 for why in answers.read().values())


def test_a_finding_without_an_answer_is_open() -> None:
    known = Counter({("timestamp", "X.f"): 1})
    found = [finding("timestamp", "X.f"), finding("timestamp", "X.g"), finding("assembly", "X.f")]
    assert unanswered(found, known) == found[1:]


def test_an_answer_is_for_one_finding() -> None:
    """A second fault of a kind in a function is not covered by the answer to the first."""
    found = [finding("timestamp", "X.f", 1), finding("timestamp", "X.f", 2)]
    assert unanswered(found, Counter({("timestamp", "X.f"): 1})) == found[1:]
    assert unanswered(found, Counter({("timestamp", "X.f"): 2})) == []


def test_an_answer_outlives_a_shift_of_lines() -> None:
    assert unanswered([finding("timestamp", "X.f", 99)], Counter({("timestamp", "X.f"): 1})) == []


def test_an_answer_without_a_finding_is_stale() -> None:
    known = Counter({("timestamp", "X.f"): 2, ("assembly", "X.g"): 1})
    assert stale([finding("timestamp", "X.f")], known) == [("assembly", "X.g"), ("timestamp", "X.f")]


@pytest.mark.parametrize(
    "text",
    [
        '[[answer]]\ndetector = "a"\nplaces = ["X.f"]\nwhy = " "\n',
        '[[answer]]\ndetector = "a"\nplaces = []\nwhy = "because"\n',
        '[[answer]]\ndetector = "a"\nplaces = ["X.f"]\n',
        '[[answer]]\ndetector = "a"\nplaces = ["X.f"]\nwhy = "because"\nfile = "X.sol"\n',
    ],
)
def test_an_answer_to_slither_that_says_too_little_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "slither.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"slither\.toml"):
        read_answers(path)


def test_survivors(tmp_path: Path) -> None:
    path = tmp_path / "mutants.toml"
    path.write_text('[[survivor]]\nfault = "contracts/X.sol X.f: a -> b"\nwhy = "both are the same here"\n')
    known = answers.read(path)
    name = "contracts/X.sol X.f: a -> b"
    assert answers.unanswered([name, "other"], known) == ["other"]
    assert answers.stale([name], known, ["contracts/X.sol"]) == []
    assert answers.stale([], known, ["contracts/X.sol"]) == [name]
    assert answers.stale([], known, ["contracts/Y.sol"]) == []
    assert answers.read(tmp_path / "none.toml") == {}


@pytest.mark.parametrize(
    "text",
    [
        '[[survivor]]\nfault = "f"\nwhy = ""\n',
        '[[survivor]]\nfault = "f"\n',
        '[[survivor]]\nfault = "f"\nwhy = "a"\n[[survivor]]\nfault = "f"\nwhy = "b"\n',
    ],
)
def test_an_answer_to_a_survivor_that_says_too_little_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mutants.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"mutants\.toml"):
        answers.read(path)
