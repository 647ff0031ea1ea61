"""The measure of coverage sees what was not taken."""

from collections import Counter

import pytest

from tools.coverage import CONTRACTS, Condition, conditions, instrument, report, sources, syntax_trees


@pytest.fixture(scope="module")
def found() -> list[Condition]:
    return conditions(syntax_trees())


def test_every_contract_is_measured(found: list[Condition]) -> None:
    with_conditions = {one.source for one in found}
    named = ("Beacon", "Channels", "DisputeGame", "ModelRegistry", "StakeRegistry", "StatementJudge", "WorkToken")
    assert {f"contracts/{name}.sol" for name in named} <= with_conditions
    assert len({one.tag for one in found}) == len(found)
    assembly = Counter(one.source for one in found if one.in_assembly)
    assert assembly == {f"contracts/libraries/{name}.sol": 5 for name in ("Openings", "ShaPath", "VoucherBatch")}


def test_copies_keep_their_lines(found: list[Condition]) -> None:
    for path in sources():
        text = (CONTRACTS / path).read_bytes()
        own = [one for one in found if one.source == f"contracts/{path}"]
        copy = instrument(f"contracts/{path}", text, own)
        assert copy.count(b"\n") == text.count(b"\n")
        assert copy.count(b"way(0x") == len(own)


def test_a_way_not_taken_is_a_gap(found: list[Condition], capsys: pytest.CaptureFixture[str]) -> None:
    lines = {"contracts/Beacon.sol": {1: True, 2: True}}
    tags = {one.tag + way for one in found for way in (0, 1)}
    assert report(found, tags, lines)
    assert not report(found, tags - {found[0].tag + 1}, lines)
    assert "never True: " in capsys.readouterr().out
    assert not report(found, tags - {found[0].tag}, lines)
    assert "never False: " in capsys.readouterr().out


def test_a_line_not_run_is_a_gap(found: list[Condition], capsys: pytest.CaptureFixture[str]) -> None:
    tags = {one.tag + way for one in found for way in (0, 1)}
    assert not report(found, tags, {"contracts/Beacon.sol": {1: True, 7: False}})
    assert "contracts/Beacon.sol:7: never run" in capsys.readouterr().out
