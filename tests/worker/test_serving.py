"""The worker program as its operator runs it: paid over a real socket, it claims and releases by itself, alone with its
keys and its store, and survives a full disk."""

import asyncio
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chain_scripts.processes import Processes, Program
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding
from efedllm.chain.deployment import Deployment
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.local import AnvilProcess
from efedllm.model.load import read_manifest
from efedllm.model.spec import model_spec
from efedllm.protocol.model_spec import model_id
from efedllm.protocol.objects import Hop
from tests.support.chain import WORK, new_account
from tests.support.cli import PASSWORD, Person
from tests.worker.payer import Answer, Payer, Refused, ask

PROMPT = [1, 2, 3, 4, 5]


@dataclass
class Serving:
    """A worker process on the whole built model, and a client with a channel."""

    person: Person
    program: Program
    processes: Processes
    payer: Payer
    model: bytes
    command: list[str]
    answer: Answer | None = None

    async def ask(self, count: int) -> Answer:
        event = self.program.wait_for("serving", 120)
        address, url = str(event["worker"]), str(event["endpoint"])
        group = SimpleNamespace(workers=[SimpleNamespace(address=address, url=url)])
        hop = Hop(address, 0, 3, 10**14, 4 * 10**14)
        request = self.payer.request([hop], PROMPT, count, modelId=self.model)
        books = self.answer.books if self.answer else {}
        self.answer = await ask(cast(Any, group), self.payer, request, PROMPT, books, epoch=0)
        return self.answer

    def owed(self) -> int:
        assert self.answer is not None
        return self.answer.books[self.person.address].total

    def another(self, data_dir: Path) -> str:
        """What a second worker says, which cannot start."""
        command = [*self.command, "--data-dir", str(data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.processes.environment, check=False)
        assert done.returncode == 1
        assert done.stderr.count("error:") == 1
        return done.stderr


@pytest.fixture
async def serving(
    chain: Chain,
    anvil: AnvilProcess,
    deployment_file: Path,
    deployment: Deployment,
    built: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    monkeypatch.setenv("EFEDLLM_PASSWORD", PASSWORD)
    options = ["--rpc", anvil.url, "--deployment", str(deployment_file)]

    def set_up() -> Person:
        person = Person(tmp_path / "data", capsys, options).with_keys()
        assert person.on_chain("model", "register", str(built)).code == 0
        assert person.on_chain("stake", "1000").code == 0
        return person

    person = await asyncio.to_thread(set_up)
    account = await new_account(chain, 10 * WORK)
    payer = Payer(account, domain=deployment.domain)
    await chain.sender(account).send(chain.token.approve(chain.channels.address, 10 * WORK))
    funding = [Funding(person.address, 5 * WORK)]
    await chain.sender(account).send(chain.channels.fund(payer.session.address, funding))
    command = ["efedllm.cli", "worker", "--model", str(built), "--json", "--gas-value", "0.01", *options]
    with Processes(tmp_path, {"OMP_NUM_THREADS": "1"}) as processes:
        program = processes.start("worker", [*command, "--data-dir", str(person.data_dir)])
        program.wait_for("serving", 120)
        identity = model_id(model_spec(read_manifest(built)))
        yield Serving(person, program, processes, payer, identity, [sys.executable, "-m", *command])


async def test_it_is_paid_without_a_human(serving: Serving, anvil: AnvilProcess, chain: Chain) -> None:
    person, program = serving.person, serving.program
    await serving.ask(40)
    claimed = await asyncio.to_thread(program.wait_for, "claimed", 120)
    assert (claimed["amount"], claimed["channels"]) == (str(serving.owed()), 1)
    # Whoever claims by hand meanwhile finds nothing, and needs no key of the worker's.
    assert (await asyncio.to_thread(person.json, "claim"))["claims"] == []
    anvil.increase_time(6)
    released = await asyncio.to_thread(program.wait_for, "released", 120)
    assert released["amount"] == str(serving.owed())
    account = await chain.channels.account_of(person.address)
    assert (account.pending, account.earnings) == (0, serving.owed())
    # What came in last is claimed before it ends.
    first = serving.owed()
    await serving.ask(40)
    program.process.send_signal(signal.SIGTERM)
    ended = await asyncio.to_thread(program.wait_for, "ended", 120)
    assert (ended["owed"], ended["channels"]) == ("0", 0)
    assert program.process.wait(120) == 0
    account = await chain.channels.account_of(person.address)
    assert account.pending + account.earnings == serving.owed() > first


async def test_a_claim_that_was_under_way_when_it_was_killed(
    serving: Serving, anvil: AnvilProcess, chain: Chain
) -> None:
    """It is neither lost nor made twice."""
    anvil.rpc("evm_setAutomine", False)
    try:
        await serving.ask(40)
        async with asyncio.timeout(120):
            while int(anvil.rpc("txpool_status")["pending"], 16) == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        serving.program.process.send_signal(signal.SIGKILL)
        serving.program.process.wait()
    finally:
        anvil.rpc("evm_setAutomine", True)
    anvil.mine()
    first = serving.owed()
    assert (await chain.channels.account_of(serving.person.address)).pending == first
    command = [*serving.command[2:], "--data-dir", str(serving.person.data_dir)]
    serving.program = serving.processes.start("again", command)
    await asyncio.to_thread(serving.program.wait_for, "serving", 120)
    await serving.ask(20)
    serving.program.process.send_signal(signal.SIGTERM)
    ended = await asyncio.to_thread(serving.program.wait_for, "ended", 120)
    assert ended["owed"] == "0"
    claims = [int(str(event["amount"])) for event in serving.program.events if event["event"] == "claimed"]
    assert sum(claims) == serving.owed() - first
    account = await chain.channels.account_of(serving.person.address)
    assert (account.pending + account.earnings, account.next) == (serving.owed(), 1 + len(claims))


async def test_one_worker_per_store_and_per_key(serving: Serving, tmp_path: Path) -> None:
    pid = serving.program.process.pid
    said = await asyncio.to_thread(serving.another, serving.person.data_dir)
    assert f"another program (process {pid}) uses" in said
    # The same keys in a folder of their own.
    keys, elsewhere = KeyStore(serving.person.data_dir), tmp_path / "elsewhere"
    (elsewhere / "keys").mkdir(parents=True)
    for role in (KeyRole.COLD, KeyRole.HOT):
        file = keys.path(role)
        (elsewhere / "keys" / file.name).write_bytes(file.read_bytes())
    said = await asyncio.to_thread(serving.another, elsewhere)
    assert f"another program (process {pid}) sends with the key of" in said
    assert len((await serving.ask(3)).tokens) == 3


async def test_a_full_disk(serving: Serving) -> None:
    program, pid = serving.program, serving.program.process.pid
    await serving.ask(3)
    assert serving.answer is not None
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, unlimited[1]))
    with pytest.raises(Refused, match="cannot keep what it would sign"):
        await serving.ask(40)
    warning = await asyncio.to_thread(program.wait_for, "warning", 120, kind="disk")
    assert "free or repair the disk" in str(warning["message"])
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
    assert len((await serving.ask(40)).tokens) == 40
    await asyncio.to_thread(program.wait_for, "over", 120, kind="disk")
    program.process.send_signal(signal.SIGTERM)
    ended = await asyncio.to_thread(program.wait_for, "ended", 120)
    assert ended["owed"] == "0"
    claimed = sum(int(event["amount"]) for event in program.events if event["event"] == "claimed")
    assert claimed == serving.owed()
    assert sum(event["event"] == "warning" and event["kind"] == "disk" for event in program.events) == 1
