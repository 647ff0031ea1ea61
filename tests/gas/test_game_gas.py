"""What the moves of a dispute cost is committed, so that a change of it is seen in review."""

import json

import pytest

from efedllm.chain.local import AnvilProcess
from tests.gas.measure_game import LIMITS, SNAPSHOT, measure

REFRESH = "look at the difference, then: .venv/bin/python -m tests.gas.measure_game"


@pytest.fixture(scope="module")
def gas() -> dict[str, int]:
    with AnvilProcess.start() as anvil:
        return measure(anvil)


def test_snapshot_is_what_moves_cost(gas: dict[str, int]) -> None:
    assert gas == json.loads(SNAPSHOT.read_text()), REFRESH


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_kept(gas: dict[str, int], name: str) -> None:
    assert gas[name] <= LIMITS[name]
