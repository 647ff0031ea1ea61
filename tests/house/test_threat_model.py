"""The threat model names what shows each of its claims: it has to be there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/threat-model.md").read_text()


def sources() -> str:
    files = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("contracts/test/*.sol")]
    return "\n".join(path.read_text() for path in files if path != Path(__file__))


def test_every_file_named_exists() -> None:
    named = set(re.findall(r"`((?:tests|contracts|docs|worker|efedllm)/[\w/.-]+)`", PAGE))
    assert len(named) > 40
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_test_named_exists() -> None:
    written = sources()
    named = set(re.findall(r"`((?:test|testFuzz|invariant)_\w+)`", PAGE))
    assert len(named) > 60
    assert [name for name in sorted(named) if not re.search(rf"(?:def|function) {name}\b", written)] == []


def test_every_case_named_exists() -> None:
    cases = (ROOT / "tests/end_to_end/test_cheating_workers.py").read_text()
    cases += (ROOT / "tests/support/cheating_till.py").read_text()
    named = set(re.findall(r"\[([a-z][a-z ]+)\]", PAGE))
    assert len(named) > 15
    assert [name for name in sorted(named) if name not in cases] == []
