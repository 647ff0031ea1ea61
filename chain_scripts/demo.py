"""`make demo`: the whole system on this machine: chain, contracts, five workers (one cheats), a verifier, paid jobs.

Everything runs as its own process and is ended by process id, also on Ctrl-C. `--keep` leaves the network running.
"""

import argparse
import asyncio
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

from efedllm.client.api import Client
from efedllm.errors import EfedllmError

from .local_network import FEE_BPS, PASSWORD, STAKE, LocalNetwork, set_up
from .processes import Processes, Program

MODEL = Path(__file__).resolve().parents[1] / "models" / "shakespeare" / "built"
RANGES = {"worker-1": "0:2", "worker-2": "2:4", "worker-3": "4:6", "worker-4": "6:8"}
CHEATER, CHEATED_RANGE = "cheater", "4:6"
HONEST_PRICES = ("0.0001", "0.0004")
CHEAP_PRICES = ("0.00005", "0.0002")
JOBS = (("KING RICHARD II:\n", 0.6), ("JULIET:\nO Romeo, ", 0.7), ("First Citizen:\nWhat news? ", 0.8))
MAX_TOKENS = 60


class DemoError(EfedllmError):
    """Something came out otherwise than it should."""


@dataclass(frozen=True)
class Answer:
    """What a job brought: text, base units paid, and who worked."""

    text: str
    cost: int
    workers: list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description="Show the whole system on this machine.")
    parser.add_argument("--keep", action="store_true", help="leave the honest network running until Ctrl-C")
    keep = parser.parse_args().keep
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="efedllm-demo-"))
    environment = {
        PASSWORD: secrets.token_hex(16),
        "EFEDLLM_DEPLOYMENT": str(folder / "deployment.json"),
        "OMP_NUM_THREADS": "1",
    }
    # Shells start background jobs with Ctrl-C ignored; here it always means: end everything.
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
    console.rule("1. A chain, the contracts, a model, four workers, a verifier")
    network = set_up(processes, folder, MODEL, [*RANGES, CHEATER])
    console.print(f"  local chain at {network.rpc}, a block every second")
    console.print(f"  contracts deployed; payments go through {network.deployment.contracts.channels}")
    console.print(f"  model {network.model_id} registered; everybody put {STAKE} WORK at stake")
    workers = {name: network.start_worker(name, layers, HONEST_PRICES) for name, layers in RANGES.items()}
    verifier = network.start_verifier()
    for name, program in workers.items():
        event = program.wait_for("serving", 120)
        console.print(f"  {name} {event['worker']} holds layers {RANGES[name]} at {event['endpoint']}")
    console.print(f"  verifier {verifier.wait_for('watching', 120)['verifier']} watches every claim")
    answers = []
    for number in range(1, len(JOBS) + 1):
        console.rule(f"{number + 1}. Job {number}: paid, streamed, receipted")
        answers.append(asyncio.run(run_job(console, network, number)))
    answers.append(run_cheated_job(console, network))
    settle(console, network)
    report = watch_verifier(console, network, verifier, answers)
    earned = withdraw(console, network)
    audit(console, network)
    summarise(console, network, answers, report, earned, time.monotonic() - started)
    if keep:
        leave_running(console, network)


def run_cheated_job(console: Console, network: LocalNetwork) -> Answer:
    """A cheaper worker joins that computes something else; the first job again goes through it."""
    console.rule(f"{len(JOBS) + 2}. A cheaper worker joins; one bit of its weights is not what it registered")
    program = network.start_worker(CHEATER, CHEATED_RANGE, CHEAP_PRICES, ["tests.support.cheating_worker"])
    cheater = program.wait_for("serving", 90)
    console.print(f"  {cheater['worker']} offers layers {CHEATED_RANGE} for half the price; job 1 again:\n")
    return asyncio.run(run_job(console, network, 1))


async def run_job(console: Console, network: LocalNetwork, number: int) -> Answer:
    """One paid request, its text streamed to this terminal."""
    prompt, temperature = JOBS[number - 1]
    password = network.processes.environment[PASSWORD]
    async with Client(network.rpc, network.deployment, network.data_dir("client"), password) as client:
        return await ask(console, network, client, prompt, temperature, number)


async def ask(
    console: Console, network: LocalNetwork, client: Client, prompt: str, temperature: float, seed: int
) -> Answer:
    console.print(prompt, end="", style="bold", markup=False)
    started = time.monotonic()
    generation = client.generate(prompt, max_tokens=MAX_TOKENS, temperature=temperature, seed=seed)
    async for piece in generation:
        console.print(piece.text, end="", markup=False, soft_wrap=True)
    seconds = time.monotonic() - started
    shares = generation.shares
    console.print(
        f"\n\n  {len(generation.tokens)} tokens in {seconds:.1f} s for {network.amount(generation.cost)}:", end=" "
    )
    console.print(", ".join(f"{share.start}:{share.end} by {share.worker[:8]}" for share in shares))
    for share in shares:
        assert share.receipt is not None
        console.print(
            f"  receipt 0x{share.receipt.digest.hex()} for {network.amount(share.cost)}", style="dim", soft_wrap=True
        )
    return Answer(generation.text, generation.cost, [share.worker for share in shares])


def settle(console: Console, network: LocalNetwork) -> None:
    """Every worker claims what its vouchers pay."""
    console.rule(f"{len(JOBS) + 3}. Workers claim; the beacon draws; the verifier recomputes")
    with ThreadPoolExecutor(2) as pool:
        names = [*RANGES, CHEATER]
        claims = pool.map(lambda name: network.processes.run("claim", "--data-dir", network.data_dir(name)), names)
        for name, claim in zip(names, claims, strict=True):
            console.print(f"  {name:9} claimed {network.amount(claim['claimed'])}, pending until the window has passed")


def watch_verifier(console: Console, network: LocalNetwork, verifier: Program, answers: list[Answer]) -> dict[str, Any]:
    """The verifier checks every receipt and names the cheat. Returns its report; raises DemoError if it is wrong."""
    fault = verifier.wait_for("fault", 90)
    # Everything is drawn here: one receipt per worker and job, the cheat's among them.
    receipts = sum(len(answer.workers) for answer in answers)
    verifier.wait_for_count(("checked", "fault"), receipts, 90)
    network.processes.stop(verifier)
    report = verifier.wait_for("ended", 10)
    cheater = answers[-1].workers[2]
    if [found["worker"] for found in report["faults"]] != [cheater] or report["unavailable"]:
        raise DemoError(f"the verifier's report is wrong: {report}")
    console.print(f"\n  [red]FAULT[/red] {fault['kind']}: worker {fault['worker']}, layers {fault['layers']}")
    console.print(f"  {fault['reason']}", markup=False)
    console.print(
        f"  {report['checked']} receipts recomputed; every other worker is cleared, also the one behind the cheat,"
    )
    console.print("  whose input was already wrong and whose output follows from it")
    return report


def withdraw(console: Console, network: LocalNetwork) -> dict[str, int]:
    """Once the challenge window has passed, workers are paid out. Returns base units by worker."""
    console.rule(f"{len(JOBS) + 4}. The challenge window passes; workers are paid out")
    parameters = network.deployment.parameters
    time.sleep(parameters.challenge_window_seconds + 1)  # the contract wants this much time on the chain's clock
    earned = {}
    with ThreadPoolExecutor(2) as pool:
        run = network.processes.run
        results = pool.map(lambda name: run("withdraw", "earnings", "--data-dir", network.data_dir(name)), RANGES)
        for name, result in zip(RANGES, results, strict=True):
            earned[name] = int(result["withdrawn"])
            console.print(
                f"  {name} withdrew {network.amount(earned[name])}, after the protocol fee of {FEE_BPS / 100:g} %"
            )
    return earned


def audit(console: Console, network: LocalNetwork) -> None:
    """Anybody rebuilds the ledger from events and compares it with the contracts."""
    console.rule(f"{len(JOBS) + 5}. Audit: the ledger from events against the contracts")
    console.file.flush()
    if network.processes.stream("audit") != 0:
        raise DemoError("the audit found a difference")


def summarise(
    console: Console,
    network: LocalNetwork,
    answers: list[Answer],
    report: dict[str, Any],
    earned: dict[str, int],
    seconds: float,
) -> None:
    table = Table(title=f"What happened in {seconds:.0f} s", show_header=False)
    table.add_row("jobs paid", str(len(answers)))
    table.add_row("clients spent", network.amount(sum(answer.cost for answer in answers)))
    table.add_row("receipts recomputed", str(report["checked"]))
    table.add_row("cheats named", f"{len(report['faults'])}: {report['faults'][0]['worker']}")
    table.add_row("honest workers flagged", "0")
    table.add_row("workers withdrew", network.amount(sum(earned.values())))
    same = answers[0].text == answers[-1].text
    table.add_row("the cheat's answer", "reads the same as the honest one" if same else "differs from the honest one")
    console.print(table)


def leave_running(console: Console, network: LocalNetwork) -> None:
    """The honest network stays until Ctrl-C; these commands play with it from another terminal."""
    for program in network.processes.programs:
        if program.name == CHEATER:
            network.processes.stop(program)
    network.start_verifier().wait_for("watching", 120)
    console.rule("The network keeps running until Ctrl-C")
    console.print("In another terminal, in this folder:\n")
    password_file = network.folder / "password"
    password_file.write_text(network.processes.environment[PASSWORD] + "\n")
    password_file.chmod(0o600)
    console.print(f"  export EFEDLLM_RPC={network.rpc}", soft_wrap=True)
    console.print(f"  export EFEDLLM_DEPLOYMENT={network.folder / 'deployment.json'}", soft_wrap=True)
    console.print(f"  export EFEDLLM_DATA_DIR={network.data_dir('client')}", soft_wrap=True)
    console.print(f"  export EFEDLLM_PASSWORD_FILE={password_file}", soft_wrap=True)
    console.print('  .venv/bin/efedllm ask "ROMEO:" --max-tokens 60 --temperature 0.8')
    console.print("  .venv/bin/efedllm status")
    console.print("  .venv/bin/efedllm channel list")
    console.print(f"  .venv/bin/efedllm claim --data-dir {network.data_dir('worker-1')}", soft_wrap=True)
    console.print("  .venv/bin/efedllm audit\n")
    signal.pause()


if __name__ == "__main__":
    sys.exit(main())
