"""A network of real processes whose parts are killed at random moments, and what has to be true afterwards."""

import asyncio
import json
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chain_scripts.local_network import LocalNetwork
from chain_scripts.processes import ProcessError, Program
from efedllm.chain.chain import Chain
from efedllm.chain.errors import ChainUnreachable, LocalChainError
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.local import rpc
from efedllm.client.store import store_path as client_store
from tests.end_to_end.signed import Stores
from worker.store import store_path as worker_store

RANGES = {"worker-1": "0:4", "worker-2": "4:8"}
PRICES = ("0.0001", "0.0004")
KINDS = (*RANGES, "client", "verifier", "chain")
PHASES = ("asking", "streaming", "answered", "any", "starting")
CONFIRMATIONS = 3
"""More blocks than a chain that is saved once a second loses when it is killed."""
FIXED_PORTS = 10_000, 32_768
LIVE_SECONDS = 300.0
"""For whatever is waited for; far more than it takes on a machine that is busy with other things too."""
DEFECTS = ("Traceback", "a defect of this program")


@dataclass
class Campaign:
    """Kills and restarts. `pause` stops the client between two requests while it is there."""

    network: LocalNetwork
    state: Path
    pause: Path
    choose: random.Random
    stores: Stores = field(init=False)
    running: dict[str, Program] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    answers: dict[int, list[int]] = field(default_factory=dict)
    """Token ids by question: the same ones every time."""
    counts: Counter[str] = field(default_factory=Counter)
    height: int = 0
    """The chain's last block when it was killed."""
    _judged: dict[int, int] = field(default_factory=dict)
    """How many events of a client, by process id, were looked at."""

    def __post_init__(self) -> None:
        self.running["chain"] = next(one for one in self.network.processes.programs if one.name == "chain")
        self.ports = {name: free_port() for name in RANGES}
        self.ports["chain"] = int(self.network.rpc.rsplit(":", 1)[1])

    # starting

    def start(self, name: str) -> Program:
        """The program of that name, not ready yet."""
        network, processes = self.network, self.network.processes
        if name in RANGES:
            # Gas that costs next to nothing: every voucher is worth a claim, so that kills meet claims.
            more = ["--port", str(self.ports[name]), "--claim-within", "5", "--gas-value", "0.001"]
            program = network.start_worker(name, RANGES[name], PRICES, more=more)
        elif name == "client":
            paths = (network.folder / "deployment.json", network.data_dir("client"), self.pause)
            command = ["tests.support.asking_program", network.rpc, *map(str, paths)]
            program = processes.start("client", command)
        elif name == "verifier":
            program = network.start_verifier()
        else:
            options = ["--port", str(self.ports["chain"]), "--block-time", "1", "--json", "--state", str(self.state)]
            program = processes.start("chain", ["efedllm.cli", "chain", *options])
        self.running[name] = program
        return program

    def await_ready(self, name: str) -> None:
        """Raises ProcessError if the program does not come up."""
        program = self.running[name]
        if name == "client":
            until(lambda: bool(program.events), f"{name} to start", program)
        else:
            program.wait_for("watching" if name == "verifier" else "serving", LIVE_SECONDS)
        if name == "chain":
            until(lambda: self.block() > 0, "the chain to answer", program)
            first = self.block()
            self.counts["most blocks lost at once"] = max(self.counts["most blocks lost at once"], self.height - first)
            self.height = 0
            # Until then, contracts cannot be read as of the block that counts as confirmed.
            until(lambda: self.block() > first + CONFIRMATIONS, "blocks")

    def open(self) -> None:
        """Everything beside the chain; returns when it serves."""
        for name in (*RANGES, "verifier"):
            self.start(name)
        addresses = {name: str(self.running[name].wait_for("serving", LIVE_SECONDS)["worker"]) for name in RANGES}
        deployment = self.network.deployment
        where = deployment.chain_id, deployment.contracts.channels
        folder = self.network.folder
        paths = {address: worker_store(folder / name, *where) for name, address in addresses.items()}
        self.stores = Stores(client_store(folder / "client", *where), paths)
        self.await_ready("verifier")
        self.start("client")
        self.await_answer()

    # killing

    def round(self, kind: str, phase: str) -> None:
        """One kill, or two where a program is killed while it starts; then everything works again."""
        self.await_moment(phase)
        self.kill(kind)
        time.sleep(self.choose.uniform(0, 3) if kind == "chain" else self.choose.uniform(0, 0.5))
        self.start(kind)
        if phase == "starting":
            time.sleep(self.choose.uniform(0, 3))
            self.kill(kind)
            self.start(kind)
        self.await_ready(kind)
        self.await_answer()
        self.stores.check()
        self.reconcile()

    def kill(self, name: str) -> None:
        program = self.running[name]
        self.judge_events()
        if name == "chain" and any(event["event"] == "serving" for event in program.events):
            until(lambda: self.block() - self.saved() < CONFIRMATIONS, "the chain to be saved", program)
        before = self.block() if name == "chain" else 0
        assert program.process.poll() is None, f"{name} ended by itself:\n{program.log.read_text()}"
        program.process.kill()
        if name == "chain":
            for event in program.events:  # its Anvil, which it tells of as soon as it runs
                with suppress(ProcessLookupError):
                    os.kill(int(event["pid"]), signal.SIGKILL)
        program.process.wait()
        self.judge_log(program)
        self.counts[f"{name} killed"] += 1
        self.height = max(self.height, before)

    def await_moment(self, phase: str) -> None:
        """A moment of that phase of a request, or any within two seconds."""
        client = self.running["client"]
        seen = len(client.events)
        tokens = self.choose.randint(1, 50)

        def reached(event: dict[str, Any]) -> bool:
            if phase == "streaming":
                return event["event"] == "piece" and int(event["tokens"]) >= tokens
            return bool(event["event"] == phase)

        if phase in ("asking", "streaming", "answered"):
            until(lambda: any(map(reached, client.events[seen:])), phase, client)
            time.sleep(self.choose.uniform(0, 0.25))
        else:
            time.sleep(self.choose.uniform(0, 2))

    # judging

    def await_answer(self) -> None:
        """Two requests may fail of what happened: one that was under way, and one that begins. Then one succeeds."""
        client = self.running["client"]
        seen = len(client.events)

        def ended() -> list[dict[str, Any]]:
            return [event for event in client.events[seen:] if event["event"] in ("answered", "failed")]

        until(lambda: len(ended()) >= 3 or any(one["event"] == "answered" for one in ended()), "an answer", client)
        assert any(one["event"] == "answered" for one in ended()), f"requests keep failing: {ended()}"
        self.judge_events()

    def judge_events(self) -> None:
        """Answers are always the same; errors are one line for people."""
        client = self.running.get("client")
        if client is None:
            return
        first = self._judged.get(client.process.pid, 0)
        events = list(client.events)
        self._judged[client.process.pid] = len(events)
        for event in events[first:]:
            if event["event"] == "answered":
                self.counts["answered"] += 1
                assert self.answers.setdefault(event["question"], event["tokens"]) == event["tokens"]
            elif event["event"] == "failed":
                self.counts["failed"] += 1
                self.counts[f"failure: {event['message'][:90]}"] += 1
                assert event["message"] and event["message"].isprintable()

    def judge_log(self, program: Program) -> None:
        text = program.log.read_text()
        assert not any(word in text for word in DEFECTS), f"{program.name}:\n{text[-4000:]}"

    def reconcile(self) -> None:
        """After a request that succeeded and before the next one, the client's books and the workers' are the same."""
        try:
            while not self.stands_answered():
                self.pause.unlink()
                self.await_answer()  # what the failed request left is put right with the next one
            until(self.books_agree, "books that agree", self.running["client"])
        except ProcessError as error:
            raise AssertionError(f"totals of the client and the worker: {self.stores.totals()}") from error
        finally:
            self.pause.unlink(missing_ok=True)

    def stands_answered(self) -> bool:
        """Stops the client before its next request. Whether the one before succeeded."""
        client = self.running["client"]
        seen = len(client.events)
        self.pause.touch()
        until(lambda: any(one["event"] == "paused" for one in client.events[seen:]), "a pause", client)
        return [one["event"] for one in client.events if one["event"] in ("answered", "failed")][-1] == "answered"

    def books_agree(self) -> bool:
        return all(own == held > 0 for own, held in self.stores.totals().values())

    def block(self) -> int:
        try:
            return int(rpc(self.network.rpc, "eth_blockNumber", timeout_seconds=5), 16)
        except (ChainUnreachable, LocalChainError):
            return 0

    def saved(self) -> int:
        """The last block in the file that the chain goes on from."""
        return int(json.loads(self.state.read_bytes())["best_block_number"])

    async def settle(self, chain: Chain) -> None:
        """Ends everything but the chain and the workers' data; what the vouchers say is what the chain paid."""
        processes = self.network.processes
        self.judge_events()
        self.pause.touch()
        for name in ("client", "verifier"):
            processes.stop(self.running[name])
            self.judge_log(self.running[name])
        self.stores.check()
        payer = KeyStore(Path(self.network.data_dir("client"))).find(KeyRole.COLD).address
        [session_key] = self.stores.session_keys()
        # Workers claim by themselves.
        async with asyncio.timeout(LIVE_SECONDS):
            for worker, (_, best) in self.stores.totals().items():
                while await self.claimed(chain, payer, worker, session_key) < best:  # noqa: ASYNC110
                    await asyncio.sleep(1)
        block = await chain.confirmed_block()  # all as of one moment: workers release what they claimed meanwhile
        claimed = held = 0
        for worker, (own, best) in self.stores.totals().items():
            channel = await chain.channels.channel_of(payer, worker, session_key, block)
            account = await chain.channels.account_of(worker, block)
            assert own >= best == channel.claimed > 0, (own, best, channel)
            claimed += channel.claimed
            held += account.pending + account.earnings
        assert claimed == held + await chain.channels.fees(block)
        audit = await asyncio.to_thread(
            processes.run, "audit", "--records", "--data-dir", self.network.data_dir("verifier"), check=False
        )
        assert not audit["differences"] and not audit["unavailable"], audit
        options = ["--model", str(self.network.model), "--data-dir", self.network.data_dir("verifier")]
        report = await asyncio.to_thread(processes.run, "verifier", "--once", *options, check=False)
        assert not report["faults"] and not report["unavailable"], report
        assert report["checked"] == audit["receipts"]["paid"] > 0, (report["checked"], audit["receipts"])
        self.counts["receipts checked"] = int(report["checked"])
        for name in RANGES:
            processes.stop(self.running[name])
            self.judge_log(self.running[name])

    async def claimed(self, chain: Chain, payer: str, worker: str, session_key: str) -> int:
        """Confirmed, in base units."""
        return (await chain.channels.channel_of(payer, worker, session_key, await chain.confirmed_block())).claimed

    def figures(self) -> str:
        return "\n".join(f"{count:6}  {what}" for what, count in sorted(self.counts.items()))


def until(holds: Callable[[], bool], what: str, program: Program | None = None, seconds: float = LIVE_SECONDS) -> None:
    """Raises ProcessError if the program ends, or it takes too long."""
    deadline = time.monotonic() + seconds
    while not holds():
        if program is not None and program.process.poll() is not None:
            raise ProcessError(f"{program.name} ended by itself:\n{program.log.read_text()[-4000:]}")
        if time.monotonic() > deadline:
            told = [] if program is None else program.events[-5:]
            raise ProcessError(f"waited {seconds:g} s for {what}; the last events: {told}")
        time.sleep(0.05)


def free_port() -> int:
    """Not one that the system gives to whoever asks for any: a program that was killed needs its port again."""
    while True:
        port = random.SystemRandom().randrange(*FIXED_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
