"""Who answers games: many at once, in order, killed between any two moves, with whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from efedllm.chain.errors import Reverted
from efedllm.numerics.backend import Backend
from efedllm.protocol.descent import Descent
from efedllm.protocol.game import Phase, Side
from efedllm.protocol.trace_case import shape_of
from tests.support.fake_disputes import EARLIER, MOVE_SECONDS, FakeDisputes
from tests.support.lying_defender import Lies, LyingDefender, lying_build
from tests.worker.test_defence import Served, served
from worker.defender import Build, Defender
from worker.exhibits import Exhibits
from worker.notices import Notices
from worker.store import Store
from worker.tracing import Tracer

__all__ = ["served"]


@dataclass
class Bench:
    """The last worker of a path, the games against it, and its defender; `events` are what its operator was told."""

    disputes: FakeDisputes
    store: Store
    digests: list[bytes]
    build: Build
    picks: random.Random = field(default_factory=lambda: random.Random(1))
    events: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.worker = self.inputs(0).paper.receipt.worker
        self.defender = self.start()

    def start(self, kind: Any = Defender, **options: Any) -> Defender:
        """As a new process would, on the same folder."""
        notices = Notices(lambda _, event: self.events.append(event))
        fake: Any = self.disputes
        arguments = (fake.chain, fake, self.worker, self.store, fake, self.build, notices, 0.05)
        defender: Defender = kind(*arguments, clock=lambda: self.disputes.time, **options)
        return defender

    def inputs(self, number: int) -> Any:
        return self.store.kept.inputs(self.digests[number])

    def open(self, number: int = 0, chunk: int | None = None) -> int:
        paper = self.inputs(number).paper
        descent = Descent(shape_of(self.disputes.model, paper.request, paper.receipt))
        return self.disputes.open(descent, paper.receipt, self.digests[number], chunk)

    async def defend(self, defender: Defender | None = None) -> None:
        """Until nothing is to be done."""
        at = defender or self.defender
        async with asyncio.timeout(60):
            while True:
                before = len(self.disputes.moves)
                pause = await at.defend()
                if at._exhibits._building is not None and not at._exhibits._building.done():
                    await at._exhibits._building
                elif len(self.disputes.moves) == before and pause:
                    return

    def challenge(self, side: Side) -> bool:
        """One random move in every game in which the challenger has to move; False if there is none."""
        moved = False
        for game_id, referee in self.disputes.games.items():
            if referee.game.phase is Phase.SIDE:
                self.disputes.choose(game_id, side)
                moved = True
            elif referee.game.phase is Phase.PICK:
                self.disputes.pick(game_id, self.picks.randrange(max(1, len(referee.children))))
                moved = True
        return moved

    def phases(self) -> list[Phase]:
        return [referee.game.phase for referee in self.disputes.games.values()]

    def told(self, event: str) -> list[dict[str, object]]:
        return [one for one in self.events if one["event"] == event]


MakeBench = Callable[[Build], Bench]


@pytest.fixture
def make_bench(served: Served) -> Iterator[MakeBench]:
    store = Store(served.stores[-1])
    with store._db.transaction() as db:
        for table in ("games", "cursors", "untold", "faults"):
            db.execute(f"DELETE FROM {table}")
    yield lambda build: Bench(FakeDisputes(served.model), store, served.digests[-1], build)
    store.close()


@pytest.fixture
def bench(make_bench: MakeBench, served: Served, backend: Backend, tmp_path: Path) -> Bench:
    return make_bench(Tracer(served.folder, backend, tmp_path))


async def test_from_the_opening_to_the_bond(bench: Bench) -> None:
    game_id = bench.open()
    await bench.defend()
    assert bench.phases() == [Phase.SIDE]
    while bench.challenge(Side.BODY):
        await bench.defend()
    assert bench.phases() == [Phase.PROOF]
    (challenged,) = bench.told("challenged")
    assert (challenged["game"], challenged["demand"]) == (hex(game_id), False)
    bench.disputes.time += MOVE_SECONDS
    await bench.defend()
    assert bench.phases() == [Phase.PROOF]
    bench.disputes.time += 1
    await bench.defend()
    assert bench.phases() == [Phase.WORKER_WON]
    assert bench.disputes.moves[-1] == (game_id, "timeout")
    (defended,) = bench.told("defended")
    assert (defended["game"], defended["amount"]) == (hex(game_id), "5")
    names = [name for _, name in bench.disputes.moves]
    assert (names[0], names[-2]) == ("postTrace", "revealLeaf") and set(names[1:-2]) == {"reveal"}


async def test_demands_are_answered_and_closed(bench: Bench) -> None:
    game_id = bench.open(1, chunk=0)
    await bench.defend()
    assert bench.disputes.moves == [(game_id, "answerDemand")]
    assert bench.told("challenged")[0]["demand"] is True
    bench.disputes.time += MOVE_SECONDS + 1
    await bench.defend()
    assert bench.phases() == [Phase.WORKER_WON]
    assert bench.told("defended")[0]["demand"] is True


@pytest.mark.parametrize("count", [12, pytest.param(100, marks=pytest.mark.long)])
async def test_many_games_at_once(bench: Bench, count: int) -> None:
    """Over several receipts, with fewer exhibits than those; every game to its end, and every one won."""
    bench.defender = bench.start(exhibits=Exhibits(room=1))
    for number in range(count):
        bench.open(number % len(bench.digests), chunk=0 if number % 7 == 6 else None)
    sides = [Side.BODY, Side.OUTPUT, Side.INPUT]
    for number in range(200):
        await bench.defend()
        assert Phase.TRACE not in bench.phases() and Phase.REVEAL not in bench.phases()
        if not bench.challenge(sides[number % 3]):
            break
    bench.disputes.time += MOVE_SECONDS + 1
    await bench.defend()
    assert set(bench.phases()) == {Phase.WORKER_WON}
    assert len(bench.told("challenged")) == len(bench.told("defended")) == count


async def test_killed_between_any_two_moves(bench: Bench) -> None:
    """Every move is made by a process that knows nothing but the store and the chain."""
    bench.open()
    bench.open(1, chunk=0)
    while True:
        defender = bench.start()
        await bench.defend(defender)
        await defender._exhibits.close()
        if not bench.challenge(Side.BODY):
            break
    bench.disputes.time += MOVE_SECONDS + 1
    await bench.defend(bench.start())
    assert bench.phases() == [Phase.WORKER_WON, Phase.WORKER_WON]
    moves = [(game, name) for game, name in bench.disputes.moves if name in ("postTrace", "answerDemand", "timeout")]
    assert sorted(moves) == [(1, "postTrace"), (1, "timeout"), (2, "answerDemand"), (2, "timeout")]


async def test_a_receipt_that_is_not_held_is_said_loudly(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    paper = bench.inputs(0).paper
    descent = Descent(shape_of(bench.disputes.model, paper.request, paper.receipt))
    bench.disputes.open(descent, paper.receipt, b"\x09" * 32)
    other = bench.open()
    with caplog.at_level(logging.ERROR, "efedllm.worker"):
        await bench.defend()
        await bench.defend()
    assert [record.message for record in caplog.records] == [
        "game 0x1: its receipt is not in this store: put back the folder that served it (100 s to the deadline)"
    ]
    assert bench.disputes.moves == [(other, "postTrace")]


async def test_what_differs_from_what_was_signed_is_not_played(
    make_bench: MakeBench, served: Served, tmp_path: Path, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a bit that flipped: a fault like any other."""
    build = Tracer(served.folder, backend, tmp_path, lie_in_output(served))
    bench = make_bench(build)
    game_id = bench.open(1)
    with caplog.at_level(logging.ERROR, "efedllm.worker"):
        await bench.defend()
    assert bench.disputes.moves == []
    assert "computing it again gives the output root" in caplog.text
    bench.disputes.time += MOVE_SECONDS + 1
    with caplog.at_level(logging.ERROR, "efedllm.worker"):
        await bench.defend()
    assert "the deadline for the next move is over" in caplog.text
    bench.disputes.end(game_id, Phase.CHALLENGER_WON)
    await bench.defend()
    assert [one["game"] for one in bench.told("lost")] == [hex(game_id)]


def lie_in_output(served: Served) -> Any:
    """Another token than was sampled."""
    from efedllm.model.trace_rows import Lie

    def alter(segment: int, tensor: int, part: int, first: int, values: Any) -> None:
        if tensor == 18 and values.dtype.names and "token" in values.dtype.names:
            values["token"] ^= 1

    return Lie(alter)


async def test_a_failure_to_build_is_said_and_tried_again(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.exhibits.RETRY_SECONDS", 0.0)
    right, failed = bench.build, []

    def build(model: Any, inputs: Any) -> Any:
        if not failed:
            failed.append(True)
            raise IndexError("a defect")
        return right(model, inputs)

    bench.build = build
    bench.open()
    with caplog.at_level(logging.ERROR, "efedllm.worker"):
        await bench.defend(bench.start())
    assert bench.phases() == [Phase.SIDE]
    assert "a defect of this program" in caplog.text


async def test_one_refusal_does_not_hold_up_the_others(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        bench.open()
    bench.disputes.fails = [Reverted("no", "WrongPhase"), Reverted("no", "WrongPhase")]
    with caplog.at_level(logging.ERROR, "efedllm.worker"):
        await bench.defend()
    assert bench.phases() == [Phase.SIDE] * 3
    assert sum("no (100 s" in record.message for record in caplog.records) == 1


async def test_earlier_transactions_lags_and_outages(bench: Bench) -> None:
    bench.open()
    await bench.defend()
    bench.challenge(Side.BODY)
    bench.disputes.fails = [EARLIER]
    assert await bench.defender.defend() == 0.0
    bench.disputes.is_down = True
    assert await bench.defender.defend() == 0.05
    assert [one["kind"] for one in bench.told("warning")] == ["defence"]
    bench.disputes.is_down = False
    await bench.defend()
    assert bench.phases() == [Phase.PICK] and bench.told("over")
    bench.challenge(Side.BODY)
    await bench.defend()
    moves = len(bench.disputes.moves)
    bench.challenge(Side.BODY)
    bench.disputes.lag = 2  # behind this worker's own last move
    await bench.defender.defend()
    assert len(bench.disputes.moves) == moves
    bench.disputes.lag = 0
    await bench.defend()
    assert len(bench.disputes.moves) == moves + 1


async def test_it_runs_until_told_and_says_what_is_open(bench: Bench) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(bench.defender.run(stop))
    bench.open()
    async with asyncio.timeout(30):
        while bench.phases() != [Phase.SIDE]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await bench.defender.tell_open()
    stop.set()
    await asyncio.wait_for(running, 10)
    assert bench.told("open games") == [{"event": "open games", "count": 1, "deadline": 1000 + MOVE_SECONDS}]


# ── liars ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("lies", "moves"),
    [
        (Lies(silent_from=1), []),
        (Lies(silent_from=2), ["postTrace"]),
        (Lies(silent_from=4), ["postTrace", "reveal", "reveal"]),
        (Lies(body_root=b"\x05" * 32), ["postTrace"]),  # what it reveals leads nowhere
    ],
)
async def test_liars_do_what_they_are_told(
    make_bench: MakeBench, served: Served, backend: Backend, tmp_path: Path, lies: Lies, moves: list[str]
) -> None:
    bench = make_bench(lying_build(served.folder, backend, tmp_path, lies))
    defender = bench.start(LyingDefender, lies=lies)
    bench.open()
    for _ in range(20):
        await bench.defend(defender)
        if not bench.challenge(Side.BODY):
            break
    assert [name for _, name in bench.disputes.moves] == moves


async def test_a_liar_may_show_another_leaf_or_keep_tokens(
    make_bench: MakeBench, served: Served, backend: Backend, tmp_path: Path
) -> None:
    lies = Lies(leaf=lambda leaf: bytes(len(leaf)), answers_demands=False)
    bench = make_bench(lying_build(served.folder, backend, tmp_path, lies))
    defender = bench.start(LyingDefender, lies=lies)
    bench.open()
    bench.open(chunk=0)
    while True:
        await bench.defend(defender)
        if not bench.challenge(Side.BODY):
            break
    assert bench.phases() == [Phase.LEAF, Phase.DEMAND]
