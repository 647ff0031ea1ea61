"""`efedllm ask` against worker processes on a real chain."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from tests.support.cli import PASSWORD, Person

MODEL = Path(__file__).parents[2] / "models/shakespeare/built"
LAYERS = json.loads((MODEL / "model.json").read_text())["dimensions"]["layers"]
RANGES = [(0, 1), (1, LAYERS)]


@pytest.fixture
def people(
    anvil: AnvilProcess,
    deployment_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> list[Person]:
    """A client, and a worker for each range."""
    monkeypatch.setenv("EFEDLLM_PASSWORD", PASSWORD)
    options = ["--rpc", anvil.url, "--deployment", str(deployment_file)]
    names = ["client", *(f"worker{at}" for at in range(len(RANGES)))]
    return [Person(tmp_path / name, capsys, options).with_keys() for name in names]


@pytest.fixture
def client(people: list[Person]) -> Iterator[Person]:
    """Asks; the model is registered and served."""
    assert people[1].on_chain("model", "register", str(MODEL)).code == 0
    processes = []
    try:
        for person, (start, end) in zip(people[1:], RANGES, strict=True):
            assert person.on_chain("stake", "100").code == 0
            command = [sys.executable, "-m", "efedllm", "worker", "--model", str(MODEL), "--layers", f"{start}:{end}"]
            command += ["--json", "--data-dir", str(person.data_dir), *person.options]
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        for process in processes:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "serving"
        yield people[0]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(120)


def test_ask_streams_pays_and_tells(client: Person, people: list[Person], deployment: Deployment) -> None:
    shown = client.on_chain("ask", "JULIET:\nO Romeo", "--max-tokens", "24", "--seed", "7")
    assert shown.code == 0, shown.err
    assert len(shown.out.strip()) > 10
    assert all(worker.address in shown.err for worker in people[1:])
    assert "24 tokens (length) for" in shown.err

    result = client.json("ask", "JULIET:\nO Romeo", "--max-tokens", "24", "--seed", "7")
    assert result["text"] == shown.out.removesuffix("\n")
    assert len(result["tokens"]) == 24
    assert [part["layers"] for part in result["path"]] == [list(span) for span in RANGES]
    assert [part["worker"] for part in result["path"]] == [worker.address for worker in people[1:]]
    assert int(result["cost"]) == sum(int(part["cost"]) for part in result["path"]) > 0
    assert all(len(part["receipt"]) == 66 for part in result["path"])

    claimed = people[1].json("claim")
    assert int(claimed["claimed"]) == 2 * int(result["path"][0]["cost"])


def test_ctrl_c_pays_what_was_delivered(client: Person, people: list[Person]) -> None:
    command = [sys.executable, "-m", "efedllm", "ask", "JULIET:", "--max-tokens", "200", "--temperature", "1.5"]
    command += ["--data-dir", str(client.data_dir), *client.options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, told
    assert b"tokens (cancelled or failed) for" in told
    assert b"Traceback" not in told
    assert int(people[1].json("claim")["claimed"]) > 0


def test_ask_without_what_it_needs(people: list[Person], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = people[0]
    nobody = Person(tmp_path / "nobody", client.capsys, client.options)

    def refused(person: Person, *options: str) -> str:
        result = person.run("ask", "To be", *options)
        assert (result.code, result.out, result.err.count("\n")) == (1, "", 1), result
        return result.err

    assert "cannot reach the chain" in refused(client, "--rpc", "http://127.0.0.1:1")
    assert "cannot read the deployment file" in refused(
        client, "--rpc", client.options[1], "--deployment", "/none.json"
    )
    assert "no worker offers any model here" in refused(client, *client.options)
    assert "no cold key" in refused(nobody, *client.options)
    monkeypatch.setenv("EFEDLLM_PASSWORD", "wrong")
    assert "wrong password" in refused(client, *client.options)
    monkeypatch.delenv("EFEDLLM_PASSWORD")
    assert "no password" in refused(client, *client.options)


def test_ask_that_cannot_be(client: Person) -> None:
    for options, message in (
        (["--max-tokens", "100000"], "exceed the context"),
        (["--max-tokens", "0"], "maxTokens must be at least 1"),
        (["--temperature", "1000"], "temperature must be 0 or between 0.01 and 100"),
        (["--top-p", "0"], "top_p must be above 0"),
        (["--seed", "-1"], "the seed must be a number"),
        (["--model", "nobody"], "no model called nobody is registered here"),
        (["--model", "0x12"], "is no model id"),
        (["--model", "0x" + "12" * 32], "is registered here"),
        (["--max-cost", "0.000000000000000001"], "more than the limit of 1"),
    ):
        result = client.on_chain("ask", "To be", *options)
        assert result.code == 1, options
        assert result.err.startswith("error: "), result.err
        assert message in result.err
        assert result.err.count("\n") == 1
