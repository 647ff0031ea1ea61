"""The closing lines of `make audit-contracts`: a missed target is a missed target."""

from __future__ import annotations

import sys

import pytest

from tools import audit
from tools.audit import INVARIANT_RUNS, Part, judge_gas, judge_invariants, last_line, main, run

HOLDING = [f"    ✔ invariant_number{i}() (runs: {INVARIANT_RUNS})" for i in range(12)]


def test_invariants_are_counted() -> None:
    assert judge_invariants(0, HOLDING) == (
        True,
        "invariants: 12 hold over 10,240 calls each (targets 12 and 10,000)",
    )


@pytest.mark.parametrize(
    ("code", "output"),
    [
        (1, HOLDING),
        (0, HOLDING[1:]),
        (0, [*HOLDING[1:], "    ✔ invariant_short() (runs: 39)"]),
        (0, [*HOLDING[1:], "    1) invariant_broken()"]),
        (0, []),
    ],
)
def test_invariants_that_miss_the_target(code: int, output: list[str]) -> None:
    assert judge_invariants(code, output)[0] is False


def test_a_tool_closes_with_its_own_line() -> None:
    judge = last_line("slither")
    assert judge(0, ["noise", "slither: 3 findings, 3 answered, 0 not"]) == (
        True,
        "slither: 3 findings, 3 answered, 0 not",
    )
    assert judge(1, ["slither: 3 findings, 2 answered, 1 not"])[0] is False
    assert judge(0, ["nothing"]) == (False, "slither: ended without a result")


def test_gas_fails_with_its_tests() -> None:
    assert judge_gas(0, ["....", "4 passed in 1.00s"])[0] is True
    assert judge_gas(1, ["1 failed, 3 passed in 1.00s"]) == (
        False,
        "gas: snapshot and limits, 1 failed, 3 passed in 1.00s",
    )


def test_output_and_exit_code_reach_the_judge() -> None:
    part = Part(
        [sys.executable, "-c", "import os; print('x: ' + os.environ['A']); exit(3)"], lambda *it: it, {"A": "b"}
    )
    assert run(part) == (3, ["x: b"])


@pytest.mark.parametrize(("codes", "expected"), [((0, 0), 0), ((0, 1), 1), ((1, 0), 1)])
def test_one_missed_target_fails_the_audit(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], codes: tuple[int, int], expected: int
) -> None:
    parts = {
        name: Part([sys.executable, "-c", f"print('{name}: done'); exit({code})"], last_line(name))
        for name, code in zip(("one", "two"), codes, strict=True)
    }
    monkeypatch.setattr(audit, "PARTS", parts)
    assert main([]) == expected
    closing = capfd.readouterr().out.splitlines()[-2:]
    words = ["MISSED" if code else "ok    " for code in codes]
    assert closing == [f"{words[0]}  one: done", f"{words[1]}  two: done"]
