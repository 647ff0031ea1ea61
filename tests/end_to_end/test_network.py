"""The whole system as real processes on a real chain: any split gives the text of one process, and money adds up."""

import asyncio
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chain_scripts.local_network import PASSWORD, LocalNetwork, set_up
from chain_scripts.processes import ProcessError, Processes
from efedllm.chain.chain import Chain
from efedllm.client.api import Client
from efedllm.client.tokenizer import Tokenizer
from efedllm.model.generate import generate
from efedllm.model.load import load
from efedllm.model.shard import Shard
from efedllm.numerics.backend import select
from efedllm.numerics.sampling_parameters import SamplingParameters

MODEL = Path(__file__).resolve().parents[2] / "models" / "shakespeare" / "built"
PROMPT, MAX_TOKENS, SEED = "KING HENRY:\nNow is the ", 40, 12345
PRICES = ("0.0001", "0.0004")
SPLITS = [
    ["0:8"],
    pytest.param(["0:4", "4:8"], marks=pytest.mark.long),  # that of the kills
    ["0:3", "5:8", "3:5"],
    ["0:2", "2:4", "4:6", "6:8"],
]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    environment = {
        PASSWORD: secrets.token_hex(16),
        "EFEDLLM_DEPLOYMENT": str(tmp_path / "deployment.json"),
        "OMP_NUM_THREADS": "1",
    }
    with Processes(tmp_path, environment) as running:
        yield running


def start(processes: Processes, tmp_path: Path, ranges: list[str]) -> LocalNetwork:
    """Workers for these ranges, serving; without the last of them, nobody is served."""
    names = [f"worker-{number}" for number in range(1, len(ranges) + 1)]
    network = set_up(processes, tmp_path, MODEL, names)
    *others, last = zip(names, ranges, strict=True)
    for program in [network.start_worker(name, layers, PRICES) for name, layers in others]:
        program.wait_for("serving", 120)
    if others:
        with pytest.raises(ProcessError, match=last[1]):
            processes.run("ask", PROMPT, "--data-dir", network.data_dir("client"))
    network.start_worker(*last, PRICES).wait_for("serving", 120)
    return network


async def run(processes: Processes, network: LocalNetwork, name: str, *command: str) -> dict[str, Any]:
    """A command of that person, beside others."""
    return await asyncio.to_thread(processes.run, *command, "--data-dir", network.data_dir(name))


@pytest.fixture(scope="module")
def expected() -> str:
    """The text of one process without any network, on the back end that is exact everywhere."""
    tokenizer = Tokenizer((MODEL / "tokenizer.json").read_bytes())
    shard = Shard(load(MODEL), select("exact"))
    parameters = SamplingParameters(temperature=round(0.8 * 65536))
    ids = generate(shard, tokenizer.encode(PROMPT), MAX_TOKENS, parameters, SEED.to_bytes(32, "big"), (0,))
    return tokenizer.decode(list(ids))


@pytest.mark.parametrize("ranges", SPLITS, ids=lambda ranges: f"{len(ranges)} workers")
async def test_text_is_that_of_one_process_and_money_adds_up(
    processes: Processes, tmp_path: Path, ranges: list[str], expected: str
) -> None:
    network = start(processes, tmp_path, ranges)
    names = [f"worker-{number}" for number in range(1, len(ranges) + 1)]
    async with await Chain.connect(network.rpc, network.deployment) as chain:
        payer = next(iter(processes.run("keys", "list", "--data-dir", network.data_dir("client"))["keys"]))["address"]
        before = await chain.token.balance_of(payer)
        password = processes.environment[PASSWORD]
        async with Client(network.rpc, network.deployment, network.data_dir("client"), password) as client:
            generation = client.generate(PROMPT, max_tokens=MAX_TOKENS, temperature=0.8, seed=SEED)
            text = "".join([piece.text async for piece in generation])
            assert text == expected
            cost = generation.cost
            assert cost == sum(share.cost for share in generation.shares) > 0
        claims = await asyncio.gather(*(run(processes, network, name, "claim") for name in names))
        assert sum(int(claim["claimed"]) for claim in claims) == cost
        processes.run("channel", "close", "--all", "--data-dir", network.data_dir("client"))
        # The contract wants this much time on the chain's clock.
        due = (await chain.rpc.block()).timestamp + network.deployment.parameters.withdrawal_delay_seconds
        async with asyncio.timeout(120):
            while (await chain.rpc.block()).timestamp <= due:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.2)
        withdrawals = await asyncio.gather(*(run(processes, network, name, "withdraw", "earnings") for name in names))
        withdrawn = [int(one["withdrawn"]) for one in withdrawals]
        processes.run("channel", "close", "--all", "--data-dir", network.data_dir("client"))
        spent = before - await chain.token.balance_of(payer)
        assert spent == cost
        assert spent == sum(withdrawn) + await chain.channels.fees()
        # Nothing is left in the till but the fee.
        assert await chain.token.balance_of(network.deployment.contracts.channels) == await chain.channels.fees()
    audit = processes.run("audit")
    assert audit["differences"] == []


def test_claims_survive_the_death_of_a_worker(processes: Processes, tmp_path: Path) -> None:
    """kill -9 in the middle of an answer: what was vouched for is claimed from the store it left."""
    network = start(processes, tmp_path, ["0:8"])
    worker = next(program for program in processes.programs if program.name == "worker-1")
    command = [sys.executable, "-m", "efedllm.cli", "ask", PROMPT, "--max-tokens", "400"]
    asking = subprocess.Popen(
        [*command, "--data-dir", network.data_dir("client")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=processes.environment,
        text=True,
    )
    try:
        assert asking.stdout is not None
        asking.stdout.read(150)  # some receipts further than the prompt
        worker.process.send_signal(signal.SIGKILL)
        _, errors = asking.communicate(timeout=300)
    finally:
        asking.kill()
    assert asking.returncode == 1
    assert "error: " in errors
    claimed = int(processes.run("claim", "--data-dir", network.data_dir("worker-1"))["claimed"])
    assert claimed > 0
