"""The process that runs suites with a fault switched on: its answers, and that no time or memory runs away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.mutation.campaign import STUCK, killer
from tools.mutation.runner import Runner
from tools.mutation.unit import compile_json, errors

SOURCE = """// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

contract JudgeTest {
    function test_coinbase_isNoFault() external view {
        require(uint160(address(block.coinbase)) != 7);
    }
}

contract GrowTest {
    // Runs once more with a trace because it fails. Each call costs a hundred gas, and a megabyte of the trace.
    function test_calls_fillMemory() external {
        bytes memory data = new bytes(1_000_000);
        for (uint256 i; i < 2_000; ++i) {
            (bool done, ) = address(0x1234).call(data);
            require(done);
        }
        revert();
    }
}
"""
# Three times of what Node takes by itself.
MEMORY_MIB = 300


@pytest.fixture(scope="module")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = {
        "language": "Solidity",
        "sources": {"X.t.sol": {"content": SOURCE}},
        "settings": {
            "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
        },
    }
    output = compile_json(content)
    assert errors(output) == []
    path = tmp_path_factory.mktemp("unit") / "0.json"
    path.write_text(json.dumps(output["contracts"]))
    return path


def test_a_fault_is_switched_on_for_its_own_job_only(contracts: Path) -> None:
    with Runner(contracts) as runner:
        assert runner.run(0, ["JudgeTest"]).failed == ()
        assert runner.run(7, ["JudgeTest"]).failed == ("JudgeTest.test_coinbase_isNoFault()",)
        assert runner.run(8, ["JudgeTest"]).failed == ()


def test_a_test_that_is_ignored_does_not_run(contracts: Path) -> None:
    with Runner(contracts) as runner:
        assert runner.run(7, ["JudgeTest"], ignored=["JudgeTest.test_coinbase_isNoFault()"]).failed == ()
        ignored = ["GrowTest.test_coinbase_isNoFault()", "JudgeTest.test_coinbase_isNoFaul.*"]
        assert runner.run(7, ["JudgeTest"], ignored=ignored).failed == ("JudgeTest.test_coinbase_isNoFault()",)


def test_tests_that_fill_memory_count_as_noticed_and_the_next_job_gets_an_answer(contracts: Path) -> None:
    with Runner(contracts, memory_mib=MEMORY_MIB) as runner:
        outcome = runner.run(1, ["GrowTest"])
        assert outcome.is_stuck
        assert killer(outcome) == STUCK
        following = runner.run(7, ["JudgeTest"])
        assert not following.is_stuck
        assert killer(following) == "JudgeTest.test_coinbase_isNoFault()"


def test_tests_without_end_count_as_noticed(contracts: Path) -> None:
    with Runner(contracts, patience_seconds=0) as runner:
        assert runner.run(0, ["JudgeTest"]).is_stuck
