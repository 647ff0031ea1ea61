"""The local chain as a process."""

import os
import signal
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
