"""From a claim to a slash on a real chain with the real contracts: a verifier that checks, challenges and plays, killed
at every move and with its blocks replaced, against workers that lie."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.follower import Follower
from efedllm.chain.local import AnvilProcess
from efedllm.chain.transactions import Receipt as Mined
from efedllm.cli import main
from efedllm.client.records import Reader, RecordSource
from efedllm.model.load import read_manifest
from efedllm.model.segment_weights import SegmentWeights
from efedllm.model.trace import Trace
from efedllm.model.trace_rows import Lie
from efedllm.numerics.backend import select
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.descent import Descent, TreeSource
from efedllm.protocol.game import Paper, Side
from efedllm.protocol.records import Record
from efedllm.protocol.trace_case import shape_of
from efedllm.protocol.trace_tensors import Exit, Layer
from tests.support.arena_court import ChainBench, Defender
from tests.support.chain import WORK, fund
from verifier.challenger import Challenger
from verifier.court import ChainCourt
from verifier.following import GameLedger
from verifier.recompute import Recomputer
from verifier.report import EXIT_FAULT
from verifier.service import Parts, Verifier
from verifier.sources import Sources
from verifier.store import Store
from verifier.tracer import Tracer

from .market import VERIFIER_COLD, VERIFIER_HOT, Market, open_market
from .path import PAYER, Cheat, cold, flip_weight, hot
from .test_service import Desk

PROMPT = [int(byte) for byte in sha256(b"prompt").digest()][:13]
FLOAT = 100 * WORK
MOVE_SECONDS = 1000
TIMES = {
    "challenge-window": 3600,
    "withdrawal-delay": 7200,
    "unbonding": 200_000,
    "move-deadline": MOVE_SECONDS,
    "margin": 12 * MOVE_SECONDS,
}


class Killed(BaseException):
    """A kill -9, as far as the code that runs can tell."""


@pytest.fixture
def slow_deployment(anvil: AnvilProcess, tmp_path: Path) -> Deployment:
    """Contracts whose deadlines no busy machine misses."""
    where = tmp_path / "slow.json"
    times = [text for name, seconds in TIMES.items() for text in (f"--{name}", str(seconds))]
    assert main(["deploy", "--local", "--rpc", anvil.url, "--out", str(where), *times]) == 0
    return Deployment.read(where)


@pytest.fixture
async def slow(anvil: AnvilProcess, slow_deployment: Deployment) -> AsyncIterator[Chain]:
    async with await Chain.connect(anvil.url, slow_deployment) as connected:
        yield connected


@pytest.fixture
async def market(slow: Chain, model: Path) -> AsyncIterator[Market]:
    async with open_market(slow, model, (0, 1, 2, 3)) as opened:
        await fund(slow, VERIFIER_HOT.address, FLOAT)
        yield opened


@dataclass
class Court:
    """A verifier over one folder, that can be killed at any send, and the worker that it plays against."""

    market: Market
    anvil: AnvilProcess
    recomputer: Recomputer
    folder: Path
    confirmations: int = 0
    told: list[dict[str, object]] = field(default_factory=list)
    sent: list[tuple[str, int]] = field(default_factory=list)
    kill: dict[str, str] = field(default_factory=dict)
    """Which sends to be killed at: "before" or "after", by the contract's function."""

    @asynccontextmanager
    async def verifier(self) -> AsyncIterator[tuple[Verifier, Challenger]]:
        outer, chain, market = self, self.market.chain, self.market
        assert chain.game is not None
        if self.confirmations:
            parameters = replace(chain.deployment.parameters, confirmations=self.confirmations)
            chain = Chain(chain.rpc, replace(chain.deployment, parameters=parameters))
        game = chain.game
        assert game is not None
        store = Store(self.folder / "verifier.sqlite")
        docket = store.docket(VERIFIER_HOT.address)
        setting = Desk(chain, market.model, self.recomputer, self.folder).setting
        weights = SegmentWeights(market.model, read_manifest(market.model).weights_root)
        tracer = Tracer(weights, select("exact"), self.recomputer.rows, self.folder)

        class Deadly(ChainCourt):
            async def send(self, call: Call) -> Mined:
                name = call.label.removeprefix("DisputeGame.")
                when = outer.kill.pop(name, "")
                if when == "before":
                    raise Killed
                receipt = await super().send(call)
                outer.sent.append((name, receipt.gas_used))
                if when == "after":
                    raise Killed
                return receipt

        async with RecordSource(chain.deployment.domain, Reader(VERIFIER_COLD.address, VERIFIER_HOT)) as source:
            sender = chain.sender(VERIFIER_HOT)
            parts = Parts(
                chain=chain,
                store=store,
                sources=Sources(chain.stakes, source, chain.deployment.domain),
                sender=sender,
                setting=setting,
                compute=self.recomputer,
                evidence_folder=self.folder / "evidence",
                on_verdict=lambda found: None,
                docket=docket,
            )
            verifier = Verifier(parts)
            follower = Follower(chain.events("DisputeGame"), GameLedger(docket))
            challenger = Challenger(
                Deadly(chain, game, sender), docket, tracer, setting, follower,
                on_event=lambda _, event: self.told.append(event),
            )  # fmt: skip
            try:
                yield verifier, challenger
            finally:
                verifier.close()
                challenger.close()
                store.close()
                sender.close()

    async def play(self, defender: Defender, passes: int = 120) -> None:
        """Passes of the verifier and the worker in turn until all is over; a kill starts the verifier again."""
        chain = self.market.chain
        while passes > 0:
            try:
                async with self.verifier() as (verifier, challenger):
                    while passes > 0:
                        passes -= 1
                        before = await chain.rpc.block_number()
                        await verifier.step()
                        await challenger.step()
                        await defender.step()
                        if verifier.report().exit_code == EXIT_FAULT and challenger.is_done():
                            return
                        if await chain.rpc.block_number() == before:
                            open_games = [one.phase for one in (await defender.court.games()).values()]
                            self.anvil.increase_time(MOVE_SECONDS + 1 if open_games else 1)
                            self.anvil.mine(max(1, self.confirmations))
            except Killed:
                continue
        raise AssertionError(f"the games do not end: {self.sent}")

    async def assert_won(self, worker: str, fee: int) -> None:
        """Slashed and jailed; the client got the fee back, the verifier its bond and the pot."""
        chain = self.market.chain
        participant = await chain.stakes.participant_of(worker)
        assert participant.jailed and participant.stake < 1000 * WORK
        names = [str(event["event"]) for event in self.told]
        assert {"opened", "slashed", "refunded", "collected", "won"} <= set(names) | {"opened"}
        assert all(event["gas"] for event in self.told)
        refunds = sum(int(str(event["amount"])) for event in self.told if event["event"] == "refunded")
        assert refunds == fee == await chain.token.balance_of(PAYER.address) - self.paid_before
        pot = sum(int(str(event["pot"])) for event in self.told if event["event"] == "slashed")
        assert pot > 0 and await chain.token.balance_of(VERIFIER_HOT.address) == FLOAT + pot

    paid_before: int = 0

    async def cheat(self, shard: int, cheat: Cheat) -> tuple[Record, list[Record]]:
        """A request that one worker cheats in; that worker claims."""
        records = self.market.ask(PROMPT, 3, {shard: cheat})
        await self.market.claim(shard)
        self.anvil.mine(3)
        self.paid_before = await self.market.chain.token.balance_of(PAYER.address)
        return records[shard], records

    def defender(
        self, record: Record, lie: Lie | None, output: Any, *, body_root: bytes = b"", moves: int = 1000
    ) -> Defender:
        """output: what the worker shows on that side."""
        market, (receipt, signature) = self.market, record.receipts[-1]
        weights = SegmentWeights(market.model, read_manifest(market.model).weights_root)
        shape = shape_of(weights.spec(), record.request, receipt)
        size = shape.model.hidden * 4
        tokens = [*record.prompt, *record.generated]
        inputs: CommittedTokens | CommittedRows = CommittedTokens(tokens[: shape.positions])
        if shape.start:
            inputs = CommittedRows(shape.positions, lambda at: record.rows[at * size : (at + 1) * size])
        request = record.request
        trace = Trace(weights, shape, inputs, request.sampling, request.seed, select("exact"), lie=lie)
        trees: dict[Side, TreeSource] = {Side.BODY: trace, Side.INPUT: inputs, Side.OUTPUT: output}
        bench = ChainBench(market.chain, market.chain.sender(hot(receipt.shard)))
        paper = Paper(request, receipt, signature)
        return Defender(bench, Descent(shape), paper, trace.body_root, trees, moves)


@pytest.fixture
def court(market: Market, anvil: AnvilProcess, recomputer: Recomputer, tmp_path: Path) -> Iterator[Court]:
    (tmp_path / "data").mkdir()
    yield Court(market, anvil, recomputer, tmp_path / "data")


def sent_rows(records: list[Record], shard: int, hidden: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.frombuffer(records[shard + 1].rows, np.int32).reshape(-1, hidden)


def ends_in(rows: np.ndarray[Any, np.dtype[np.int32]], segment: int) -> Lie:
    """A trace that ends in these rows, whatever leads there."""

    def alter(at: int, tensor: int, part: int, first: int, values: Any) -> None:
        if (at, tensor) == (segment, Layer.ADD_MLP):
            values[:] = rows[first : first + len(values)]

    return Lie(alter)


async def test_body_is_judged_by_the_step_verifier(court: Court) -> None:
    record, records = await court.cheat(1, Cheat(weights=flip_weight))
    rows = sent_rows(records, 1, 48)
    output = CommittedRows(len(rows), lambda at: rows[at].tobytes())
    await court.play(court.defender(record, ends_in(rows, 0), output))
    await court.assert_won(cold(1).address, record.receipts[-1][0].fee)
    assert [name for name, _ in court.sent][-3:] == ["proveStep", "refund", "collect"]


async def test_rows_that_no_honest_body_ends_in(court: Court) -> None:
    record, records = await court.cheat(0, Cheat(weights=flip_weight))
    rows = sent_rows(records, 0, 48)
    output = CommittedRows(len(rows), lambda at: rows[at].tobytes())
    await court.play(court.defender(record, None, output))
    await court.assert_won(cold(0).address, record.receipts[-1][0].fee)
    assert [name for name, _ in court.sent][-3:] == ["proveRow", "refund", "collect"]


async def test_token_that_was_not_sampled(court: Court) -> None:
    record, _ = await court.cheat(2, Cheat(token=lambda position, token: (token + 1) % 300))
    await court.play(court.defender(record, None, CommittedTokens(record.generated)))
    await court.assert_won(cold(2).address, record.receipts[-1][0].fee)
    assert [name for name, _ in court.sent][-3:] == ["proveToken", "refund", "collect"]


async def test_token_that_the_body_samples_falsely(court: Court) -> None:
    record, _ = await court.cheat(2, Cheat(token=lambda position, token: (token + 1) % 300))

    def alter(segment: int, tensor: int, part: int, first: int, values: Any) -> None:
        if (segment, tensor) == (1, Exit.SAMPLE):
            for at in range(len(values)):
                values[at, 0]["token"] = record.generated[first + at - len(PROMPT) + 1]

    await court.play(court.defender(record, Lie(alter), CommittedTokens(record.generated)))
    await court.assert_won(cold(2).address, record.receipts[-1][0].fee)
    assert [name for name, _ in court.sent][-3:] == ["proveStep", "refund", "collect"]


async def test_silence(court: Court) -> None:
    record, _ = await court.cheat(1, Cheat(weights=flip_weight))
    await court.play(court.defender(record, None, CommittedTokens([0]), moves=0))
    await court.assert_won(cold(1).address, record.receipts[-1][0].fee)
    assert [name for name, _ in court.sent] == ["open", "timeout", "refund", "collect"]


async def test_counts_that_do_not_follow_need_no_game(court: Court) -> None:
    record, _ = await court.cheat(1, Cheat(receipt=lambda receipt: replace(receipt, fee=receipt.fee + 1)))
    await court.play(court.defender(record, None, CommittedTokens([0]), moves=0))
    assert "proveShape" in [name for name, _ in court.sent]
    assert (await court.market.chain.stakes.participant_of(cold(1).address)).jailed


async def test_killed_at_every_move(court: Court) -> None:
    record, records = await court.cheat(1, Cheat(weights=flip_weight))
    rows = sent_rows(records, 1, 48)
    output = CommittedRows(len(rows), lambda at: rows[at].tobytes())
    defender = court.defender(record, ends_in(rows, 0), output)
    names = ["open", "chooseSide", "pick", "pickRow", "proveStep", "refund", "collect"]
    court.kill = dict.fromkeys(names, "before")
    killed_after = dict.fromkeys(names, "after")

    class Again(dict[str, str]):
        """Killed before a move is sent, then after it, then not any more."""

        def pop(self, name: str, default: str = "") -> str:  # type: ignore[override]
            return super().pop(name, "") or killed_after.pop(name, "")

    court.kill = Again(court.kill)
    await court.play(defender)
    assert not court.kill and not killed_after
    await court.assert_won(cold(1).address, record.receipts[-1][0].fee)
    assert [name for name, _ in court.sent].count("open") == 1


async def test_reorganised_by_32_blocks(court: Court) -> None:
    """The whole game is gone, and the claim behind it stays: it is opened and played again."""
    court.confirmations = 2
    record, records = await court.cheat(1, Cheat(weights=flip_weight))
    rows = sent_rows(records, 1, 48)
    output = CommittedRows(len(rows), lambda at: rows[at].tobytes())
    defender = court.defender(record, ends_in(rows, 0), output)
    court.anvil.mine(4)
    async with court.verifier() as (verifier, challenger):
        for _ in range(2):
            await verifier.step()
            court.anvil.mine(2)
        snapshot = court.anvil.snapshot()
        start = await court.market.chain.rpc.block_number()
        for _ in range(4):
            await challenger.step()
            await defender.step()
        assert await defender.court.games()
        court.anvil.mine(32 - (await court.market.chain.rpc.block_number() - start))
        await challenger.step()
    court.anvil.revert(snapshot)
    court.anvil.increase_time(3)
    court.anvil.mine(40)
    assert not await defender.court.games()
    await court.play(defender)
    await court.assert_won(cold(1).address, record.receipts[-1][0].fee)
