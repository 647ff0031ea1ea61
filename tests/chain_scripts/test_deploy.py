"""deploy and model register."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chain_scripts.creation import creation_address
from efedllm.chain.beacon import Beacon
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Channels
from efedllm.chain.deployment import Deployment, Disputes
from efedllm.chain.judges import check_step_verifier
from efedllm.chain.local import AnvilProcess
from efedllm.chain.stake_registry import StakeRegistry
from efedllm.protocol.values import ZERO_ADDRESS
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


async def test_the_game_is_what_the_file_says_and_slashes(chain: Chain) -> None:
    contracts, numbers, disputes = chain.deployment.contracts, chain.deployment.parameters, chain.deployment.disputes
    game = chain.game
    assert game is not None and game.address == contracts.dispute_game
    assert await chain.stakes.slasher() == game.address
    assert await game._read("channels", block="latest") == contracts.channels
    assert await game._read("beacon", block="latest") == contracts.beacon
    assert await game._read("rewardPool", block="latest") == ZERO_ADDRESS
    for name, value in {
        "moveDeadline": disputes.move_deadline_seconds,
        "demandGrace": disputes.demand_grace_seconds,
        "forceGrace": disputes.force_grace_seconds,
        "margin": disputes.margin_seconds,
        "firstSlash": numbers.first_slash,
        "firstSlashBps": disputes.first_slash_bps,
        "challengerShareBps": numbers.challenger_share_bps,
        "poolShareBps": disputes.pool_share_bps,
        "minimumRateBps": numbers.minimum_rate_bps,
        "baseBond": disputes.base_bond,
        "forceFee": disputes.force_fee,
        "demandFee": disputes.demand_fee,
    }.items():
        assert await game.number(name) == value, name
    await check_step_verifier(chain, contracts.step_verifier)


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


def test_network_deployment_has_time_for_the_longest_game(person: People, anvil: AnvilProcess, tmp_path: Path) -> None:
    someone, path = person("someone").with_keys(), tmp_path / "network.json"
    options = ["--reward-pool", someone.address, "--demand-fee", "0.25"]
    someone.run("deploy", "--rpc", anvil.url, "--out", str(path), *options, "--json")
    disputes = Deployment.read(path).disputes
    assert (disputes.move_deadline_seconds, disputes.margin_seconds) == (4 * 3600, 48 * 3600)
    assert (disputes.base_bond, disputes.demand_fee) == (10 * WORK, WORK // 4)


async def test_deployment_without_disputes(person: People, anvil: AnvilProcess, tmp_path: Path) -> None:
    path = tmp_path / "peaceful.json"
    options = ["--rpc", anvil.url, "--out", str(path), "--no-disputes"]
    assert (await asyncio.to_thread(person("someone").run, "deploy", "--local", *options)).code == 0
    deployment = Deployment.read(path)
    assert deployment.contracts.dispute_game == deployment.contracts.step_verifier == ZERO_ADDRESS
    assert deployment.disputes == Disputes()
    async with await Chain.connect(anvil.url, deployment) as chain:
        assert chain.game is None
        assert await chain.stakes.slasher() == await chain.channels._read("slasher", block="latest") == ZERO_ADDRESS
        await check_step_verifier(chain, ZERO_ADDRESS)


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
        (["--unbonding", "700"], "ParameterOutOfRange(field=unbondingPeriod, value=700)"),
        (["--margin", "179"], "ParameterOutOfRange(field=margin, value=179)"),
        (["--pool-share-bps", "1001"], "ParameterOutOfRange(field=poolShareBps, value=1001)"),
        (["--base-bond", "0"], "is zero"),
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
