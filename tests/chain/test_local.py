"""The local chain as a process."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from efedllm.chain.errors import ChainUnreachable, LocalChainError
from efedllm.chain.local import AnvilProcess, development_account, find_anvil, rpc


def test_start_and_stop() -> None:
    anvil = AnvilProcess.start()
    assert int(anvil.rpc("eth_chainId"), 16) == 31337
    assert development_account(anvil.url).lower() == anvil.accounts[0]
    anvil.stop()
    anvil.stop()
    assert anvil.process.returncode is not None
    with pytest.raises(ChainUnreachable):
        anvil.rpc("eth_chainId")


def test_the_process_is_the_chain() -> None:
    """Killing the process id ends the chain: there is no launcher in between."""
    anvil = AnvilProcess.start()
    os.kill(anvil.process.pid, signal.SIGKILL)
    anvil.process.wait()
    with pytest.raises(ChainUnreachable):
        anvil.rpc("eth_chainId")


def test_two_at_once_get_different_ports() -> None:
    with AnvilProcess.start() as first, AnvilProcess.start() as second:
        assert first.url != second.url


def test_start_on_a_busy_port() -> None:
    with AnvilProcess.start() as first, pytest.raises(LocalChainError, match=r"in use.*pass another --port"):
        AnvilProcess.start(port=int(first.url.rsplit(":", 1)[1]))


def test_snapshot_brings_back_state_and_time(anvil: AnvilProcess) -> None:
    before = anvil.rpc("eth_getBlockByNumber", "latest", False)
    snapshot = anvil.snapshot()
    anvil.increase_time(10_000)
    anvil.mine(5)
    moved = anvil.rpc("eth_getBlockByNumber", "latest", False)
    assert int(moved["number"], 16) == int(before["number"], 16) + 6
    assert int(moved["timestamp"], 16) >= int(before["timestamp"], 16) + 10_000
    anvil.revert(snapshot)
    assert anvil.rpc("eth_getBlockByNumber", "latest", False)["hash"] == before["hash"]
    anvil.mine()
    after = anvil.rpc("eth_getBlockByNumber", "latest", False)
    assert int(after["timestamp"], 16) < int(before["timestamp"], 16) + 10_000


def test_a_saved_chain_goes_on(tmp_path: Path) -> None:
    """Again and again it is the same chain: its first block too, by which programs tell chains apart."""
    state = tmp_path / "chain.json"
    with AnvilProcess.start() as anvil:
        anvil.mine(3)
        first, third = (anvil.rpc("eth_getBlockByNumber", hex(number), False)["hash"] for number in (0, 3))
        anvil.save(state)
    for number in (4, 5):
        time.sleep(1.1)  # a first block made now would bear another time
        with AnvilProcess.start(state=state) as anvil:
            assert anvil.rpc("eth_getBlockByNumber", "0x0", False)["hash"] == first
            assert anvil.rpc("eth_getBlockByNumber", "0x3", False)["hash"] == third
            anvil.mine()
            made = anvil.rpc("eth_getBlockByNumber", "latest", False)
            assert int(made["number"], 16) == number
            assert abs(int(made["timestamp"], 16) - time.time()) < 60
            anvil.save(state)
    assert len(json.loads(state.read_text())["blocks"]) == 6


@pytest.mark.parametrize("content", ["", "{}", '{"blocks": [{}]}'])
def test_a_file_that_holds_no_chain(tmp_path: Path, content: str) -> None:
    (tmp_path / "chain.json").write_text(content)
    with pytest.raises(LocalChainError, match="holds no chain to go on from"):
        AnvilProcess.start(state=tmp_path / "chain.json")


def test_unknown_snapshot(anvil: AnvilProcess) -> None:
    with pytest.raises(LocalChainError):
        anvil.revert("0xffff")


def test_refused_call_names_the_method(anvil: AnvilProcess) -> None:
    with pytest.raises(LocalChainError, match="eth_nonsense"):
        rpc(anvil.url, "eth_nonsense")


def test_find_anvil_looks_behind_the_npm_script(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "@foundry-rs"
    native = package / "anvil-linux-amd64" / "bin" / "anvil"
    native.parent.mkdir(parents=True)
    native.write_bytes(b"\x7fELF")
    native.chmod(0o755)
    (package / "anvil").mkdir()
    (package / "anvil" / "bin.mjs").write_text("#!/usr/bin/env node\n")
    (package / "anvil" / "bin.mjs").chmod(0o755)
    link = tmp_path / "node_modules" / ".bin" / "anvil"
    link.parent.mkdir()
    link.symlink_to(package / "anvil" / "bin.mjs")
    assert find_anvil({"PATH": ""}, tmp_path) == native
    assert find_anvil({"PATH": str(link.parent)}, tmp_path / "elsewhere") == native
    assert find_anvil({"EFEDLLM_ANVIL": str(native)}, tmp_path / "elsewhere") == native


def test_find_anvil_without_any(tmp_path: Path) -> None:
    with pytest.raises(LocalChainError, match="run `make setup`"):
        find_anvil({"PATH": ""}, tmp_path)
    with pytest.raises(LocalChainError, match="is not an executable file"):
        find_anvil({"EFEDLLM_ANVIL": str(tmp_path / "missing")}, tmp_path)
