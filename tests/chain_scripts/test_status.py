"""status and model register."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from tests.support.chain import WORK
from tests.support.cli import Person
from tests.support.registry import MODEL_ID, register_model, serve

People = Callable[[str], Person]


def announce(anvil: AnvilProcess, deployment: Deployment, workers: dict[Person, tuple[int, int]]) -> None:
    async def run() -> None:
        async with await Chain.connect(anvil.url, deployment) as chain:
            for at, (worker, (start, end)) in enumerate(workers.items()):
                if at == 0:
                    await register_model(chain, worker)
                await serve(chain, worker, start, end)

    asyncio.run(run())


def test_status_of_an_empty_network(person: People) -> None:
    status = person("anyone").json("status")
    assert (status["chain_id"], status["models"], status["workers"], status["own"]) == (31337, [], [], None)
    assert "no models are registered" in person("anyone").on_chain("status").out


def test_status_names_layers_without_workers(person: People, anvil: AnvilProcess, deployment: Deployment) -> None:
    first, second = person("first").with_keys(), person("second").with_keys()
    first.json("stake", "1000")
    second.json("stake", "500")
    announce(anvil, deployment, {first: (0, 3), second: (5, 7)})

    status = first.json("status")
    assert status["models"] == [
        {"model_id": "0x" + MODEL_ID.hex(), "name": "test model", "layers": 8, "uncovered": [[3, 5], [7, 8]]}
    ]
    assert [worker["stake"] for worker in status["workers"]] == [str(1000 * WORK), str(500 * WORK)]
    assert status["workers"][0]["service"]["token_price"] == "4"
    text = first.on_chain("status").out
    assert "lacks workers for layers 3:5, 7:8" in text
    assert "test model 0:3" in text


def test_status_does_not_count_workers_that_unbond(person: People, anvil: AnvilProcess, deployment: Deployment) -> None:
    worker = person("worker").with_keys()
    worker.json("stake", "1000")
    announce(anvil, deployment, {worker: (0, 8)})
    assert worker.json("status")["models"][0]["uncovered"] == []
    worker.json("unstake", "1")
    status = worker.json("status")
    assert status["models"][0]["uncovered"] == [[0, 8]]
    assert status["workers"][0]["service"] is None
    assert "nothing: unbonding" in worker.on_chain("status").out


def test_status_shows_verifiers(person: People) -> None:
    verifier = person("verifier").with_keys()
    verifier.json("stake", "7", "--role", "verifier")
    status = verifier.json("status")
    assert [(entry["verifier"], entry["stake"]) for entry in status["verifiers"]] == [(verifier.address, str(7 * WORK))]
    assert status["workers"] == []


def test_status_counts_disputes_where_somebody_can_slash(
    person: People, anvil: AnvilProcess, deployment: Deployment, tmp_path: Path
) -> None:
    someone = person("someone")
    assert someone.json("status")["disputes"] == {"open_games": 0, "faults": 0}
    text = someone.on_chain("status").out
    assert f"disputes: 0 open, 0 faults proven; the game at {deployment.contracts.dispute_game} slashes" in text
    where = ["--rpc", anvil.url, "--deployment", str(tmp_path / "peaceful.json")]
    options = ["--local", "--no-disputes", "--rpc", anvil.url, "--out", str(tmp_path / "peaceful.json")]
    assert someone.run("deploy", *options).code == 0
    assert someone.run("status", *where, "--json").json["disputes"] is None
    assert "disputes" not in someone.run("status", *where).out
