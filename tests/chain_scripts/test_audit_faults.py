"""Faults planted one at a time in a copy of a real chain's history: the audit finds each and names it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from efedllm.chain import events as e
from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from efedllm.cli import main
from tests.support.copied_chain import CopiedChain, Planted

from .ledger_faults import LEDGER_FAULTS, UNSEEN
from .ledger_market import FEE_BPS, FEE_RECIPIENT, OPTIONS, Counter, CounterServer, LedgerMarket
from .paper_faults import PAPER_FAULTS
from .planting import World

PASSWORD = "a password for a throw-away key"


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The honest history, made once."""
    folder = tmp_path_factory.mktemp("ledger")
    counter, path = Counter(), folder / "deployment.json"
    with AnvilProcess.start() as anvil, CounterServer(counter) as server:
        fee = ["--protocol-fee-bps", str(FEE_BPS), "--fee-recipient", FEE_RECIPIENT.address]
        assert main(["deploy", "--local", "--rpc", anvil.url, "--out", str(path), *fee, *OPTIONS]) == 0
        deployment = Deployment.read(path)

        async def build() -> None:
            async with await Chain.connect(anvil.url, deployment) as chain:
                await LedgerMarket(chain, anvil, server.url, counter).build(folder / "verifier", PASSWORD)

        asyncio.run(build())
        with CopiedChain(anvil.url, deployment) as copy:
            yield World(copy, counter, deployment, path, folder / "verifier", copy.events())


@pytest.fixture
def world(history: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The honest history, and honest again afterwards."""
    monkeypatch.setenv("EFEDLLM_PASSWORD", PASSWORD)
    yield history
    history.copy.planted = Planted()
    history.counter.honest()


def test_audit_of_the_copy_is_green(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = world.audit(capsys, "--records", "--json")
    found = json.loads(out)
    assert (found["differences"], found["unavailable"], code) == ([], [], 0)
    assert found["receipts"]["records_checked"] == found["receipts"]["paid"] > 90


def test_history_holds_every_kind_of_event(history: World) -> None:
    """But for those about payments that a token refuses: ours refuses none."""
    kinds = {kind for kinds in e.KINDS.values() for kind in kinds}
    assert {type(event) for event in history.events} == kinds - UNSEEN


def line_of(out: str, named: tuple[str, ...]) -> str | None:
    lines = [line for line in out.splitlines() if line.startswith("DIFFERENCE: ")]
    return next((line for line in lines if all(part in line for part in named)), None)


@pytest.mark.parametrize("name", LEDGER_FAULTS)
def test_audit_names_a_fault_of_the_ledger(name: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    fault = LEDGER_FAULTS[name]
    fault.plant(world)
    code, out = world.audit(capsys, *fault.options)
    assert code == 1, out
    assert line_of(out, fault.named), out


@pytest.mark.parametrize("name", PAPER_FAULTS)
def test_audit_names_a_fault_of_what_was_signed(name: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    fault = PAPER_FAULTS[name]
    fault.plant(world)
    code, out = world.audit(capsys, "--records")
    assert code == 1, out
    assert line_of(out, fault.named), out
