"""The deployment file: strict, and found in one order."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from efedllm.chain.deployment import Contracts, Deployment, Disputes, Parameters, find_deployment
from efedllm.chain.errors import DeploymentError

ADDRESSES = [f"0x{digit * 40}" for digit in "12345"]


def make(chain_id: int = 31337) -> Deployment:
    return Deployment(
        chain_id=chain_id,
        deploy_block=7,
        token_symbol="WORK",
        token_decimals=18,
        contracts=Contracts(*ADDRESSES),
        parameters=Parameters(5, 10, 20, 2, 10, 0, 1, 1, 10_000, 4_000, 10**21, 32, 0),
        disputes=Disputes(15, 30, 30, 180, 1_000, 1_000, 10**19, 10**18, 10**18),
    )


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deployment.json"
    make().write(path)
    assert Deployment.read(path) == make()
    assert [entry.name for entry in path.parent.iterdir()] == ["deployment.json"]


def test_large_amounts_are_text(tmp_path: Path) -> None:
    """Readers in other languages would round 10^21."""
    assert json.loads(make().to_json())["parameters"]["first_slash"] == "1000000000000000000000"
    assert json.loads(make().to_json())["disputes"]["base_bond"] == "10000000000000000000"


def test_domain_is_that_of_channels() -> None:
    assert (make().domain.chain_id, make().domain.verifying_contract) == (31337, ADDRESSES[3])


def change(path: list[str], value: object) -> Callable[[dict[str, Any]], None]:
    def apply(plain: dict[str, Any]) -> None:
        inner = plain
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return apply


def remove(plain: dict[str, Any]) -> None:
    del plain["contracts"]["beacon"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change(["version"], 2), "not a deployment file of version 1"),
        (change(["extra"], 1), "unknown field extra"),
        (change(["parameters", "extra"], 1), "parameters: unknown field extra"),
        (remove, "contracts: missing field beacon"),
        (change(["contracts"], []), "contracts: expected an object"),
        (change(["contracts", "token"], "0x12"), "token: '0x12' is not an address"),
        (change(["contracts", "token"], "0x" + "aB" * 20), "is mistyped"),
        (change(["chain_id"], "31337"), "chain_id: expected a whole number"),
        (change(["chain_id"], True), "chain_id: expected a whole number"),
        (change(["deploy_block"], -1), "deploy_block: expected a whole number"),
        (change(["token_symbol"], 1), "token_symbol: expected a string of at most 100"),
        (change(["parameters", "first_slash"], 5), "first_slash: expected an amount as a decimal string"),
        (change(["disputes", "demand_fee"], 5), "demand_fee: expected an amount as a decimal string"),
        (change(["disputes"], None), "disputes: expected an object"),
        (change(["parameters", "first_slash"], "-5"), "first_slash: expected an amount as a decimal string"),
    ],
)
def test_read_refuses(tmp_path: Path, spoil: Callable[[dict[str, Any]], None], message: str) -> None:
    plain = json.loads(make().to_json())
    spoil(plain)
    path = tmp_path / "deployment.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(DeploymentError) as caught:
        Deployment.read(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_read_refuses_what_is_no_object(tmp_path: Path, content: str) -> None:
    path = tmp_path / "deployment.json"
    path.write_text(content)
    with pytest.raises(DeploymentError, match=r"deployment\.json is not"):
        Deployment.read(path)


def test_find_prefers_given_then_environment_then_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    at_home = tmp_path / ".efedllm" / "deployments" / "31337.json"
    files = [tmp_path / "given.json", tmp_path / "environment.json", at_home]
    for block, path in enumerate(files):
        Deployment(**{**vars(make()), "deploy_block": block}).write(path)
    environ = {"EFEDLLM_DEPLOYMENT": str(files[1])}
    assert find_deployment(31337, files[0], environ).deploy_block == 0
    assert find_deployment(31337, None, environ).deploy_block == 1
    assert find_deployment(31337, None, {}).deploy_block == 2


def test_find_says_what_to_do_when_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DeploymentError, match=r"31337\.json .*run `efedllm deploy` or pass --deployment FILE"):
        find_deployment(31337, None, {})


def test_find_refuses_another_chain(tmp_path: Path) -> None:
    path = tmp_path / "deployment.json"
    make(chain_id=1).write(path)
    with pytest.raises(DeploymentError, match="is for chain 1, but the RPC endpoint serves chain 31337"):
        find_deployment(31337, path, {})
