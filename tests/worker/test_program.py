"""Start-up and shutdown of the worker program through the command line, on a real chain."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from tests.support.cli import PASSWORD, Person, Result


@pytest.fixture
def person(
    anvil: AnvilProcess,
    deployment_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Person:
    monkeypatch.setenv("EFEDLLM_PASSWORD", PASSWORD)
    options = ["--rpc", anvil.url, "--deployment", str(deployment_file)]
    return Person(tmp_path / "data", capsys, options).with_keys()


def start(person: Person, model: Path, *options: str) -> Result:
    """`efedllm worker`, where it refuses to start."""
    result = person.on_chain("worker", "--model", str(model), *options)
    assert result.code == 1
    assert result.err.count("error:") == 1
    return result


def test_model_that_is_not_registered(person: Person, built: Path) -> None:
    assert "is not registered here: run `efedllm model register" in start(person, built).err


def test_no_stake(person: Person, built: Path) -> None:
    assert person.on_chain("model", "register", str(built)).code == 0
    assert "is not registered as a worker: run `efedllm stake AMOUNT`" in start(person, built).err


def test_verifier_cannot_serve(person: Person, built: Path) -> None:
    assert person.on_chain("model", "register", str(built)).code == 0
    assert person.on_chain("stake", "10", "--role", "verifier").code == 0
    assert "is not registered as a worker" in start(person, built).err


def test_wrong_weights_range_price_back_end_and_password(
    person: Person, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert person.on_chain("model", "register", str(built)).code == 0
    assert person.on_chain("stake", "10").code == 0
    assert "layer range 2:9 is not within this model's 0:3" in start(person, built, "--layers", "2:9").err
    assert "zero" in start(person, built, "--token-price", "0").err
    assert "unknown back end 'abacus'" in start(person, built, "--backend", "abacus").err
    altered = tmp_path / "altered"
    shutil.copytree(built, altered)
    file = altered / "layers" / "0001.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert "does not have the root" in start(person, altered, "--layers", "1:2").err
    monkeypatch.setenv("EFEDLLM_PASSWORD", "wrong")
    assert "wrong password" in start(person, built).err
    monkeypatch.delenv("EFEDLLM_PASSWORD")
    assert "--password-file" in start(person, built).err


def test_unreachable_chain_and_missing_deployment(person: Person, built: Path, anvil: AnvilProcess) -> None:
    result = person.run("worker", "--model", str(built), "--rpc", "http://127.0.0.1:1")
    assert (result.code, "cannot reach the chain" in result.err) == (1, True)
    result = person.run("worker", "--model", str(built), "--rpc", anvil.url, "--deployment", "/nowhere.json")
    assert (result.code, "cannot read the deployment file" in result.err) == (1, True)


def test_where_it_cannot_listen(person: Person, built: Path) -> None:
    assert person.on_chain("model", "register", str(built)).code == 0
    assert person.on_chain("stake", "10").code == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = start(person, built, "--port", port).err
    assert f"cannot listen on port {port} of 127.0.0.1: " in told
    assert "in use" in told
    assert "port must be 0-65535" in start(person, built, "--port", "70000").err
    assert "pass another --host" in start(person, built, "--host", "192.0.2.1").err


def test_serves_registers_itself_and_ends_on_sigterm(person: Person, built: Path, deployment: Deployment) -> None:
    assert person.on_chain("model", "register", str(built)).code == 0
    assert person.on_chain("stake", "10").code == 0
    command = [sys.executable, "-m", "efedllm.cli", "worker", "--model", str(built), "--layers", "1:3", "--json"]
    command += ["--data-dir", str(person.data_dir), *person.options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        serving = json.loads(process.stdout.readline())
        assert serving["layers"] == [1, 3]
        with urllib.request.urlopen(serving["endpoint"] + "/v1/health") as answer:
            health = json.loads(answer.read())
        assert health["worker"] == person.address
        process.send_signal(signal.SIGTERM)
        events = [json.loads(line) for line in process.stdout]
        assert process.wait(20) == 0
    finally:
        process.kill()
    assert events == [{"event": "draining"}, {"event": "ended", "owed": "0", "channels": 0}]


def test_key_never_shows(person: Person, built: Path) -> None:
    from efedllm.chain.keys import KeyRole, KeyStore

    result = start(person, built)
    key = KeyStore(person.data_dir).load(KeyRole.HOT, PASSWORD).key.hex()
    assert key.removeprefix("0x") not in result.err + result.out
    assert PASSWORD not in result.err + result.out
