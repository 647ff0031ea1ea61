"""`make demo`: the whole system on this machine: chain, contracts, five workers (one cheats), a verifier, paid jobs,
and a dispute that ends with the cheat slashed.

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
from pathlib import Path

from rich.console import Console
from rich.table import Table

from efedllm.client.api import Client
from efedllm.errors import EfedllmError

from .demo_dispute import Answer, DemoError, Sentence, Stage, check_innocent, jump, watch_collection, watch_game
from .local_network import FEE_BPS, FLOAT, PASSWORD, STAKE, LocalNetwork, set_up
from .processes import Processes, Program

MODEL = Path(__file__).resolve().parents[1] / "models" / "shakespeare" / "built"
RANGES = {"worker-1": "0:2", "worker-2": "2:4", "worker-3": "4:6", "worker-4": "6:8"}
CHEATER, CHEATED_RANGE, CHEATED_SHARD = "cheater", "4:6", 2
HONEST_PRICES = ("0.0001", "0.0004")
CHEAP_PRICES = ("0.00005", "0.0002")
JOBS = (("KING RICHARD II:\n", 0.6), ("JULIET:\nO Romeo, ", 0.7))
MAX_TOKENS = 60
# A busy machine takes its time over a move, and over the checks before a game; whoever waits for longer times to pass
# is told when the demo turns the chain's clock.
TIMES = {"--move-deadline": 30, "--margin": 360, "--challenge-window": 300, "--withdrawal-delay": 360}
UNBONDING_SECONDS = 2400


def main() -> int:
    parser = argparse.ArgumentParser(description="Show the whole system on this machine.")
    parser.add_argument("--keep", action="store_true", help="leave the honest network running until Ctrl-C")
    keep = parser.parse_args().keep
    console = Console(highlight=False, soft_wrap=True)
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
    stage = Stage(console)
    stage.scene("A chain, the contracts, a model, four workers, a verifier")
    times = [str(part) for pair in {**TIMES, "--unbonding": UNBONDING_SECONDS}.items() for part in pair]
    network = set_up(processes, folder, MODEL, [*RANGES, CHEATER], deploy_options=times)
    verifier = introduce(console, network)
    answers = []
    for number in range(1, len(JOBS) + 1):
        stage.scene(f"Job {number}: paid, streamed, receipted")
        answers.append(asyncio.run(run_job(console, network, number)))
    answers.append(run_cheated_job(stage, network))
    stage.scene("Workers claim; the beacon draws; the verifier recomputes")
    claim(console, network, [*RANGES, CHEATER])
    watch_verifier(console, verifier, answers[-1])
    stage.scene("The verifier takes it to the chain, which judges by itself")
    sentence = asyncio.run(watch_game(stage, network, answers[-1], CHEATED_SHARD))
    answers.append(run_job_around(stage, network, answers))
    stage.scene("Time passes: the verifier collects, the workers are paid out")
    claim(console, network, list(RANGES))
    verifier.wait_for_count(("checked", "fault"), sum(len(answer.workers) for answer in answers), 120)
    jump(console, network, sentence)
    collected = asyncio.run(watch_collection(stage, network, sentence))
    earned = withdraw(console, network)
    report = final_report(processes, verifier, sentence)
    asyncio.run(check_innocent(network, answers[0].workers))
    stage.scene("Audit: the ledger from events against the contracts")
    audit(console, network)
    console.print(summary(network, answers, report, sentence, collected, earned, time.monotonic() - started))
    if keep:
        leave_running(console, network)


def introduce(console: Console, network: LocalNetwork) -> Program:
    """Start the honest workers and the verifier, and say who they are. Returns the verifier."""
    contracts = network.deployment.contracts
    console.print(f"  local chain at {network.rpc}, a block every second")
    console.print(f"  contracts deployed; payments go through {contracts.channels}, disputes through")
    console.print(f"  {contracts.dispute_game}, which alone can slash; nobody owns either")
    console.print(f"  model {network.model_id} registered; everybody put {STAKE} WORK at stake")
    workers = {name: network.start_worker(name, layers, HONEST_PRICES) for name, layers in RANGES.items()}
    verifier = network.start_verifier()
    for name, program in workers.items():
        event = program.wait_for("serving", 120)
        console.print(f"  {name} {event['worker']} holds layers {RANGES[name]} at {event['endpoint']}")
    watching = verifier.wait_for("watching", 120)
    console.print(f"  verifier {watching['verifier']} watches every claim, with {FLOAT} WORK for bonds")
    return verifier


def run_cheated_job(stage: Stage, network: LocalNetwork) -> Answer:
    """A cheaper worker joins that computes something else; the first job again goes through it."""
    stage.scene("A cheaper worker joins; one bit of its weights is not what it registered")
    program = network.start_worker(CHEATER, CHEATED_RANGE, CHEAP_PRICES, ["tests.support.cheating_worker"])
    cheater = program.wait_for("serving", 120)
    stage.console.print(f"  {cheater['worker']} offers layers {CHEATED_RANGE} for half the price; job 1 again:\n")
    answer = asyncio.run(run_job(stage.console, network, 1))
    if answer.workers[CHEATED_SHARD] != cheater["worker"]:
        raise DemoError("the cheaper worker was not asked")
    return answer


def run_job_around(stage: Stage, network: LocalNetwork, answers: list[Answer]) -> Answer:
    """Once more; raises DemoError if it goes through the jailed worker, or is not the honest answer."""
    stage.scene("Job 1 once more: the jailed worker is cheaper still, and nobody asks it")
    answer = asyncio.run(run_job(stage.console, network, 1))
    if answer.workers != answers[0].workers or answer.text != answers[0].text:
        raise DemoError("the jailed worker was asked again, or the answer is another one")
    return answer


async def run_job(console: Console, network: LocalNetwork, number: int) -> Answer:
    """One paid request, its text streamed to this terminal."""
    prompt, temperature = JOBS[number - 1]
    password = network.processes.environment[PASSWORD]
    async with Client(network.rpc, network.deployment, network.data_dir("client"), password) as client:
        console.print(prompt, end="", style="bold", markup=False)
        started = time.monotonic()
        generation = client.generate(prompt, max_tokens=MAX_TOKENS, temperature=temperature, seed=number)
        async for piece in generation:
            console.print(piece.text, end="", markup=False)
        seconds, shares = time.monotonic() - started, generation.shares
        receipts = [share.receipt for share in shares if share.receipt is not None]
        assert generation.request is not None and len(receipts) == len(shares)
    by = ", ".join(f"{share.start}:{share.end} by {share.worker[:8]}" for share in shares)
    cost = network.amount(generation.cost)
    console.print(f"\n\n  {len(generation.tokens)} tokens in {seconds:.1f} s for {cost}: {by}")
    for share, receipt in zip(shares, receipts, strict=True):
        line = f"  receipt 0x{receipt.digest.hex()} for {network.amount(share.cost)}"
        console.print(line, style="dim")
    return Answer(generation.text, generation.request, shares)


def claim(console: Console, network: LocalNetwork, names: list[str]) -> None:
    """What these workers' vouchers pay."""
    with ThreadPoolExecutor(2) as pool:
        claims = pool.map(lambda name: network.processes.run("claim", "--data-dir", network.data_dir(name)), names)
        for name, found in zip(names, claims, strict=True):
            console.print(f"  {name:9} claimed {network.amount(found['claimed'])}, pending until the window has passed")


def watch_verifier(console: Console, verifier: Program, answer: Answer) -> None:
    """The verifier names the cheat. Raises DemoError if it names somebody else."""
    fault = verifier.wait_for("fault", 120)
    if fault["worker"] != answer.workers[CHEATED_SHARD]:
        raise DemoError(f"the verifier names another worker: {fault}")
    console.print(f"\n  [red]FAULT[/red] {fault['kind']}: worker {fault['worker']}, layers {fault['layers']}")
    console.print(f"  {fault['reason']}", markup=False)


def withdraw(console: Console, network: LocalNetwork) -> int:
    """Workers are paid out what the challenge window has passed for. Returns base units."""
    with ThreadPoolExecutor(2) as pool:
        run = network.processes.run
        results = pool.map(lambda name: run("withdraw", "earnings", "--data-dir", network.data_dir(name)), RANGES)
        earned = {name: int(result["withdrawn"]) for name, result in zip(RANGES, results, strict=True)}
    for name, amount in earned.items():
        console.print(f"  {name} withdrew {network.amount(amount)}, after the protocol fee of {FEE_BPS / 100:g} %")
    return sum(earned.values())


def final_report(processes: Processes, verifier: Program, sentence: Sentence) -> dict[str, int]:
    """Ends the verifier. Returns how many receipts it checked; raises DemoError if anything else was wrong."""
    processes.stop(verifier)
    report = verifier.wait_for("ended", 20)
    if [found["worker"] for found in report["faults"]] != [sentence.worker] or report["unavailable"]:
        raise DemoError(f"the verifier's report is wrong: {report}")
    return {"checked": report["checked"], "cleared": report["ok"] + len(report["not_at_fault"])}


def audit(console: Console, network: LocalNetwork) -> None:
    """Anybody rebuilds the ledger from events and compares it with the contracts."""
    console.file.flush()
    if network.processes.stream("audit") != 0:
        raise DemoError("the audit found a difference")


def summary(
    network: LocalNetwork,
    answers: list[Answer],
    report: dict[str, int],
    sentence: Sentence,
    collected: int,
    earned: int,
    seconds: float,
) -> Table:
    table = Table(title=f"What happened in {seconds:.0f} s", show_header=False)
    same = answers[0].text == answers[len(JOBS)].text
    rows = {
        "jobs paid": f"{len(answers)}, {network.amount(sum(answer.cost for answer in answers))}",
        "receipts recomputed": f"{report['checked']}, of which {report['cleared']} cleared",
        "the cheat's answer": "reads the same as the honest one" if same else "differs from the honest one",
        "slashed and jailed": sentence.worker,
        "slashed": f"{network.amount(sentence.slashed)}, {network.amount(sentence.burned)} of them burned",
        "verifier paid": f"{network.amount(collected)}, and its bond back",
        "client refunded": network.amount(sentence.refunded),
        "the dispute": f"{len(sentence.told)} transactions, {sentence.gas():,} gas",
        "of which the verifier's": f"{sentence.gas('verifier'):,} gas",
        "honest workers slashed": "0",
        "honest workers withdrew": network.amount(earned),
    }
    for what, value in rows.items():
        table.add_row(what, value)
    return table


def leave_running(console: Console, network: LocalNetwork) -> None:
    """The honest network stays until Ctrl-C; these commands play with it from another terminal."""
    for program in network.processes.programs:
        if program.name == CHEATER:
            network.processes.stop(program)
    network.start_verifier().wait_for("watching", 120)
    console.print("──── The network keeps running until Ctrl-C ────", style="green")
    console.print("In another terminal, in this folder:\n")
    password_file = network.folder / "password"
    password_file.write_text(network.processes.environment[PASSWORD] + "\n")
    password_file.chmod(0o600)
    console.print(f"  export EFEDLLM_RPC={network.rpc}")
    console.print(f"  export EFEDLLM_DEPLOYMENT={network.folder / 'deployment.json'}")
    console.print(f"  export EFEDLLM_DATA_DIR={network.data_dir('client')}")
    console.print(f"  export EFEDLLM_PASSWORD_FILE={password_file}")
    console.print('  .venv/bin/efedllm ask "ROMEO:" --max-tokens 60 --temperature 0.8')
    console.print("  .venv/bin/efedllm status")
    console.print("  .venv/bin/efedllm channel list")
    console.print(f"  .venv/bin/efedllm claim --data-dir {network.data_dir('worker-1')}")
    console.print("  .venv/bin/efedllm audit\n")
    signal.pause()


if __name__ == "__main__":
    sys.exit(main())
