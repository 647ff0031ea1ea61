"""Every benchmark runs, on toy sizes, and says what it found in the form that others read. No number is judged here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.page import PAGE, fill
from benchmarks.report import RESULTS, Report, at_most, below, machine, reported

MACHINE = machine()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_gives_well_formed_json(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--quick", "--json", "--out", str(tmp_path)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert json.loads((tmp_path / f"{name}.json").read_text()) == found
    assert found["benchmark"] == name
    check(found)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_committed_results_are_of_this_form_and_of_a_full_run(name: str) -> None:
    found = json.loads((RESULTS / f"{name}.json").read_text())
    assert found["benchmark"] == name
    assert not any("toy" in result["name"] for result in found["results"])
    check(found)


def check(found: dict[str, Any]) -> None:
    assert found.keys() == {"benchmark", "machine", "results"}
    assert found["machine"]["cpu"]
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["torch"].startswith("2.")
    assert found["results"]
    for result in found["results"]:
        assert result.keys() == {"name", "value", "unit", "target", "met"}
        assert isinstance(result["value"], float)
        assert result["unit"]
        assert (result["target"] is None) == (result["met"] is None)


def test_page_shows_the_committed_results() -> None:
    text = PAGE.read_text()
    assert fill(text, RESULTS) == text
    assert all(f"<!-- {name} -->" in text for name in BENCHMARKS)


def test_page_keeps_what_was_not_measured(tmp_path: Path) -> None:
    Report("gas", MACHINE, (at_most("open", 66_783, "gas", 65_000),)).write(tmp_path)
    text = "a\n<!-- gas -->\nold\n<!-- end -->\nb\n<!-- speed -->\nkept\n<!-- end -->\n"
    filled = fill(text, tmp_path)
    assert "| open | 66,783 | gas | <= 65000 | NO |\n<!-- end -->\nb\n" in filled
    assert "old" not in filled
    assert filled.endswith("b\n<!-- speed -->\nkept\n<!-- end -->\n")
    assert fill(filled, tmp_path) == filled


def test_targets_are_met_up_to_their_limits() -> None:
    assert [at_most("gas", value, "gas", 15).met for value in (14.9, 15, 15.1)] == [True, True, False]
    assert [below("share", value, "%", 0.5).met for value in (0.49, 0.5)] == [True, False]
    assert reported("speed", 3.14159265, "tokens/s").value == 3.14159
    assert at_most("gas", 15, "gas", 15).target == "<= 15"


def test_table_shows_what_was_missed() -> None:
    results = (at_most("open", 66_783, "gas", 65_000), below("share", 0.4, "%", 0.5), reported("claim", 11_896, "gas"))
    opened, share, claim = Report("gas", MACHINE, results).to_text().splitlines()[2:5]
    assert opened.split() == ["open", "66,783", "gas", "<=", "65000", "NO"]
    assert share.endswith("yes")
    assert claim.split() == ["claim", "11,896", "gas"]


def test_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["speeed"])
    assert ended.value.code == 2
    assert "no benchmark 'speeed'" in capsys.readouterr().err


def test_quick_run_keeps_nothing_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.__main__.RESULTS", tmp_path)
    assert main(["commitment", "--quick"]) == 0
    assert list(tmp_path.iterdir()) == []
