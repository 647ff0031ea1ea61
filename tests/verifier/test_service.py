"""The loop from a claim to a verdict, on a real chain, with workers that answer over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import msgpack
import pytest

from efedllm.chain.chain import Chain
from efedllm.chain.errors import ChainUnreachable
from efedllm.chain.local import AnvilProcess
from efedllm.client.records import Reader, RecordSource
from efedllm.protocol.claims import Entry
from efedllm.protocol.merkle import verify
from efedllm.protocol.records import Record
from efedllm.protocol.vouchers import Leaf, keccak_node
from verifier.check import Setting
from verifier.findings import Checked
from verifier.recompute import Recomputer
from verifier.service import Parts, Verifier, run_forever, run_once
from verifier.sources import Sources
from verifier.store import Store
from verifier.verdict import Fault, Missing, Outcome

from .market import VERIFIER_COLD, VERIFIER_HOT, Market, open_market, without_rows
from .path import Cheat, cold, flip_weight, limits
from .path import setting as local_setting

PROMPT = [int(byte) for byte in sha256(b"prompt").digest() * 3][:70]
OTHER = PROMPT[:20]


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """A verifier over one data directory, that can be ended and started again."""

    chain: Chain
    model: Path
    recomputer: Recomputer
    folder: Path
    clock: Clock = field(default_factory=Clock)
    told: list[Checked] = field(default_factory=list)

    @property
    def setting(self) -> Setting:
        judge = self.chain.deployment.contracts.step_verifier
        return Setting(self.chain.deployment.domain, limits(self.model, judge), local_setting(self.model).hidden)

    @asynccontextmanager
    async def verifier(self) -> AsyncIterator[Verifier]:
        domain = self.chain.deployment.domain
        store = Store(self.folder / "verifier.sqlite")
        async with RecordSource(domain, Reader(VERIFIER_COLD.address, VERIFIER_HOT)) as source:
            parts = Parts(
                chain=self.chain,
                store=store,
                sources=Sources(self.chain.stakes, source, domain),
                sender=self.chain.sender(VERIFIER_HOT),
                setting=self.setting,
                compute=self.recomputer,
                evidence_folder=self.folder / "evidence",
                on_verdict=self.told.append,
            )
            verifier = Verifier(parts, self.clock)
            try:
                yield verifier
            finally:
                verifier.close()
                store.close()


@pytest.fixture
async def market(chain: Chain, model: Path) -> AsyncIterator[Market]:
    async with open_market(chain, model, (0, 1, 2, 3)) as opened:
        yield opened


@pytest.fixture
def desk(chain: Chain, model: Path, recomputer: Recomputer, tmp_path: Path) -> Desk:
    return Desk(chain, model, recomputer, tmp_path)


def read(path: str) -> bytes:
    return Path(path).read_bytes()


async def report_after(desk: Desk, anvil: AnvilProcess) -> dict[str, object]:
    async with desk.verifier() as verifier:
        for _ in range(2):
            anvil.mine(3)
            await verifier.step()
        report = verifier.report()
        return {**report.to_json(), "exit_code": report.exit_code, "text": report.to_text()}


async def test_step_passes_honest_claims(market: Market, desk: Desk, anvil: AnvilProcess) -> None:
    market.ask(PROMPT, 19)
    market.ask(OTHER, 3)
    for at in range(3):
        await market.claim(at)
    found = await report_after(desk, anvil)
    assert (found["checked"], found["ok"], found["exit_code"]) == (6, 6, 0)
    assert found["faults"] == found["unavailable"] == []
    assert [one.verdict.outcome for one in desk.told] == [Outcome.OK] * 6
    # Nothing is asked for again once it is known.
    asked = [shop.fetches for shop in market.shops]
    again = await report_after(desk, anvil)
    assert (again["ok"], [shop.fetches for shop in market.shops]) == (6, asked)


async def test_step_draws_later_claims_of_the_same_channel(market: Market, desk: Desk, anvil: AnvilProcess) -> None:
    market.ask(PROMPT, 19, paid=2)
    await market.claim(1)
    assert (await report_after(desk, anvil))["checked"] == 1
    market.ask(OTHER, 3)
    await market.claim(1)
    found = await report_after(desk, anvil)
    assert (found["checked"], found["exit_code"]) == (2, 0)


async def test_step_names_the_worker_with_a_flipped_weight_bit(
    market: Market, desk: Desk, anvil: AnvilProcess, chain: Chain
) -> None:
    market.ask(OTHER, 3)
    records = market.ask(PROMPT, 19, {1: Cheat(weights=flip_weight)})
    for at in (2, 1, 0):
        await market.claim(at)
    found = await report_after(desk, anvil)
    assert found["exit_code"] == 3
    assert (found["checked"], found["ok"]) == (6, 4)
    (fault,), (innocent,) = found["faults"], found["not_at_fault"]  # type: ignore[misc]
    assert (fault["worker"], fault["kind"], fault["layers"], fault["shard"]) == (
        cold(1).address, "output-root", "1:2", 1,
    )  # fmt: skip
    assert (innocent["worker"], innocent["layers"]) == (cold(2).address, "2:3")
    assert cold(1).address in innocent["reason"] and cold(1).address in str(found["text"])
    assert 0 <= fault["position"] < len(PROMPT)
    assert [one.verdict.worker for one in desk.told if one.verdict.outcome is Outcome.FAULT] == [cold(1).address]
    # The evidence file alone leads from the claim to the receipt.
    kept = msgpack.unpackb(read(fault["evidence"]))
    entry = Entry.unpack(kept["claim"]["entries"][kept["entry"]])
    leaf = kept["leaf"]
    leaf_hash = Leaf(b"", leaf["receipt"], int(leaf["before"]), int(leaf["after"])).hash()
    assert verify(entry.receipts_root, leaf_hash, leaf["index"], leaf["count"], leaf["proof"], keccak_node)
    assert Record.unpack(kept["record"]) == records[1]
    assert Record.unpack(kept["upstream"]) == without_rows(records[0])
    assert "0x" + leaf["receipt"].hex() == fault["receipt"]


async def test_step_asks_again_for_what_was_unavailable(market: Market, desk: Desk, anvil: AnvilProcess) -> None:
    market.ask(PROMPT, 19)
    for at in range(3):
        await market.claim(at)
    market.shops[0].silent = True
    found = await report_after(desk, anvil)
    assert (found["checked"], found["exit_code"]) == (1, 4)
    kinds = {(row["claimed_by"], row["worker"], row["kind"]) for row in found["unavailable"]}  # type: ignore[attr-defined]
    assert kinds == {
        (cold(0).address, cold(0).address, Missing.ANSWER),
        (cold(1).address, cold(0).address, Missing.UPSTREAM),
    }
    market.shops[0].silent = False
    assert (await report_after(desk, anvil))["exit_code"] == 4  # not due yet
    desk.clock.now += 60
    assert (await report_after(desk, anvil))["exit_code"] == 0


async def test_step_needs_no_neighbour_where_the_record_holds_its_receipts(
    market: Market, desk: Desk, anvil: AnvilProcess
) -> None:
    records = market.ask(PROMPT, 19)
    await market.claim(1)
    market.alter(1, lambda record: replace(record, upstream=records[0].receipts))
    market.shops[0].silent = True
    found = await report_after(desk, anvil)
    assert (found["checked"], found["ok"], found["exit_code"]) == (1, 1, 0)


async def test_step_computes_withheld_rows_from_the_tokens(market: Market, desk: Desk, anvil: AnvilProcess) -> None:
    market.ask(PROMPT, 19)
    await market.claim(1)
    market.alter(1, without_rows)
    found = await report_after(desk, anvil)
    assert (found["checked"], found["ok"], found["exit_code"]) == (1, 1, 0)


async def test_step_counts_withheld_rows_as_unavailable_where_others_were_received(
    market: Market, desk: Desk, anvil: AnvilProcess
) -> None:
    market.ask(PROMPT, 19, {0: Cheat(weights=flip_weight)})
    await market.claim(1)
    market.alter(1, without_rows)
    found = await report_after(desk, anvil)
    assert found["exit_code"] == 4
    (row,) = found["unavailable"]  # type: ignore[misc]
    assert (row["worker"], row["kind"], row["outcome"]) == (cold(1).address, Missing.ROWS, Outcome.UNAVAILABLE)


async def test_step_judges_a_silent_worker_by_what_its_neighbour_keeps(
    market: Market, desk: Desk, anvil: AnvilProcess
) -> None:
    records = market.ask(PROMPT, 19, {1: Cheat(weights=flip_weight)})
    for at in (1, 2):
        await market.claim(at)
    market.alter(2, lambda record: replace(record, upstream=records[1].receipts))
    request_id = records[1].receipts[0][0].requestId
    del market.shops[1].records[request_id]
    found = await report_after(desk, anvil)
    faults = found["faults"]
    assert isinstance(faults, list) and {fault["worker"] for fault in faults} == {cold(1).address}


async def test_step_refuses_leaves_that_are_not_under_the_claimed_root(
    market: Market, desk: Desk, anvil: AnvilProcess
) -> None:
    market.ask(PROMPT, 19)
    await market.claim(1)
    total, (leaf,) = next(reversed(market.shops[1].books.items()))
    market.shops[1].books[total] = [replace(leaf, receipt_digest=bytes(32))]
    found = await report_after(desk, anvil)
    (row,) = found["unavailable"]  # type: ignore[misc]
    assert (row["worker"], row["kind"], found["checked"]) == (cold(1).address, Missing.BOOK, 0)


async def test_report_counts_claims_without_a_seed_as_unavailable(market: Market, desk: Desk) -> None:
    market.ask(OTHER, 3)
    await market.claim(0)
    async with desk.verifier() as verifier:
        await verifier.follow()
        assert not verifier.is_done(await market.chain.rpc.block_number())
        report = verifier.report()
    assert (report.exit_code, [one.verdict.kind for one in report.undrawn]) == (4, [Missing.SEED])


async def test_run_once_ends_when_blocks_do_not_come(market: Market, desk: Desk, anvil: AnvilProcess) -> None:
    market.ask(OTHER, 3)
    await market.claim(0)
    async with desk.verifier() as verifier:
        await run_once(verifier, asyncio.Event(), wait_seconds=0, poll_seconds=0)
        assert verifier.report().exit_code == 4
        anvil.mine(3)
        await run_once(verifier, asyncio.Event(), wait_seconds=60, poll_seconds=0)
        assert (verifier.report().exit_code, len(verifier.report().checked)) == (0, 1)


async def test_run_forever_waits_for_a_chain_that_is_gone(
    market: Market, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk.verifier() as verifier:
        stop, passes = asyncio.Event(), 0

        async def step() -> None:
            nonlocal passes
            passes += 1
            if passes == 2:
                stop.set()
            raise ChainUnreachable("http://nowhere")

        monkeypatch.setattr(verifier, "step", step)
        await run_forever(verifier, stop, poll_seconds=0.01)
        assert passes == 2
        assert "cannot reach the chain" in caplog.text


async def test_step_goes_on_after_a_kill_between_any_two_steps(market: Market, desk: Desk, anvil: AnvilProcess) -> None:
    market.ask(PROMPT, 19, {1: Cheat(weights=flip_weight)})
    for at in range(3):
        await market.claim(at)
    for name in ("follow", "record_beacons", "follow", "record_beacons", "draw", "check", "check"):
        anvil.mine(2)
        async with desk.verifier() as verifier:
            await getattr(verifier, name)()
    async with desk.verifier() as verifier:
        report = verifier.report()
        assert [one.verdict.kind for one in report.of(Outcome.FAULT)] == [Fault.OUTPUT]
        assert len(report.checked) == 3
        (evidence,) = verifier._parts.store.evidence()
        assert evidence.sha256 == sha256(read(evidence.path)).digest()


async def test_step_forgets_what_was_read_from_replaced_blocks(market: Market, desk: Desk, anvil: AnvilProcess) -> None:
    market.ask(OTHER, 3)
    async with desk.verifier() as verifier:
        await verifier.step()
    before = anvil.snapshot()
    await market.claim(0)
    async with desk.verifier() as verifier:
        await verifier.step()
        assert [claim.worker for claim in verifier._parts.store.seedless()] == [cold(0).address]
    anvil.revert(before)
    await market.claim(1)
    await market.claim(2)
    async with desk.verifier() as verifier:
        await verifier.step()
        assert {claim.worker for claim in verifier._parts.store.seedless()} <= {cold(1).address, cold(2).address}
    assert (await report_after(desk, anvil))["checked"] == 2
