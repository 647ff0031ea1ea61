"""stake, unstake, withdraw stake."""

from collections.abc import Callable

import pytest

from efedllm.chain.local import AnvilProcess
from tests.support.chain import WORK
from tests.support.cli import Person

People = Callable[[str], Person]


def test_stake_registers_and_stakes(person: People) -> None:
    worker = person("worker").with_keys()
    result = worker.json("stake", "1000")
    assert result["stake"] == str(1000 * WORK)
    assert result["role"] == "worker"
    listed = {key["role"]: key["address"] for key in worker.run("keys", "list", "--json").json["keys"]}
    assert (result["participant"], result["hot_key"]) == (listed["cold"], listed["hot"])


def test_stake_twice_adds_up(person: People) -> None:
    worker = person("worker").with_keys()
    worker.json("stake", "1000")
    assert worker.json("stake", "0.5")["stake"] == str(1000 * WORK + WORK // 2)


def test_stake_as_verifier_then_as_worker_is_refused(person: People) -> None:
    verifier = person("verifier").with_keys()
    verifier.json("stake", "10", "--role", "verifier")
    result = verifier.on_chain("stake", "10")
    assert result.code == 1
    assert "is registered as a verifier" in result.err


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        ("0", "is zero"),
        ("ten", "not a positive decimal number"),
        ("-5", "not a positive decimal number"),
        ("1.0000000000000000001", "too precise: the token has 18 decimals"),
        ("80000000000", "too large"),
    ],
)
def test_stake_bad_amount(person: People, amount: str, message: str) -> None:
    worker = person("worker").with_keys()
    result = worker.on_chain("stake", amount)
    assert result.code == 1
    assert result.err.startswith("error: amount ")
    assert message in result.err
    assert result.out == ""


def test_stake_more_than_owned(person: People) -> None:
    result = person("worker").with_keys(work="5").on_chain("stake", "6")
    assert result.code == 1
    assert "has 5 WORK, 6 WORK are needed (local chain: `efedllm fund`)" in result.err


def test_stake_without_gas(person: People) -> None:
    worker = person("worker")
    worker.run("keys", "new", "--light")
    worker.on_chain("fund", "--eth", "0", "--work", "100")
    result = worker.on_chain("stake", "6")
    assert result.code == 1
    assert "cannot pay for gas" in result.err


def test_stake_without_hot_key(person: People) -> None:
    worker = person("worker")
    worker.run("keys", "new", "cold", "--light")
    result = worker.on_chain("stake", "6")
    assert result.code == 1
    assert "no hot key" in result.err
    assert "efedllm keys new hot" in result.err


def test_unstake_and_withdraw(person: People, anvil: AnvilProcess) -> None:
    worker = person("worker").with_keys(work="1000")
    worker.json("stake", "1000")
    asked = worker.json("unstake", "400")
    assert (asked["stake"], asked["unbonding"]) == (str(600 * WORK), str(400 * WORK))

    early = worker.on_chain("withdraw", "stake")
    assert early.code == 1
    assert "a challenge can still reach the stake until" in early.err

    anvil.increase_time(21)
    assert worker.json("withdraw", "stake") == {"to": worker.address, "withdrawn": str(400 * WORK)}
    own = worker.json("status")["own"]
    assert own["work"] == str(400 * WORK)


def test_unstake_everything_and_cancel(person: People) -> None:
    worker = person("worker").with_keys()
    worker.json("stake", "70")
    assert worker.json("unstake")["unbonding"] == str(70 * WORK)
    cancelled = worker.json("unstake", "--cancel")
    assert (cancelled["stake"], cancelled["unbonding"], cancelled["withdrawable_at"]) == (str(70 * WORK), "0", None)


def test_unstake_without_stake(person: People) -> None:
    worker = person("worker").with_keys()
    result = worker.on_chain("unstake")
    assert result.code == 1
    assert "has nothing at stake" in result.err


def test_unstake_too_much_says_how_much_there_is(person: People) -> None:
    worker = person("worker").with_keys()
    worker.json("stake", "1")
    result = worker.on_chain("unstake", "2")
    assert result.code == 1
    assert f"the stake of {WORK} is too small, {2 * WORK} base units are needed" in result.err


def test_withdraw_stake_when_nothing_is_unbonding(person: People) -> None:
    worker = person("worker").with_keys()
    worker.json("stake", "1")
    result = worker.on_chain("withdraw", "stake")
    assert result.code == 1
    assert "run `efedllm unstake` first" in result.err
