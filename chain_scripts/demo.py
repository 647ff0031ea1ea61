"""`make demo`: the whole system on this machine, offline: chain, contracts, five workers (one cheats), a verifier, paid jobs.

Everything runs as its own process and is ended by process id, also on Ctrl-C. `--keep` leaves the honest network running.
"""

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from efedllm.chain.amounts import format_amount
from efedllm.chain.deployment import Deployment
from efedllm.errors import EfedllmError

from .processes import Processes, Program

MODEL = Path(__file__).resolve().parents[1] / "models" / "shakespeare" / "built"
RANGES = {"worker-1": "0:2", "worker-2": "2:4", "worker-3": "4:6", "worker-4": "6:8"}
CHEATER, CHEATED_RANGE = "cheater", "4:6"
HONEST_PRICES = ("0.0001", "0.0004")
CHEAP_PRICES = ("0.00005", "0.0002")
JOBS = (
    ("KING RICHARD II:\n", 0.0),
    ("JULIET:\nO Romeo, ", 0.7),
    ("First Citizen:\nWhat news? ", 0.8),
)
MAX_TOKENS = 60
STAKE = "1000"


@dataclass
class Network:
    """What is running."""

    processes: Processes
    folder: Path
    deployment: Deployment
    rpc: str

    def data_dir(self, name: str) -> str:
        return str(self.folder / name)

    def amount(self, base_units: str | int) -> str:
        return f"{format_amount(int(base_units), self.deployment.token_decimals)} {self.deployment.token_symbol}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Show the whole system on this machine.")
    parser.add_argument("--keep", action="store_true", help="leave the honest network running until Ctrl-C")
    keep = parser.parse_args().keep
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="efedllm-demo-"))
    environment = {
        "EFEDLLM_PASSWORD": secrets.token_hex(16),
        "EFEDLLM_DEPLOYMENT": str(folder / "deployment.json"),
        "OMP_NUM_THREADS": "1",
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with Processes(folder, environment) as processes:
            demonstrate(console, processes, folder, keep)
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything that was started has ended.")
        return 130
    except EfedllmError as error:
        console.print(f"[red]error:[/red] {error}")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    console.print("Nothing is left running.")
    return 0


def demonstrate(console: Console, processes: Processes, folder: Path, keep: bool) -> None:
    started = time.monotonic()
    network = set_up(console, processes, folder)
    workers = {name: join(network, name, layers, HONEST_PRICES) for name, layers in RANGES.items()}
    verifier = start_verifier(network)
    for name, program in workers.items():
        event = program.wait_for("serving", 90)
        console.print(f"  {name} {event['worker']} holds layers {event['layers'][0]}:{event['layers'][1]}")
    verifier.wait_for("watching", 90)
    console.print("  verifier watches every claim\n")
    answers = [run_job(console, network, number, *job) for number, job in enumerate(JOBS, 1)]
    answers.append(run_cheated_job(console, network))
    settle(console, network, [*RANGES, CHEATER])
    faults = watch_verifier(console, network, verifier, answers)
    earned = withdraw(console, network, list(RANGES))
    audit(console, network)
    summarise(console, network, answers, earned, faults, time.monotonic() - started)
    if keep:
        leave_running(console, network)


def set_up(console: Console, processes: Processes, folder: Path) -> Network:
    """Chain, contracts, keys, tokens, stake, the model. Independent commands run two at a time."""
    console.rule("1. A chain, the contracts, a model, five workers and a verifier")
    chain = processes.start("chain", ["efedllm.cli", "chain", "--port", "0", "--block-time", "1", "--json"])
    rpc = str(chain.wait_for("serving", 30)["rpc"])
    processes.environment["EFEDLLM_RPC"] = rpc
    console.print(f"  local chain at {rpc}, a block every second")
    processes.run("deploy", "--local", "--protocol-fee-bps", "500")
    deployment = Deployment.read(folder / "deployment.json")
    console.print(f"  contracts deployed; payments go through {deployment.contracts.channels}")
    network = Network(processes, folder, deployment, rpc)
    people = ["client", *RANGES, CHEATER, "verifier"]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: processes.run("keys", "new", "--light", "--data-dir", network.data_dir(name)), people))
    for name in people:
        processes.run("fund", "--data-dir", network.data_dir(name))
    with ThreadPoolExecutor(2) as pool:
        registered = pool.submit(processes.run, "model", "register", str(MODEL), "--data-dir", network.data_dir("client"))
        for name in [*RANGES, CHEATER, "verifier"]:
            role = "verifier" if name == "verifier" else "worker"
            pool.submit(processes.run, "stake", STAKE, "--role", role, "--data-dir", network.data_dir(name))
    console.print(f"  model {registered.result()['model_id']} registered; everybody put {STAKE} WORK at stake")
    return network


def join(network: Network, name: str, layers: str, prices: tuple[str, str], cheats: bool = False) -> Program:
    """Start a worker as its own process."""
    command = ["tests.support.cheating_worker"] if cheats else ["efedllm.cli", "worker"]
    options = ["--model", str(MODEL), "--layers", layers, "--data-dir", network.data_dir(name), "--json"]
    options += ["--prompt-price", prices[0], "--token-price", prices[1]]
    options += ["--rpc", network.rpc, "--deployment", str(network.folder / "deployment.json")]
    return network.processes.start(name, [*command, *options])


def start_verifier(network: Network) -> Program:
    options = ["--model", str(MODEL), "--data-dir", network.data_dir("verifier"), "--json"]
    return network.processes.start("verifier", ["efedllm.cli", "verifier", *options])


def run_job(console: Console, network: Network, number: int, prompt: str, temperature: float) -> dict[str, Any]:
    """One paid request, its text streamed to this terminal."""
    console.rule(f"Job {number}: paid, streamed, receipted")
    console.print(prompt, end="", style="bold", markup=False)
    result_file = network.folder / f"job-{number}.json"
    network.processes.stream(
        "ask",
        prompt,
        "--max-tokens",
        str(MAX_TOKENS),
        "--temperature",
        str(temperature),
        "--seed",
        str(number),
        "--data-dir",
        network.data_dir("client"),
        "--result",
        str(result_file),
    )
    return read_result(result_file)
