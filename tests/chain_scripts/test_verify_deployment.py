"""verify-deployment on a real chain: what is right passes, and whatever is not is named."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from chain_scripts.creation import Creator
from chain_scripts.expectations import JUDGES, STEP_JUDGES
from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.compiled import compile_checkout
from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from efedllm.chain.transactions import UnlockedAccount
from efedllm.protocol.values import ZERO_ADDRESS
from tests.support.cli import Person, Result

ROOT = Path(__file__).resolve().parents[2]
SOMEBODY = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
# Linked and not copied where nothing is changed.
PARTS = ("node_modules", ".venv", "tools")

Verify = Callable[..., Result]


@pytest.fixture
def verify(person: Callable[[str], Person], anvil: AnvilProcess, tmp_path: Path) -> Verify:
    """Runs the command with the file of a deployment, some of whose fields are replaced."""

    def run(deployment: Deployment, *options: str, **fields: object) -> Result:
        plain: dict[str, Any] = json.loads(deployment.to_json())
        for name, value in fields.items():
            parts = (plain, plain["contracts"], plain["parameters"], plain["disputes"])
            [part] = [part for part in parts if name in part]
            part[name] = value
        path = tmp_path / "checked.json"
        path.write_text(json.dumps(plain))
        return person("anyone").run("verify-deployment", "--rpc", anvil.url, "--deployment", str(path), *options)

    return run


def differences(result: Result) -> list[str]:
    """Lines after the table that say what is wrong."""
    assert result.code == 1, result.err
    return [line for line in result.out.splitlines() if any(word in line for word in ("instead of", "not the source"))]


@pytest.fixture
def creator(chain: Chain) -> Creator:
    deployer = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    return Creator(chain.rpc, chain.sender(UnlockedAccount(deployer)), lambda line: None)


async def create_pair(creator: Creator, deployment: Deployment, slasher: str, fee_bps: int) -> Mapping[str, str]:
    """StakeRegistry and Channels as `efedllm deploy --no-disputes` makes them, but for these two arguments."""
    contracts, numbers = deployment.contracts, deployment.parameters
    channels = await creator.address_after(1)
    periods = (numbers.unbonding_seconds, numbers.hot_key_delay_seconds)
    stakes = await creator.create(
        "StakeRegistry", (contracts.token, contracts.model_registry, channels, slasher, *periods)
    )
    times = (numbers.challenge_window_seconds, numbers.withdrawal_delay_seconds, numbers.stake_multiple)
    await creator.create("Channels", (stakes, SOMEBODY, fee_bps, *times))
    return {"stake_registry": stakes, "channels": channels}


async def create_game(creator: Creator, deployment: Deployment, **changed: object) -> Mapping[str, str]:
    """The three that know each other as `efedllm deploy` makes them, but for some of the game's parameters."""
    contracts, numbers, disputes = deployment.contracts, deployment.parameters, deployment.disputes
    judges = await creator.create_all([(name, ()) for name in JUDGES.values()])
    channels, game = await creator.address_after(1), await creator.address_after(2)
    periods = (numbers.unbonding_seconds, numbers.hot_key_delay_seconds)
    stakes = await creator.create(
        "StakeRegistry", (contracts.token, contracts.model_registry, channels, game, *periods)
    )
    times = (numbers.challenge_window_seconds, numbers.withdrawal_delay_seconds, numbers.stake_multiple)
    await creator.create("Channels", (stakes, ZERO_ADDRESS, 0, *times))
    values: dict[str, object] = {
        "stakeRegistry": stakes, "beacon": contracts.beacon, **dict(zip(JUDGES, judges, strict=True)),
        "rewardPool": ZERO_ADDRESS, "moveDeadline": disputes.move_deadline_seconds,
        "demandGrace": disputes.demand_grace_seconds, "forceGrace": disputes.force_grace_seconds,
        "margin": disputes.margin_seconds, "firstSlash": numbers.first_slash,
        "firstSlashBps": disputes.first_slash_bps, "challengerShareBps": numbers.challenger_share_bps,
        "poolShareBps": disputes.pool_share_bps, "minimumRateBps": numbers.minimum_rate_bps,
        "baseBond": disputes.base_bond, "forceFee": disputes.force_fee, "demandFee": disputes.demand_fee,
    }  # fmt: skip
    assert values.keys() >= changed.keys()
    await creator.create("DisputeGame", tuple((values | changed).values()))
    return {"stake_registry": stakes, "channels": channels, "dispute_game": game}


@pytest.fixture
def peaceful(person: Callable[[str], Person], anvil: AnvilProcess, tmp_path: Path) -> Deployment:
    """Contracts among which nobody can slash: fewer are to be compiled where one was changed."""
    path = tmp_path / "peaceful.json"
    options = ["--local", "--no-disputes", "--rpc", anvil.url, "--out", str(path)]
    assert person("deployer").run("deploy", *options).code == 0
    return Deployment.read(path)


def altered_checkout(folder: Path, file: str, old: str, new: str) -> Path:
    """A checkout with one change in one contract."""
    shutil.copytree(ROOT / "contracts", folder / "contracts", ignore=shutil.ignore_patterns("test"))
    for part in PARTS:
        (folder / part).symlink_to(ROOT / part)
    path = folder / "contracts" / file
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    return folder


CONTRACTS = [
    "WorkToken", "ModelRegistry", "StakeRegistry", "Channels", "Beacon", "DisputeGame", "StepVerifier", "PaperJudge",
    "StatementJudge", "TraceJudge", "AttentionVerifier", "SamplingVerifier",
]  # fmt: skip


def test_a_right_deployment_passes(verify: Verify, deployment: Deployment) -> None:
    result = verify(deployment)
    assert (result.code, result.err.count("\n")) == (0, 1)
    rows = [line.split() for line in result.out.splitlines()[1:13]]
    assert [row[0] for row in rows] == CONTRACTS
    assert {(row[2], row[4]) for row in rows} == {("same", "same")}
    alone = {"ModelRegistry", *JUDGES.values(), *STEP_JUDGES.values()}
    assert [row[3] for row in rows] == ["none" if name in alone else "same" for name in CONTRACTS]
    assert "everything agrees" in result.out


def test_json_lists_every_contract(verify: Verify, deployment: Deployment) -> None:
    found = verify(deployment, "--json").json
    assert found["agrees"] is True
    assert [item["code"] for item in found["contracts"]] == ["same"] * 12
    assert found["contracts"][3]["values"]["feeRecipient"] == ZERO_ADDRESS
    assert found["contracts"][5]["values"]["rewardPool"] == ZERO_ADDRESS


def test_a_deployment_without_disputes_passes(verify: Verify, peaceful: Deployment) -> None:
    found = verify(peaceful, "--json").json
    assert found["agrees"] is True
    assert [item["contract"] for item in found["contracts"]] == CONTRACTS[:5]


async def test_code_of_an_altered_source_is_named(
    verify: Verify, chain: Chain, peaceful: Deployment, tmp_path: Path
) -> None:
    checkout = altered_checkout(
        tmp_path / "altered", "ModelRegistry.sol", "MAX_NAME_BYTES = 128;", "MAX_NAME_BYTES = 129;"
    )
    code = compile_checkout(checkout, ["ModelRegistry"])["ModelRegistry"].creation
    sender = chain.sender(UnlockedAccount((await chain.rpc.accounts())[0]))
    receipt = await sender.send(Call(None, code, "creation"))
    result = await asyncio.to_thread(verify, peaceful, model_registry=receipt.contract_address)
    assert f"ModelRegistry: the code at {receipt.contract_address} is not the source's: byte" in result.out
    assert "ModelRegistry: the transaction that created it carries other code than the source's" in result.out
    assert result.code == 1


def test_a_source_that_was_altered_is_named(verify: Verify, peaceful: Deployment, tmp_path: Path) -> None:
    old, new = "MAX_NAME_BYTES = 128;", "MAX_NAME_BYTES = 129;"
    checkout = altered_checkout(tmp_path / "altered", "ModelRegistry.sol", old, new)
    result = verify(peaceful, "--source", str(checkout))
    assert result.code == 1
    rows = {line.split()[0]: line.split()[2] for line in result.out.splitlines()[1:6]}
    assert rows == {
        "WorkToken": "same",
        "ModelRegistry": "different",
        "StakeRegistry": "same",
        "Channels": "same",
        "Beacon": "same",
    }


async def test_an_altered_fee_is_named(verify: Verify, creator: Creator, peaceful: Deployment) -> None:
    changed = await create_pair(creator, peaceful, ZERO_ADDRESS, 70)
    result = await asyncio.to_thread(verify, peaceful, **changed, protocol_fee_bps=50)
    assert differences(result) == [
        "Channels: immutable feeBps is 70 instead of 50",
        "Channels: getter feeBps is 70 instead of 50",
        "Channels: constructor argument feeBps is 70 instead of 50",
    ]
    wanted = {**changed, "protocol_fee_bps": 70}
    assert (await asyncio.to_thread(verify, peaceful, "--fee-recipient", SOMEBODY, **wanted)).code == 0
    other = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
    found = differences(await asyncio.to_thread(verify, peaceful, "--fee-recipient", other, **wanted))
    assert found[0] == f"Channels: immutable feeRecipient is {SOMEBODY} instead of {other}"


async def test_a_slasher_that_nobody_agreed_on_is_named(
    verify: Verify, creator: Creator, deployment: Deployment, peaceful: Deployment
) -> None:
    for agreed, expected in ((peaceful, ZERO_ADDRESS), (deployment, deployment.contracts.dispute_game)):
        changed = await create_pair(creator, agreed, SOMEBODY, 0)
        found = differences(await asyncio.to_thread(verify, agreed, **changed))
        assert f"StakeRegistry: immutable slasher is {SOMEBODY} instead of {expected}" in found
        assert f"StakeRegistry: constructor argument slasher is {SOMEBODY} instead of {expected}" in found
        assert f"Channels: immutable slasher is {SOMEBODY} instead of {expected}" in found


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("rewardPool", SOMEBODY, ZERO_ADDRESS),
        ("moveDeadline", 14, 15),
        ("firstSlash", 10**18, 10**21),
        ("challengerShareBps", 3_000, 4_000),
        ("demandFee", 0, 10**18),
        ("baseBond", 1, 10**19),
    ],
)
async def test_an_altered_game_is_named(
    verify: Verify, creator: Creator, deployment: Deployment, name: str, value: object, expected: object
) -> None:
    changed = await create_game(creator, deployment, **{name: value})
    found = differences(await asyncio.to_thread(verify, deployment, "--reward-pool", ZERO_ADDRESS, **changed))
    for kind in ("immutable", "getter", "constructor argument"):
        assert f"DisputeGame: {kind} {name} is {value} instead of {expected}" in found


async def test_a_judge_that_is_none_is_named(verify: Verify, creator: Creator, deployment: Deployment) -> None:
    """The game says itself whom it asks: the code there is compared."""
    beacon = deployment.contracts.beacon
    changed = await create_game(creator, deployment, traceJudge=beacon)
    found = differences(await asyncio.to_thread(verify, deployment, **changed))
    assert len(found) == 1 and found[0].startswith(f"TraceJudge: the code at {beacon} is not the source's:")


async def test_a_step_verifier_that_asks_others_is_named(
    verify: Verify, creator: Creator, deployment: Deployment
) -> None:
    nobody = deployment.contracts.beacon
    sampling = await creator.create("SamplingVerifier")
    other = await creator.create("StepVerifier", nobody, sampling)
    found = differences(await asyncio.to_thread(verify, deployment, step_verifier=other))
    assert len(found) == 1 and found[0].startswith(f"AttentionVerifier: the code at {nobody} is not the source's:")


def test_a_swapped_address_is_named(verify: Verify, deployment: Deployment) -> None:
    contracts = deployment.contracts
    result = verify(deployment, beacon=contracts.model_registry, model_registry=contracts.beacon)
    found = differences(result)
    assert any(line.startswith(f"Beacon: the code at {contracts.model_registry} is not the source's") for line in found)
    assert any(line.startswith(f"ModelRegistry: the code at {contracts.beacon} is not the source's") for line in found)
    expected = f"StakeRegistry: immutable modelRegistry is {contracts.model_registry} instead of {contracts.beacon}"
    assert expected in found


def test_an_address_without_a_contract_is_named(verify: Verify, deployment: Deployment) -> None:
    result = verify(deployment, beacon=SOMEBODY)
    assert result.code == 1
    assert f"Beacon: there is no contract at {SOMEBODY}" in result.out


@pytest.mark.parametrize(
    ("field", "value", "contract", "name"),
    [
        ("challenge_window_seconds", 6, "Channels", "challengeWindow"),
        ("withdrawal_delay_seconds", 11, "Channels", "withdrawalDelay"),
        ("stake_multiple", 11, "Channels", "stakeMultiple"),
        ("hot_key_delay_seconds", 3, "StakeRegistry", "hotKeyDelay"),
        ("unbonding_seconds", 901, "Channels", "_unbondingPeriod"),
        ("challenge_window_seconds", 6, "DisputeGame", "_challengeWindow"),
        ("minimum_rate_bps", 9_999, "DisputeGame", "minimumRateBps"),
        ("margin_seconds", 181, "DisputeGame", "margin"),
        ("force_fee", "7", "DisputeGame", "forceFee"),
        ("beacon_delay_blocks", 2, "Beacon", "delayBlocks"),
        ("beacon_spacing_blocks", 2, "Beacon", "spacingBlocks"),
    ],
)
def test_an_altered_parameter_is_named(
    verify: Verify, deployment: Deployment, field: str, value: int, contract: str, name: str
) -> None:
    found = differences(verify(deployment, **{field: value}))
    assert any(line.startswith(f"{contract}: immutable {name} is ") for line in found)


def test_an_altered_symbol_is_named(verify: Verify, deployment: Deployment) -> None:
    assert "WorkToken: getter symbol is WORK instead of WURK" in verify(deployment, token_symbol="WURK").out


def test_creations_that_the_file_hides_are_not_found(
    verify: Verify, deployment: Deployment, anvil: AnvilProcess
) -> None:
    """A later first block than the true one hides them: code and immutables are still compared."""
    anvil.mine(3)
    result = verify(deployment, deploy_block=deployment.deploy_block + 12)
    assert result.code == 0
    assert {line.rsplit("  ", 1)[1].strip() for line in result.out.splitlines()[1:13]} == {"not found"}


async def test_a_foreign_token_is_said_to_be_one(
    verify: Verify, person: Callable[[str], Person], chain: Chain, anvil: AnvilProcess, tmp_path: Path
) -> None:
    old, new = "if (left == type(uint256).max) return;", "if (left > type(uint96).max) return;"
    checkout = altered_checkout(tmp_path / "other", "WorkToken.sol", old, new)
    compiled = compile_checkout(checkout, ["WorkToken"])["WorkToken"]
    owner = (await chain.rpc.accounts())[0]
    arguments = bytes.fromhex(owner[2:]).rjust(32, b"\0") + (10**27).to_bytes(32)
    sender = chain.sender(UnlockedAccount(owner))
    receipt = await sender.send(Call(None, compiled.creation + arguments, "creation"))
    path = tmp_path / "foreign.json"
    options = ["--out", str(path), "--no-disputes", "--token", str(receipt.contract_address)]
    deployed = await asyncio.to_thread(person("deployer").run, "deploy", "--local", "--rpc", anvil.url, *options)
    assert deployed.code == 0
    result = await asyncio.to_thread(verify, Deployment.read(path), "--json")
    assert [item["code"] for item in result.json["contracts"]] == ["foreign", *["same"] * 4]
    assert result.json["agrees"] is True


def test_without_contracts_it_says_what_to_do(verify: Verify, deployment: Deployment, tmp_path: Path) -> None:
    result = verify(deployment, "--source", str(tmp_path))
    assert result.code == 1
    assert f"there are no contracts in {tmp_path}: name a checkout with --source DIR" in result.err


def test_without_npm_packages_it_says_what_to_do(verify: Verify, deployment: Deployment, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "contracts", tmp_path / "bare" / "contracts")
    result = verify(deployment, "--source", str(tmp_path / "bare"))
    assert result.code == 1
    assert f"run `make setup` in {tmp_path / 'bare'}" in result.err
    assert len(result.err.strip().splitlines()) == 2  # the line before says what is compiled
