"""What a step check costs at large shapes is committed, so that a change of it is seen in review."""

import json

import pytest

from efedllm.chain.local import AnvilProcess
from tests.gas.measure_steps import LIMIT, LINEAR_LIMIT, LINEARS, SNAPSHOT, measure

REFRESH = "look at the difference, then: .venv/bin/python -m tests.gas.measure_steps"


@pytest.fixture(scope="module")
def gas() -> dict[str, int]:
    with AnvilProcess.start() as anvil:
        return measure(anvil)


def test_snapshot_is_what_step_checks_cost(gas: dict[str, int]) -> None:
    assert gas == json.loads(SNAPSHOT.read_text()), REFRESH


def test_every_step_check_keeps_the_limit(gas: dict[str, int]) -> None:
    assert {name: cost for name, cost in gas.items() if cost > LIMIT} == {}


@pytest.mark.parametrize("name", LINEARS)
def test_a_linear_of_4096_columns_keeps_its_limit(gas: dict[str, int], name: str) -> None:
    assert gas[name] <= LINEAR_LIMIT
