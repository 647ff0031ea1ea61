"""deploy and model register."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chain_scripts.creation import creation_address
from efedllm.chain.beacon import Beacon
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Channels
from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from efedllm.chain.stake_registry import StakeRegistry
from tests.support.chain import WORK
from tests.support.cli import Person

People = Callable[[str], Person]
BUILT = Path(__file__).resolve().parents[2] / "models" / "shakespeare" / "built"


@pytest.mark.parametrize(
    ("nonce", "address"),
    [
        # As reported by any node for the first development account.
        (0, "0x5FbDB2315678afecb367f032d93F642f64180aa3"),
        (1, "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"),
        (4, "0xDc64a140Aa3E981100a9becA4E685f962f0cF6C9"),
    ],
)
def test_creation_address(nonce: int, address: str) -> None:
    assert creation_address("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266", nonce) == address


async def test_what_the_file_says_is_in_the_contracts(chain: Chain) -> None:
    """Each number of the file that a contract has too."""
    stakes, channels, beacon = chain.stakes, chain.channels, chain.beacon
    contracts, numbers = chain.deployment.contracts, chain.deployment.parameters

    async def read(contract: StakeRegistry | Channels | Beacon, name: str) -> object:
        return await contract._read(name, block="latest")

    assert await read(stakes, "token") == contracts.token == await read(channels, "token")
    assert await read(stakes, "modelRegistry") == contracts.model_registry
    assert await read(stakes, "channels") == contracts.channels
    assert await read(channels, "stakeRegistry") == contracts.stake_registry
    assert await read(stakes, "unbondingPeriod") == numbers.unbonding_seconds
    assert await read(stakes, "hotKeyDelay") == numbers.hot_key_delay_seconds
    assert await read(channels, "challengeWindow") == numbers.challenge_window_seconds
    assert await read(channels, "withdrawalDelay") == numbers.withdrawal_delay_seconds
    assert await read(channels, "stakeMultiple") == numbers.stake_multiple
    assert await read(channels, "feeBps") == numbers.protocol_fee_bps
    assert await read(beacon, "delayBlocks") == numbers.beacon_delay_blocks
    assert await read(beacon, "spacingBlocks") == numbers.beacon_spacing_blocks
    assert (await chain.token.symbol(), await chain.token.decimals()) == ("WORK", 18)


def test_local_deployment_goes_to_the_default_path(person: People, anvil: AnvilProcess, tmp_path: Path) -> None:
    someone = person("someone")
    result = someone.run("deploy", "--local", "--rpc", anvil.url, "--json").json
    path = tmp_path / "home" / ".efedllm" / "deployments" / "31337.json"
    assert result["path"] == str(path)
    stored = json.loads(path.read_text())
    assert stored == {"version": 1} | {key: value for key, value in result.items() if key != "path"}
    assert someone.run("status", "--rpc", anvil.url, "--json").code == 0


def test_network_deployment_is_paid_by_the_cold_key(person: People, anvil: AnvilProcess, tmp_path: Path) -> None:
    someone, path = person("someone").with_keys(), tmp_path / "network.json"
    options = ["--fee-recipient", someone.address, "--protocol-fee-bps", "500", "--first-slash", "7.5"]
    result = someone.run("deploy", "--rpc", anvil.url, "--out", str(path), *options, "--json").json
    deployment = Deployment.read(path)
    assert deployment.parameters.challenge_window_seconds == 24 * 3600
    assert deployment.parameters.protocol_fee_bps == 500
    assert deployment.parameters.first_slash == WORK * 15 // 2
    assert deployment.parameters.minimum_rate_bps == 100
    assert deployment.deploy_block > 1
    assert result["contracts"]["token"] == deployment.contracts.token
    own = someone.run("status", "--rpc", anvil.url, "--deployment", str(path), "--json").json["own"]
    assert own["work"] == str(10**9 * WORK)


def test_deployment_with_an_existing_token(
    person: People, anvil: AnvilProcess, deployment: Deployment, tmp_path: Path
) -> None:
    path = tmp_path / "second.json"
    token = deployment.contracts.token
    result = person("someone").run("deploy", "--local", "--rpc", anvil.url, "--out", str(path), "--token", token)
    assert result.code == 0
    assert Deployment.read(path).contracts.token == token
    assert Deployment.read(path).contracts.channels != deployment.contracts.channels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--withdrawal-delay", "1"], "ParameterOutOfRange(field=withdrawalDelay, value=1)"),
        (["--beacon-spacing", "3"], "ParameterOutOfRange(field=spacingBlocks, value=3)"),
        (["--unbonding", "10"], "ParameterOutOfRange(field=unbondingPeriod, value=10)"),
        (["--supply", "none"], "not a positive decimal number"),
        (["--first-slash", "0"], "is zero"),
        (["--token", "0x1"], "is not an address"),
        (["--token", "0x" + "77" * 20], "there is no WorkToken at"),
    ],
)
def test_deploy_refuses(person: People, anvil: AnvilProcess, tmp_path: Path, options: list[str], message: str) -> None:
    path = tmp_path / "deployment.json"
    result = person("someone").run("deploy", "--local", "--rpc", anvil.url, "--out", str(path), *options)
    assert result.code == 1
    assert message in result.err
    assert not path.exists()


def test_register_the_shipped_model(person: People) -> None:
    publisher = person("publisher").with_keys()
    first = publisher.json("model", "register", str(BUILT))
    assert first["new"] is True
    again = publisher.json("model", "register", str(BUILT))
    assert again == first | {"new": False}
    (model,) = publisher.json("status")["models"]
    assert (model["model_id"], model["name"], model["layers"]) == (first["model_id"], first["name"], first["layers"])
    assert model["uncovered"] == [[0, first["layers"]]]


def test_register_what_is_no_model(person: People, tmp_path: Path) -> None:
    result = person("publisher").with_keys().on_chain("model", "register", str(tmp_path))
    assert result.code == 1
    assert "model.json" in result.err
    assert "efedllm model build" in result.err
