"""What a worker does in a game: whose turn it is, and moves that the rules take, whatever the challenger picks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efedllm.model.segment_weights import SegmentWeights
from efedllm.numerics.backend import Backend
from efedllm.protocol import eip712
from efedllm.protocol.game import Game, Phase, Side
from efedllm.protocol.merkle import EMPTY, node_hash, token_leaf, tree_root
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.objects import Receipt
from tests.support.referee import Referee
from tests.worker.network import DOMAIN, WorkerGroup
from tests.worker.payer import Payer, ask
from worker.defence import (
    AnswerDemand,
    Concede,
    Due,
    Exhibit,
    Facing,
    PostTrace,
    agenda,
    answer,
    due,
    next_time,
    show,
)
from worker.errors import WorkerError
from worker.kept import Inputs
from worker.store import Store
from worker.tracing import Tracer

RANGES = [(0, 1), (1, 2), (2, 3)]
PROMPT = [(5 * at) % 256 for at in range(66)]
MAX_TOKENS = 4


@dataclass
class Served:
    """What each worker of a path keeps of one request, and the model as it is registered."""

    folder: Path
    model: ModelSpec
    stores: list[Path]
    digests: list[list[bytes]]


@pytest.fixture(scope="module")
def served(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return asyncio.run(serve(built, tmp_path_factory.mktemp("served")))


async def serve(built: Path, folder: Path) -> Served:
    payer = Payer()
    async with WorkerGroup(built, RANGES, folder) as group:
        group.open_channels(payer.account.address, payer.session.address)
        request = payer.request([worker.hop for worker in group.workers], PROMPT, MAX_TOKENS)
        answered = await ask(group, payer, request, PROMPT)
        addresses = [worker.address for worker in group.workers]
    for worker in group.workers:
        worker.store.close()
    digests = [[eip712.digest(DOMAIN, receipt) for receipt, _ in answered.receipts[one]] for one in addresses]
    return Served(built, SegmentWeights(built).spec(), [folder / f"{one}.sqlite" for one in addresses], digests)


@pytest.fixture(params=range(len(RANGES)), ids=["first", "inner", "last"])
def kept(request: pytest.FixtureRequest, served: Served) -> Iterator[list[Inputs]]:
    """The receipts of one worker."""
    store = Store(served.stores[request.param])
    found = [store.kept.inputs(digest) for digest in served.digests[request.param]]
    assert len(found) > 1 and None not in found
    yield [one for one in found if one is not None]
    store.close()


@pytest.fixture
def tracer(built: Path, backend: Backend, tmp_path: Path) -> Tracer:
    return Tracer(built, backend, tmp_path)


def game(phase: Phase, deadline: int = 100) -> Game:
    zero, nobody = bytes(32), "0x" + "00" * 20
    return Game(nobody, nobody, zero, phase, Side.NONE, deadline, 0, False, 0, 0, zero, zero, 0, False, 0, 0)


@pytest.mark.parametrize(
    ("phase", "before", "after"),
    [
        (Phase.NONE, Due.NONE, Due.NONE),
        (Phase.TRACE, Due.SHOW, Due.LATE),
        (Phase.SIDE, Due.WAIT, Due.END),
        (Phase.REVEAL, Due.SHOW, Due.LATE),
        (Phase.PICK, Due.WAIT, Due.END),
        (Phase.LEAF, Due.SHOW, Due.LATE),
        (Phase.PROOF, Due.WAIT, Due.END),
        (Phase.LOST, Due.NONE, Due.NONE),
        (Phase.DEMAND, Due.ANSWER, Due.LATE),
        (Phase.ANSWERED, Due.WAIT, Due.END),
        (Phase.WORKER_WON, Due.NONE, Due.NONE),
        (Phase.CHALLENGER_WON, Due.NONE, Due.NONE),
    ],
)
def test_whose_turn_it_is(phase: Phase, before: Due, after: Due) -> None:
    assert due(game(phase), 100, 100) is before
    assert due(game(phase), 101, 101) is after
    # A clock here that is ahead of the chain's ends games of others a moment early, which the contract refuses, but
    # gives up no game of one's own.
    ahead = due(game(phase), 100, 101)
    assert ahead is (after if after is Due.END else before)


def test_nearest_deadline_first_and_money_last() -> None:
    games = [
        Facing(1, game(Phase.REVEAL, 300)),
        Facing(2, game(Phase.PICK, 50)),
        Facing(3, game(Phase.TRACE, 200)),
        Facing(4, game(Phase.WORKER_WON, 10)),
        Facing(5, game(Phase.LEAF, 20)),
        Facing(6, game(Phase.SIDE, 400)),
        Facing(7, game(Phase.DEMAND, 200)),
        Facing(8, game(Phase.ANSWERED, 500)),
    ]
    todo = agenda(games, 100, 100)
    assert [(facing.game_id, what.value) for facing, what in todo] == [
        (3, "show"),
        (7, "answer"),
        (1, "show"),
        (2, "end"),
    ]
    assert next_time(games, 100, 100) == 401
    assert next_time(games[:5], 100, 100) is None


def play(inputs: Inputs, exhibit: Exhibit, side: Side, picks: random.Random) -> Referee:
    """A game down one side, with whatever is picked, to where the challenger would have to prove something."""
    receipt = inputs.paper.receipt
    referee = Referee.open(exhibit.descent, receipt, eip712.digest(DOMAIN, receipt))
    referee.take(show(referee.game, exhibit))
    referee.choose(side)
    while referee.game.phase is not Phase.PROOF:
        if referee.game.phase is Phase.PICK:
            referee.pick(picks.randrange(max(1, len(referee.children))))
        else:
            referee.take(show(referee.game, exhibit))
    return referee


@pytest.mark.parametrize("rounds", [6, pytest.param(200, marks=pytest.mark.long)])
def test_honest_worker_opens_whatever_is_picked(
    kept: list[Inputs], tracer: Tracer, served: Served, rounds: int
) -> None:
    picks = random.Random(rounds)
    for inputs in kept:
        exhibit = tracer(served.model, inputs)
        assert exhibit.objection is None
        try:
            for side in (Side.INPUT, Side.BODY, Side.OUTPUT):
                if exhibit.descent.words(side):
                    for _ in range(rounds):
                        assert play(inputs, exhibit, side, picks).game.phase is Phase.PROOF
        finally:
            exhibit.close()


def test_a_trace_that_is_built_again_is_the_same(kept: list[Inputs], tracer: Tracer, served: Served) -> None:
    """So a game goes on after a kill at any moment."""
    first, second = tracer(served.model, kept[-1]), tracer(served.model, kept[-1])
    assert first.body_root == second.body_root
    one, other = (play(kept[-1], exhibit, Side.BODY, random.Random(5)) for exhibit in (first, second))
    assert (one.game, one.leaf) == (other.game, other.leaf)
    first.close()
    second.close()


def test_what_was_signed_and_is_not_computed_is_not_defended(
    kept: list[Inputs], tracer: Tracer, served: Served
) -> None:
    inputs = kept[-1]
    paper = inputs.paper
    flipped = replace(paper, receipt=replace(paper.receipt, outputRoot=b"\x01" * 32))
    exhibit = tracer(served.model, replace(inputs, paper=flipped))
    move = show(game(Phase.TRACE), exhibit)
    assert isinstance(move, Concede) and "computing it again gives the output root" in move.reason
    exhibit.close()

    exhibit = tracer(served.model, inputs)
    other = replace(game(Phase.REVEAL), side=Side.BODY, body_root=b"\x02" * 32)
    move = show(other, exhibit)
    assert isinstance(move, Concede) and "the trace posted has the root" in move.reason
    exhibit.close()


def test_inputs_that_were_damaged_or_lost(kept: list[Inputs], tracer: Tracer, served: Served) -> None:
    inputs = kept[-1]
    if inputs.paper.receipt.shard == 0:
        changed = replace(inputs, tokens=((inputs.tokens[0] + 1) % 256, *inputs.tokens[1:]))
        missing = replace(inputs, tokens=inputs.tokens[:3])
    else:
        changed = replace(inputs, read=lambda first, size: b"\1" + inputs.read(first, size)[1:])
        missing = replace(inputs, row_bytes=4)
    exhibit = tracer(served.model, changed)
    move = show(game(Phase.TRACE), exhibit)
    assert isinstance(move, Concede) and "the inputs kept have the root" in move.reason
    exhibit.close()
    with pytest.raises(WorkerError, match="are kept"):
        tracer(served.model, missing)


def test_the_first_move_is_the_trace(kept: list[Inputs], tracer: Tracer, served: Served) -> None:
    exhibit = tracer(served.model, kept[0])
    assert show(game(Phase.TRACE), exhibit) == PostTrace(exhibit.body_root)
    exhibit.close()


# ── demands ─────────────────────────────────────────────────────────────────


def receipt_over(tokens: list[int], prompt_count: int) -> Receipt:
    zero, nobody = bytes(32), "0x" + "00" * 20
    root = tree_root([token_leaf(token) for token in tokens])
    generated = len(tokens) - prompt_count
    return Receipt(zero, 0, nobody, nobody, 1, len(tokens), prompt_count, generated, root, zero, zero, zero, 0)


@settings(max_examples=60)
@given(st.one_of(st.integers(1, 40), st.integers(1000, 1100), st.integers(2040, 5000)), st.integers(0, 20), st.data())
def test_demanded_tokens_lead_to_the_token_root(count: int, later: int, data: st.DataObject) -> None:
    tokens = [(7919 * at) % 5000 for at in range(count)]
    receipt = receipt_over(tokens, data.draw(st.integers(1, count)))
    chunk = data.draw(st.integers(0, (count - 1) // 1024))
    move = answer(receipt, chunk, tokens + [1] * later)
    assert isinstance(move, AnswerDemand)
    assert move.tokens == b"".join(token.to_bytes(4, "little") for token in tokens[1024 * chunk : 1024 * chunk + 1024])
    # As the contract has to compute it: a subtree of 1,024 places where there are more tokens than that.
    words = [token_leaf(int.from_bytes(move.tokens[at : at + 4], "little")) for at in range(0, len(move.tokens), 4)]
    if count > 1024:
        words += [EMPTY] * (1024 - len(words))
    at, path = tree_root(words), chunk
    for sibling in move.siblings:
        at = node_hash(sibling, at) if path & 1 else node_hash(at, sibling)
        path >>= 1
    assert at == receipt.tokenRoot


def test_demands_that_cannot_be_answered() -> None:
    receipt = receipt_over([1, 2, 3], 2)
    assert answer(receipt, 1, [1, 2, 3]) == Concede("the receipt has no token ids in chunk 1")
    for tokens in ([1, 2], [1, 2, 4]):
        assert answer(receipt, 0, tokens) == Concede("the token ids kept are not those of the receipt")
