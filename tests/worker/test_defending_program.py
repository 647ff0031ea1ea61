"""The worker program where games can be opened: it serves models with a known judge, and only defends if it has to."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from tests.support.cli import PASSWORD, Person
from tests.worker.arena import deploy


@pytest.fixture
def court_file(anvil: AnvilProcess, deployment: Deployment, tmp_path: Path) -> Path:
    """A deployment with a game."""

    async def run() -> Deployment:
        async with await Chain.connect(anvil.url, deployment) as chain:
            return await deploy(chain)

    path = tmp_path / "court.json"
    asyncio.run(run()).write(path)
    return path


@pytest.fixture
def person(
    anvil: AnvilProcess,
    court_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Person:
    monkeypatch.setenv("EFEDLLM_PASSWORD", PASSWORD)
    return Person(tmp_path / "data", capsys, ["--rpc", anvil.url, "--deployment", str(court_file)]).with_keys()


def run(person: Person, model: Path) -> list[dict[str, object]]:
    """The program, until it says what it does, and then to its end."""
    command = [sys.executable, "-m", "efedllm.cli", "worker", "--model", str(model), "--json"]
    command += ["--data-dir", str(person.data_dir), *person.options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        events = [json.loads(process.stdout.readline())]
        process.send_signal(signal.SIGTERM)
        events += [json.loads(line) for line in process.stdout]
        assert process.wait(30) == 0
    finally:
        process.kill()
    return events


def test_it_serves_and_later_only_defends(person: Person, built: Path) -> None:
    assert person.on_chain("model", "register", str(built)).code == 0
    assert person.on_chain("stake", "10").code == 0
    events = run(person, built)
    assert [event["event"] for event in events] == ["serving", "draining", "ended"]
    assert person.on_chain("unstake", "10").code == 0
    events = run(person, built)
    assert [event["event"] for event in events] == ["defending", "draining", "ended"]
    assert "has no stake" in str(events[0]["reason"])
    status = person.json("status")
    assert [(worker["open_games"], worker["faults"]) for worker in status["workers"]] == [(0, 0)]
    assert "open games" in person.on_chain("status").out


def test_a_model_without_a_judge_is_not_served(person: Person, built: Path, court_file: Path) -> None:
    court = Deployment.read(court_file)
    replace(court, contracts=replace(court.contracts, step_verifier="0x" + "00" * 20)).write(court_file)
    assert person.on_chain("model", "register", str(built)).code == 0
    assert person.on_chain("stake", "10").code == 0
    result = person.on_chain("worker", "--model", str(built))
    assert (result.code, "was registered without a step verifier" in result.err) == (1, True)


def test_a_model_with_an_unknown_judge_is_not_served(
    person: Person, built: Path, court_file: Path, anvil: AnvilProcess
) -> None:
    judge = Deployment.read(court_file).contracts.step_verifier
    assert person.on_chain("model", "register", str(built)).code == 0
    assert person.on_chain("stake", "10").code == 0
    anvil.rpc("anvil_setCode", judge, "0x60006000f3")
    result = person.on_chain("worker", "--model", str(built))
    assert (result.code, f"the StepVerifier at {judge} is not the one of this program" in result.err) == (1, True)
