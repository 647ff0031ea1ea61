"""A whole game between real programs: a worker with one flipped weight bit, and the verifier that catches it."""

import asyncio
import io
import secrets
import tempfile
from pathlib import Path

from rich.console import Console

from chain_scripts.demo_dispute import Answer, Sentence, Stage, watch_game
from chain_scripts.local_network import PASSWORD, LocalNetwork, set_up
from chain_scripts.processes import Processes
from efedllm.client.api import Client
from efedllm.model.build import build
from tests.model.checkpoints import CONFIG, weights, write_checkpoint

HIDDEN = 64
PROMPT, MAX_TOKENS = [5, 9, 150, 33, 260, 41, 9], 3
PRICES = ("0.001", "0.001")
TIMES = ("--move-deadline", "60", "--margin", "720", "--unbonding", "4200")
WINDOWS = ("--challenge-window", "600", "--withdrawal-delay", "900")


def play(columns: int) -> Sentence:
    """The chain's sentence over a linear of so many columns, the down projection of a small model's first layer.

    Raises DemoError if the game ends in another way than the worker's fault.
    """
    with tempfile.TemporaryDirectory(prefix="efedllm-game-") as name:
        folder = Path(name)
        changes = {"hidden_size": HIDDEN, "intermediate_size": columns, "num_hidden_layers": 2}
        checkpoint = write_checkpoint(folder / "checkpoint", weights({**CONFIG, **changes}), **changes)
        build(str(checkpoint), folder / "model")
        environment = {
            PASSWORD: secrets.token_hex(16),
            "EFEDLLM_DEPLOYMENT": str(folder / "deployment.json"),
            "OMP_NUM_THREADS": "1",
        }
        with Processes(folder, environment) as processes:
            network = set_up(
                processes, folder, folder / "model", ["cheat", "honest"], deploy_options=[*TIMES, *WINDOWS]
            )
            programs = [
                network.start_worker("cheat", "0:1", PRICES, ["tests.support.cheating_worker"]),
                network.start_worker("honest", "1:2", PRICES),
                network.start_verifier(),
            ]
            for program, event in zip(programs, ("serving", "serving", "watching"), strict=True):
                program.wait_for(event, 180)
            answer = asyncio.run(_ask(network))
            processes.run("claim", "--data-dir", network.data_dir("cheat"))
            return asyncio.run(watch_game(Stage(Console(file=io.StringIO())), network, answer, 0))


async def _ask(network: LocalNetwork) -> Answer:
    password = network.processes.environment[PASSWORD]
    async with Client(network.rpc, network.deployment, network.data_dir("client"), password) as client:
        generation = client.generate(PROMPT, max_tokens=MAX_TOKENS, temperature=0.0, stop_ids=())
        async for _ in generation:
            pass
        assert generation.request is not None
        return Answer(generation.text, generation.request, generation.shares)
