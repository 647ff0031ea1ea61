"""Whole games of the verifier against workers that lied, to the slash: every side, killed and reorganised at will.

The contract is the one of `tests/support/arena.py`, which judges elements in plain Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efedllm.chain.binding import Call
from efedllm.chain.follower import Follower
from efedllm.model.load import read_manifest
from efedllm.model.segment_weights import SegmentWeights
from efedllm.model.spec import model_spec
from efedllm.model.trace import Trace
from efedllm.model.trace_rows import Lie
from efedllm.numerics.backend import select
from efedllm.protocol import eip712
from efedllm.protocol.claims import Entry
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.descent import Descent, TreeSource
from efedllm.protocol.drawing import DrawPolicy
from efedllm.protocol.game import Paper, Side
from efedllm.protocol.merkle import tree_root
from efedllm.protocol.objects import Receipt, Sampling
from efedllm.protocol.trace_case import shape_of
from efedllm.protocol.trace_tensors import Exit, Layer
from efedllm.protocol.vouchers import keccak_node
from tests.support.arena import BOND, FEE, MOVE_SECONDS, SLASH, Arena
from tests.support.arena_court import ArenaCourt, ArenaReader, Defender
from verifier.challenger import Challenger
from verifier.check import Case, check
from verifier.docket import enter_dossier
from verifier.dossier import Dossier
from verifier.draw_proof import prove_draw
from verifier.evidence import keep_file, pack_evidence
from verifier.findings import Claim, Draw
from verifier.following import GameLedger
from verifier.history import published_tokens
from verifier.recompute import Recomputer
from verifier.remedy import remedy_for
from verifier.store import Store
from verifier.tracer import Tracer

from .path import DOMAIN, PAYER, Cheat, case, cold, flip_weight, hot, key, limits, make_request, serve, setting

VERIFIER = key("verifier hot").address
PROMPT = [int(byte) for byte in sha256(b"prompt").digest()][:21]
BOUNDS = (0, 1, 2, 3)
SAMPLING = Sampling(60_000, 40, 60_000)
FLOAT = 10 * BOND


class Killed(BaseException):
    """A kill -9, as far as the code that runs can tell."""


@dataclass
class Stage:
    """One receipt that was drawn, the worker behind it, and a verifier over a folder."""

    arena: Arena
    model: Path
    recomputer: Recomputer
    folder: Path
    judged: Case
    paper: Paper
    descent: Descent
    confirmations: int = 0
    told: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        manifest = read_manifest(self.model)
        self.weights = SegmentWeights(self.model, manifest.weights_root)
        self.open()
        self.enter()

    def open(self, before_send: Callable[[Call], None] = lambda call: None) -> None:
        self.court = ArenaCourt(self.arena, VERIFIER, before_send)
        self.store = Store(self.folder / "verifier.sqlite")
        docket = self.store.docket(VERIFIER)
        self.tracer = Tracer(self.weights, select("exact"), self.recomputer.rows, self.folder)
        self.challenger = Challenger(
            self.court,
            docket,
            self.tracer,
            setting(self.model),
            Follower(ArenaReader(self.arena, self.confirmations), GameLedger(docket)),  # type: ignore[arg-type]
            on_event=lambda text, event: self.told.append((text, event)),
        )

    def close(self) -> None:
        self.challenger.close()
        self.tracer.close()
        self.store.close()

    def enter(self) -> None:
        """What the service does with a fault: evidence, then the verdict with its dossier."""
        leaf = replace(self.judged.drawn.leaf, before=0, after=self.paper.receipt.fee)
        entry = Entry(self.judged.drawn.channel, 0, leaf.after, tree_root([leaf.hash()], keccak_node))
        worker = self.paper.receipt.worker
        claim = Claim(worker, 7, 1, bytes(32), (entry,), b"\5" * 32)
        self.arena.claims[worker, 7] = claim
        verdict = check(setting(self.model), self.judged, self.recomputer)
        assert remedy_for(setting(self.model), self.judged, verdict) is not None, verdict
        draw = Draw(worker, 7, 0, 0, leaf)
        path = keep_file(self.folder, pack_evidence(claim, draw, [leaf], self.judged, verdict), draw, verdict)
        proof = prove_draw(self.arena.policy, claim, draw, [leaf])
        dossier = Dossier(draw, verdict, self.paper.receipt.positions, str(path), proof)
        with self.store._db.transaction() as db:
            enter_dossier(db, dossier)

    def trace(self, lie: Lie | None = None) -> Trace:
        receipt, request, record = self.paper.receipt, self.paper.request, self.judged.record
        tokens = [*record.prompt, *record.generated][: receipt.positions]
        size = self.arena.model.hidden * 4
        inputs: CommittedTokens | CommittedRows = CommittedTokens(tokens)
        if receipt.shard:
            inputs = CommittedRows(receipt.positions, lambda at: record.rows[at * size : (at + 1) * size])
        trace = Trace(
            self.weights, self.descent.shape, inputs, request.sampling, request.seed, select("exact"), lie=lie,
            scratch=self.folder,
        )  # fmt: skip
        assert trace.body_root
        return trace

    def defender(self, trees: dict[Side, TreeSource], body_root: bytes, moves: int = 1000) -> Defender:
        court = ArenaCourt(self.arena, self.paper.receipt.worker)
        return Defender(court, self.descent, self.paper, body_root, trees, moves)

    async def play(self, defender: Defender, passes: int = 200) -> None:
        """Turn and turn about, until nothing is left to do."""
        for _ in range(passes):
            before = self.arena.calls
            await self.challenger.step()
            await defender.step()
            if self.arena.calls == before:
                if not self.store.docket(VERIFIER).open_dossiers():
                    return
                self.arena.mine(MOVE_SECONDS + 1)
        raise AssertionError("the games do not end")

    def assert_won(self, *last: str) -> None:
        """Slashed once, the client refunded, the pot collected, and the bond back."""
        worker, fee = self.paper.receipt.worker, self.paper.receipt.fee
        state = self.arena.state
        assert list(state.faults) == [(worker, self.paper.receipt.requestId)]
        assert state.balances[PAYER.address] == fee
        assert state.balances[VERIFIER] == FLOAT + SLASH * 4 // 10
        assert [one.closed for one in self.store.docket(VERIFIER).dossiers()] == ["proven"]
        assert [event["event"] for _, event in self.told][-4:] == ["slashed", "won", "refunded", "collected"]
        if last:
            assert tuple(self.court.sent[-2 - len(last) :]) == (*last, "refund", "collect")


@pytest.fixture
def stage(model: Path, recomputer: Recomputer, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    opened: list[Stage] = []

    def make(
        shard: int, cheat: Cheat, *, confirmations: int = 0, alter: Callable[[Case], Case] = lambda one: one
    ) -> Stage:
        request = make_request(model, PROMPT, BOUNDS, 5, SAMPLING)
        records = serve(model, request, PROMPT, {shard: cheat})
        judged = alter(case(records, shard))
        arena = Arena(DOMAIN, model_spec(read_manifest(model)), limits(model), DrawPolicy(500, 0, 4000))
        arena.state.balances[VERIFIER] = FLOAT
        for at in range(3):
            arena.keys[cold(at).address] = frozenset({hot(at).address})
        receipt, signature = judged.record.receipts[-1]
        paper = Paper(request, receipt, signature)
        descent = Descent(shape_of(arena.model, request, receipt))
        made = Stage(arena, model, recomputer, tmp_path, judged, paper, descent, confirmations)
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.close()


def downstream(judged: Case, hidden: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """The rows that the worker sent on."""
    assert judged.downstream is not None
    return np.frombuffer(judged.downstream.rows, np.int32).reshape(-1, hidden)


def told_rows(one: Stage) -> Lie:
    """A trace that ends in the rows that were sent, whatever leads there."""
    rows, last = downstream(one.judged, one.arena.model.hidden), one.descent.shape.segments - 1

    def alter(segment: int, tensor: int, part: int, first: int, values: Any) -> None:
        if (segment, tensor) == (last, Layer.ADD_MLP):
            values[:] = rows[first : first + len(values)]

    return Lie(alter)


async def test_honest_body_with_wrong_rows_is_shown_by_a_row(stage: Callable[..., Stage]) -> None:
    one = stage(1, Cheat(weights=flip_weight))
    trace = one.trace()
    rows = downstream(one.judged, one.arena.model.hidden)
    output = CommittedRows(one.paper.receipt.positions, lambda at: rows[at].tobytes())
    await one.play(one.defender({Side.BODY: trace, Side.OUTPUT: output}, trace.body_root))
    one.assert_won("proveRow")


async def test_body_that_ends_in_the_wrong_rows_is_shown_by_an_element(stage: Callable[..., Stage]) -> None:
    one = stage(1, Cheat(weights=flip_weight))
    trace = one.trace(told_rows(one))
    assert trace.outputs().root == one.paper.receipt.outputRoot
    await one.play(one.defender({Side.BODY: trace}, trace.body_root))
    one.assert_won("proveStep")


@pytest.mark.parametrize("tensor", [Layer.SCORES, Layer.KEY, Layer.WEIGHTS, Layer.PARTIAL_SUMS, Layer.SWIGLU])
async def test_any_tensor_of_the_body(stage: Callable[..., Stage], tensor: Layer) -> None:
    one = stage(1, Cheat(weights=flip_weight))

    def alter(segment: int, which: int, part: int, first: int, values: Any) -> None:
        if which == tensor and part == 0 and first <= 9 < first + len(values):
            values[9 - first, 1] += 1

    trace = one.trace(Lie(alter, is_consistent=False))
    await one.play(one.defender({Side.BODY: trace}, trace.body_root))
    one.assert_won("proveStep")


async def test_last_shard_with_another_token_is_shown_by_its_sample(stage: Callable[..., Stage]) -> None:
    one = stage(2, Cheat(token=lambda position, token: (token + 1) % 300 if position == len(PROMPT) + 1 else token))
    trace = one.trace()
    output = CommittedTokens(one.judged.record.generated)
    await one.play(one.defender({Side.BODY: trace, Side.OUTPUT: output}, trace.body_root))
    one.assert_won("proveToken")


async def test_last_shard_whose_body_samples_the_other_token(stage: Callable[..., Stage]) -> None:
    one = stage(2, Cheat(token=lambda position, token: (token + 1) % 300 if position == len(PROMPT) + 1 else token))
    exit_ = one.descent.shape.segments - 1

    def alter(segment: int, tensor: int, part: int, first: int, values: Any) -> None:
        if (segment, tensor) == (exit_, Exit.SAMPLE) and first <= len(PROMPT) < first + len(values):
            values[len(PROMPT) - first, 0]["token"] = one.judged.record.generated[1]

    trace = one.trace(Lie(alter))
    await one.play(one.defender({Side.BODY: trace}, trace.body_root))
    one.assert_won("proveStep")


async def test_first_shard_fed_another_token(stage: Callable[..., Stage]) -> None:
    fed = [*PROMPT[:3], 5, *PROMPT[4:]]

    def lie(receipt: Receipt) -> Receipt:
        count = receipt.positions - len(PROMPT)
        return replace(receipt, inputRoot=CommittedTokens([*fed, *tail[:count]]).root)

    tail: list[int] = []
    one = stage(
        0, Cheat(receipt=lie), alter=lambda judged: tail.extend(judged.record.generated) or resigned(judged, lie)
    )
    trace = one.trace()
    tree = CommittedTokens([*fed, *tail][: one.paper.receipt.positions])
    await one.play(one.defender({Side.BODY: trace, Side.INPUT: tree}, trace.body_root))
    one.assert_won("proveToken")


def resigned(judged: Case, how: Callable[[Receipt], Receipt]) -> Case:
    """The case with its last receipt exchanged for a signed other one."""
    record = judged.record
    receipt = how(record.receipts[-1][0])
    signature = eip712.sign(DOMAIN, receipt, hot(receipt.shard))
    record = replace(record, receipts=[*record.receipts[:-1], (receipt, signature)])
    leaf = replace(judged.drawn.leaf, receipt_digest=eip712.digest(DOMAIN, receipt))
    return replace(judged, record=record, drawn=replace(judged.drawn, leaf=leaf))


@pytest.mark.parametrize("moves", range(12))
async def test_silence_at_every_move(stage: Callable[..., Stage], moves: int) -> None:
    one = stage(1, Cheat(weights=flip_weight))
    trace = one.trace(told_rows(one))
    await one.play(one.defender({Side.BODY: trace}, trace.body_root, moves))
    one.assert_won()


async def test_random_body_root(stage: Callable[..., Stage]) -> None:
    one = stage(1, Cheat(weights=flip_weight))
    await one.play(one.defender({}, b"\x5a" * 32))
    one.assert_won("timeout")


async def test_a_statement_needs_no_game(stage: Callable[..., Stage]) -> None:
    one = stage(1, Cheat(), alter=lambda judged: resigned(judged, lambda receipt: replace(receipt, fee=1)))
    await one.play(one.defender({}, bytes(32)))
    one.assert_won("proveShape")
    assert not one.arena.state.games


async def test_killed_before_and_after_every_move(stage: Callable[..., Stage]) -> None:
    """The verifier is gone at each of its moves, once before it is sent and once after it took effect."""
    one = stage(1, Cheat(weights=flip_weight))
    trace = one.trace(told_rows(one))
    defender = one.defender({Side.BODY: trace}, trace.body_root)
    killed_before: set[int] = set()
    killed_after: list[str] = []

    class Deadly(ArenaCourt):
        async def send(self, call: Call) -> Any:
            if self.arena.calls not in killed_before:
                killed_before.add(self.arena.calls)
                raise Killed
            await super().send(call)
            killed_after.append(call.label.removeprefix("DisputeGame."))
            raise Killed

    for _ in range(300):
        one.challenger._court = Deadly(one.arena, VERIFIER)
        try:
            await one.challenger.step()
        except Killed:
            one.close()
            one.open()
            continue
        await defender.step()
        if not one.store.docket(VERIFIER).open_dossiers():
            break
        one.arena.mine(20)
    one.assert_won()
    assert killed_after == ["open", "chooseSide", "pick", "pick", "pickRow", "proveStep", "refund", "collect"]
    assert len(killed_before) == len(killed_after)
    assert len(one.arena.state.games) == 1


@pytest.mark.parametrize("depth", [1, 7, 32])
async def test_reorganised_in_the_middle(stage: Callable[..., Stage], depth: int) -> None:
    """Blocks of the game are replaced, the opening's too where there are not so many: it is played again."""
    one = stage(1, Cheat(weights=flip_weight), confirmations=2)
    one.arena.mine()
    for _ in range(40):
        one.arena.mine()
    trace = one.trace(told_rows(one))
    defender = one.defender({Side.BODY: trace}, trace.body_root)
    for _ in range(6):
        await one.challenger.step()
        await defender.step()
    assert one.arena.state.games
    one.arena.reorganise(depth)
    await one.play(defender)
    one.assert_won()


async def test_without_a_float_nothing_is_opened(stage: Callable[..., Stage]) -> None:
    one = stage(1, Cheat(weights=flip_weight))
    one.arena.state.balances[VERIFIER] = BOND - 1
    await one.challenger.step()
    assert not one.arena.state.games and one.court.sent == []
    one.arena.state.balances[VERIFIER] = BOND
    await one.challenger.step()
    assert one.court.sent == ["open"]


async def test_rows_that_are_kept_back_are_computed_from_the_tokens(stage: Callable[..., Stage]) -> None:
    one = stage(1, Cheat(weights=flip_weight))
    own = one.tracer.own(b"x", one.paper, replace(one.judged.record, rows=b""))
    assert own.trace is not None and own.trace.body_root == one.trace().body_root
    assert own.side(one.trace(told_rows(one)).body_root) is Side.BODY


def without_tokens(judged: Case) -> Case:
    return replace(judged, record=replace(judged.record, generated=judged.record.generated[:-1]))


async def test_tokens_that_are_kept_back_are_demanded(stage: Callable[..., Stage]) -> None:
    """And published: then the same receipt is judged as any other, past the window that the demand prolongs."""
    tokens: list[int] = []

    def altered(judged: Case) -> Case:
        tokens.extend([*judged.record.prompt, *judged.record.generated])
        return without_tokens(judged)

    one = stage(1, Cheat(weights=flip_weight), alter=altered)
    defender = one.defender({}, b"\x5a" * 32)
    defender.tokens = tokens
    await one.challenger.step()
    await defender.step()
    await one.challenger.step()
    assert one.court.sent == ["demand"] and defender.made == ["DisputeGame.answerDemand"]
    published = published_tokens(one.store.docket(VERIFIER).events(), one.judged.drawn.leaf.receipt_digest)
    assert published == tokens
    one.judged = replace(one.judged, record=replace(one.judged.record, generated=published[len(PROMPT) :]))
    one.enter()
    await one.play(defender)
    assert one.court.sent[:2] == ["demand", "open"]
    assert one.arena.state.balances[VERIFIER] == FLOAT + SLASH * 4 // 10 - FEE


async def test_silence_after_a_demand_is_a_fault(stage: Callable[..., Stage]) -> None:
    one = stage(2, Cheat(), alter=without_tokens)
    await one.play(one.defender({}, bytes(32)))
    one.assert_won("timeout")
    assert one.court.sent[0] == "demand"
