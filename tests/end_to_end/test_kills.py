"""kill -9 of workers, client, verifier and chain while requests are paid: nothing signed is lost or signed twice, the
next request is served, and in the end all books say the same as the chain."""

import random
import secrets
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import pytest

from chain_scripts.local_network import PASSWORD, set_up
from chain_scripts.processes import Processes
from efedllm.chain.chain import Chain
from tests.end_to_end.kills import CONFIRMATIONS, KINDS, PHASES, RANGES, Campaign, free_port

MODEL = Path(__file__).resolve().parents[2] / "models" / "shakespeare" / "built"
SHORT = (
    ("worker-1", "streaming"),
    ("client", "streaming"),
    ("chain", "streaming"),
    ("worker-2", "asking"),
    ("verifier", "any"),
    ("client", "asking"),
)


async def run(tmp_path: Path, seed: int, kills: Sequence[tuple[str, str]]) -> None:
    environment = {
        PASSWORD: secrets.token_hex(16),
        "EFEDLLM_DEPLOYMENT": str(tmp_path / "deployment.json"),
        "OMP_NUM_THREADS": "1",
    }
    with Processes(tmp_path, environment) as processes:
        state = tmp_path / "chain.json"
        chain = ["--state", str(state), "--port", str(free_port())]
        confirmations = ["--confirmations", str(CONFIRMATIONS)]
        network = set_up(processes, tmp_path, MODEL, list(RANGES), chain, confirmations)
        campaign = Campaign(network, state, tmp_path / "pause", random.Random(seed))
        try:
            campaign.open()
            for kind, phase in kills:
                campaign.round(kind, phase)
            async with await Chain.connect(network.rpc, network.deployment) as connected:
                await campaign.settle(connected)
        finally:
            print(f"\nseed {seed}\n{campaign.figures()}")


@pytest.mark.timeout(900)  # most of it is other processes, which share the machine with whatever else runs there
async def test_kills_at_some_moments(tmp_path: Path) -> None:
    await run(tmp_path, 1, SHORT)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_kills_at_a_hundred_random_moments(tmp_path: Path) -> None:
    choose = random.Random(seed := secrets.randbits(32))
    kinds = [choose.choice(KINDS) for _ in range(100)]
    phases = list(islice(cycle(PHASES), 100))
    choose.shuffle(phases)
    await run(tmp_path, seed, list(zip(kinds, phases, strict=True)))
