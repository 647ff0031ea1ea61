"""The command as a process of its own: `efedllm chain` from start to end, and how cheap it is to ask for help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from efedllm.chain.errors import ChainUnreachable
from efedllm.chain.local import AnvilProcess, rpc

EFEDLLM = [sys.executable, "-m", "efedllm"]


@contextmanager
def local_chain(*options: str) -> Iterator[subprocess.Popen[str]]:
    command = [*EFEDLLM, "chain", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_chain_ends_with_its_process(number: signal.Signals) -> None:
    with local_chain("--json") as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        assert int(rpc(started["rpc"], "eth_chainId"), 16) == 31337
        process.send_signal(number)
        assert process.wait(120) == 0
    with pytest.raises(ChainUnreachable):
        rpc(started["rpc"], "eth_chainId")
    with pytest.raises(ProcessLookupError):
        os.kill(started["pid"], 0)


def test_chain_tells_what_to_do_next_and_no_keys() -> None:
    with local_chain() as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=120)
    assert lines[0].startswith("local chain at http://127.0.0.1:")
    assert lines[1].startswith("next: efedllm deploy --local --rpc http://127.0.0.1:")
    assert rest == ""
    assert errors == "local chain ended\n"


def test_chain_makes_blocks_by_itself() -> None:
    with local_chain("--json", "--block-time", "1") as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["rpc"]
        while int(rpc(url, "eth_blockNumber"), 16) < 2:
            assert process.poll() is None


def test_chain_that_dies_is_an_error() -> None:
    with local_chain("--json") as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        os.kill(started["pid"], signal.SIGKILL)
        assert process.wait(120) == 1
        assert process.stderr is not None
        assert "the local chain ended by itself" in process.stderr.read()


def test_chain_on_a_busy_port() -> None:
    with AnvilProcess.start() as anvil:
        port = anvil.url.rsplit(":", 1)[1]
        done = subprocess.run([*EFEDLLM, "chain", "--port", port], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pass another --port" in done.stderr


def test_command_on_a_chain_as_a_process(anvil: AnvilProcess, deployment_file: Path, tmp_path: Path) -> None:
    options = ["--rpc", anvil.url, "--deployment", str(deployment_file), "--data-dir", str(tmp_path), "--json"]
    done = subprocess.run([*EFEDLLM, "status", *options], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["chain_id"] == 31337
    assert done.stderr == ""


def test_help_loads_nothing_heavy() -> None:
    """Building the whole command line must not import what only running a command needs."""
    code = (
        "import sys, efedllm.cli; efedllm.cli.main(['--help']);"
        "print(sorted({'torch', 'web3', 'aiohttp', 'numpy', 'transformers', 'rich', 'eth_abi'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("chain", "deploy", "keys", "fund", "model", "stake", "channel", "claim", "withdraw", "status"):
        assert f"\n    {command}" in done.stdout


def test_reader_that_goes_away_is_no_crash(anvil: AnvilProcess, deployment_file: Path, tmp_path: Path) -> None:
    options = ["--rpc", anvil.url, "--deployment", str(deployment_file), "--data-dir", str(tmp_path)]
    process = subprocess.Popen(
        [*EFEDLLM, "status", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(120) == 1


def test_a_killed_chain_goes_on_from_its_state_file(tmp_path: Path) -> None:
    """What it had mined up to the last save is there again, with the same hashes, whatever moment it was killed at."""
    state = tmp_path / "folder" / "chain.json"
    options = ("--json", "--block-time", "1", "--state", str(state))
    with local_chain(*options) as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        url, account = started["rpc"], started["accounts"][0]
        sent = rpc(url, "eth_sendTransaction", {"from": account, "to": "0x" + "11" * 20, "value": "0x7"})
        while (mined := rpc(url, "eth_getTransactionReceipt", sent)) is None:
            time.sleep(0.1)
        while int(mined["blockNumber"], 16) not in _numbers(state):
            time.sleep(0.1)
        process.kill()
        os.kill(started["pid"], signal.SIGKILL)
    with local_chain(*options) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["rpc"]
        assert rpc(url, "eth_getTransactionReceipt", sent)["blockHash"] == mined["blockHash"]
        assert int(rpc(url, "eth_getBalance", "0x" + "11" * 20, "latest"), 16) == 7
        last = int(rpc(url, "eth_blockNumber"), 16)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    assert last in _numbers(state), "an ordered end saves what was mined"


def test_a_state_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with local_chain("--json", "--state", str(tmp_path / "file" / "chain.json")) as process:
        output, errors = process.communicate(timeout=120)
        pid = json.loads(output)["pid"]
    assert (process.returncode, errors.startswith("error: cannot write ")) == (1, True), errors
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _numbers(state: Path) -> set[int]:
    """The blocks in a saved state."""
    if not state.exists():
        return set()
    return {int(block["header"]["number"], 16) for block in json.loads(state.read_text())["blocks"]}
