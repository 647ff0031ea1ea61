"""A local chain: Anvil as a child process, and its time machine for tests.

The npm package `@foundry-rs/anvil` puts a Node script on the path that starts the real program as a second process.
Killing the script leaves that one behind, so the real program is looked up and started directly.
"""

import gzip
import json
import os
import queue
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from eth_utils.address import to_checksum_address

from efedllm.chain.errors import ChainUnreachable, LocalChainError
from efedllm.storage import files

DEFAULT_PORT = 8545
LOCAL_CHAIN_ID = 31337
_LISTENING = "Listening on "
_CHECKOUT = Path(__file__).resolve().parents[2]


def find_anvil(environ: Mapping[str, str] = os.environ, checkout: Path = _CHECKOUT) -> Path:
    """The Anvil executable: `EFEDLLM_ANVIL`, else that of the checkout's npm packages, else the one on PATH.

    Raises LocalChainError if there is none.
    """
    if given := environ.get("EFEDLLM_ANVIL"):
        if not os.access(given, os.X_OK):
            raise LocalChainError(f"EFEDLLM_ANVIL={given} is not an executable file")
        return Path(given)
    on_path = shutil.which("anvil", path=environ.get("PATH"))
    for candidate in [checkout / "node_modules/.bin/anvil", *([Path(on_path)] if on_path else [])]:
        for executable in _behind(candidate):
            return executable
    raise LocalChainError("Anvil was not found: run `make setup` in the checkout, or put `anvil` on PATH")


def _behind(candidate: Path) -> Iterator[Path]:
    """The native program behind `candidate`, which may be the npm package's script."""
    if not candidate.exists():
        return
    real = candidate.resolve()
    with real.open("rb") as file:
        is_script = file.read(2) == b"#!"
    if not is_script:
        yield real
        return
    # .../@foundry-rs/anvil/bin.mjs -> .../@foundry-rs/anvil-linux-amd64/bin/anvil; npm installs only the fitting one.
    yield from sorted(path for path in real.parent.parent.glob("anvil-*/bin/anvil") if os.access(path, os.X_OK))


class AnvilProcess:
    """A running Anvil with its usual ten unlocked, funded accounts. Use as a context manager, or call `stop`.

    `url` is its endpoint. The accounts are used through `eth_sendTransaction`, so no key is ever needed.
    """

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    @classmethod
    def start(
        cls,
        port: int = 0,
        block_time_seconds: int | None = None,
        timeout_seconds: float = 30,
        state: Path | None = None,
    ) -> Self:
        """Start on `port` of 127.0.0.1 (0: the system picks a free one) and wait until it listens.

        Without a block time every transaction is mined at once. It goes on from where `save` wrote `state`, if it did;
        contracts cannot be read as of earlier blocks then. Raises LocalChainError if it does not come up.
        """
        command = [str(find_anvil()), "--host", "127.0.0.1", "--port", str(port), "--color", "never"]
        if block_time_seconds is not None:
            command += ["--block-time", str(block_time_seconds)]
        saved = state if state is not None and state.exists() else None
        if saved is not None:
            # With its time the first block, which Anvil makes anew, is the one that it was; else there would be two.
            command += ["--load-state", str(saved), "--timestamp", str(_first_timestamp(saved))]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C in a terminal reaches us only, and we end it in order
        )
        answer: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_watch, args=(process.stdout, answer), daemon=True, name="anvil-output").start()
        try:
            line = answer.get(timeout=timeout_seconds)
        except queue.Empty:
            line = f"silent for {timeout_seconds:g} s"
        if not line.startswith(_LISTENING):
            process.kill()
            process.wait()
            raise LocalChainError(f"Anvil did not start on port {port}: {line}; pass another --port")
        started = cls(process, f"http://{line.removeprefix(_LISTENING).strip()}")
        if saved is not None:
            started.show_real_time()
        return started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self, timeout_seconds: float = 10) -> None:
        """End it; harmless when it has ended already."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def rpc(self, method: str, *params: Any) -> Any:
        """Result of one JSON-RPC call."""
        return rpc(self.url, method, *params)

    @property
    def accounts(self) -> list[str]:
        """The unlocked development accounts, in lower case."""
        return list(self.rpc("eth_accounts"))

    def snapshot(self) -> str:
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Back to `snapshot`, which is used up by it; the chain's clock shows real time again."""
        if self.rpc("evm_revert", snapshot) is not True:
            raise LocalChainError(f"Anvil knows no snapshot {snapshot}")
        self.show_real_time()  # else it would go on from the snapshot's time

    def save(self, state: Path) -> None:
        """Write all blocks and the state to a file, as a whole or not at all. What is mined later is not in it, nor are
        transactions that wait. Raises ChainUnreachable, LocalChainError."""
        dump = bytes.fromhex(str(self.rpc("anvil_dumpState")).removeprefix("0x"))
        try:
            files.replace(state, gzip.decompress(dump))
        except OSError as error:
            raise LocalChainError(f"cannot write {state}: {error.strerror}; pass another --state") from error

    def show_real_time(self) -> None:
        """Blocks from now on bear the time of this machine, or one after the last block's if that is later."""
        latest = int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        self.rpc("evm_setTime", max(int(time.time()), latest + 1))

    def mine(self, blocks: int = 1) -> None:
        self.rpc("anvil_mine", hex(blocks))

    def increase_time(self, seconds: int) -> None:
        """Move the chain's clock forward and mine a block, so that `eth_call` sees the new time too."""
        self.rpc("evm_increaseTime", seconds)
        self.mine()


def rpc(url: str, method: str, *params: Any, timeout_seconds: float = 30) -> Any:
    """One blocking JSON-RPC call, for controlling a local chain. Raises LocalChainError or ChainUnreachable."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as response:
            answer = json.load(response)
    except (OSError, ValueError) as error:
        raise ChainUnreachable(url, str(getattr(error, "reason", error))) from error
    if "error" in answer:
        raise LocalChainError(f"{method}: {answer['error'].get('message')}")
    return answer["result"]


def _first_timestamp(state: Path) -> int:
    """Unix seconds of the first block in a file that `save` wrote. Raises LocalChainError."""
    try:
        headers = [block["header"] for block in json.loads(state.read_bytes())["blocks"]]
        return next(int(header["timestamp"], 16) for header in headers if int(header["number"], 16) == 0)
    except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
        raise LocalChainError(f"{state} holds no chain to go on from: pass another --state") from error


def _watch(output: IO[str] | None, answer: "queue.Queue[str]") -> None:
    """Report the line that says where Anvil listens, or why it ended; then drain, so that no full pipe blocks it.

    Nothing is kept: the banner holds the development accounts' keys.
    """
    assert output is not None
    last = "no output"
    for line in output:
        if line.startswith(_LISTENING):
            answer.put(line)
        elif line.startswith(("error", "Error")) or "in use" in line:
            last = line.strip()
    answer.put(last)


def development_account(url: str) -> str:
    """First unlocked account of the local chain at `url`. Raises LocalChainError if that is no local chain."""
    client = str(rpc(url, "web3_clientVersion"))
    accounts = rpc(url, "eth_accounts") if client.startswith("anvil/") else []
    if not accounts:
        raise LocalChainError(f"{url} is no local chain with accounts of its own: start one with `efedllm chain`")
    return to_checksum_address(accounts[0])
