"""Descents: they end at the first difference, whatever the side and the shape, and never take longer than they may."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.descent import Descent, Spot, leaf, pick, reveal
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.game import Phase, Side
from efedllm.protocol.merkle import EMPTY
from efedllm.protocol.trace import Node, Place, Shape, zero_root
from tests.support.descents import MadeUp, play
from tests.support.shapes import LARGEST, model_spec, shapes


@st.composite
def small(draw: st.DrawFn) -> Descent:
    """Games on traces of some hundred rows, odd ones and tiny ones."""
    layers, prompt = draw(st.integers(1, 2)), draw(st.integers(1, 9))
    generated = draw(st.integers(0 if prompt > 1 else 1, 4))
    start = draw(st.integers(0, layers - 1))
    model = model_spec(
        hidden=draw(st.sampled_from([1, 48, 256, 257, 1200])),
        intermediate=draw(st.sampled_from([1, 80, 700])),
        layers=layers,
        heads=draw(st.sampled_from([2, 4])),
        head_dim=draw(st.sampled_from([2, 12])),
        vocab=draw(st.sampled_from([1, 256, 300, 1400])),
    )
    positions = prompt + generated - 1 if generated else draw(st.integers(1, prompt - 1))
    return Descent(Shape(model, start, draw(st.integers(start + 1, layers)), positions, prompt, generated))


def places(descent: Descent, side: Side) -> st.SearchStrategy[tuple[int, int]]:
    """A leaf of the side: word and leaf of its row."""
    words = [word for word in range(descent.words(side)) if not descent.is_empty(Spot(side, 0, word))]

    def leaves(word: int) -> st.SearchStrategy[tuple[int, int]]:
        count = descent.row_leaves(side, word) if descent.has_rows(side) else 1
        return st.integers(0, count - 1).map(lambda number: (word, number))

    return st.sampled_from(words).flatmap(leaves)


@pytest.mark.parametrize("side", [Side.INPUT, Side.BODY, Side.OUTPUT])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_descent_ends_at_the_first_difference(side: Side, data: st.DataObject) -> None:
    descent = data.draw(small())
    if descent.words(side) == 0:
        with pytest.raises(ProtocolError, match="nothing was generated"):
            descent.root(side)
        return
    altered = data.draw(st.frozensets(places(descent, side), min_size=1, max_size=4))
    worker, challenger = MadeUp(descent, side, altered), MadeUp(descent, side)
    played = play(descent, side, worker, challenger)
    assert played.phase is Phase.PROOF
    word, number = min(altered)
    assert descent.word(played.spot) == word
    if descent.has_rows(side):
        assert played.spot == Spot(side, 0, word << 24 | number, True)
    if side is Side.BODY:
        place = Place(*(descent.shape.find_row(word) or (0, 0, 0)), number)
        assert descent.place(played.spot) == place
        assert descent.node(played.spot) == descent.shape.leaf_node(place)
    assert played.moves + 2 + 1 <= descent.longest()


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_what_lies_where_nothing_is_wins_at_once(data: st.DataObject) -> None:
    descent = data.draw(small())
    side = data.draw(st.sampled_from([one for one in (Side.INPUT, Side.BODY, Side.OUTPUT) if descent.words(one)]))
    depth = descent.depth(side)
    empty = [word for word in range(1 << depth) if descent.is_empty(Spot(side, 0, word))]
    if not empty:
        return
    planted = {Node(depth, data.draw(st.sampled_from(empty))): b"\7" * 32}
    altered = data.draw(st.frozensets(places(descent, side), max_size=1))
    worker, challenger = MadeUp(descent, side, altered, planted), MadeUp(descent, side)
    played = play(descent, side, worker, challenger)
    if not altered:
        assert played.phase is Phase.LOST
    assert descent.is_empty(played.spot) == (played.phase is Phase.LOST)


@given(shapes(), st.data())
@settings(max_examples=200)
def test_spots_are_the_nodes_of_the_trace(shape: Shape, data: st.DataObject) -> None:
    """Every spot of the body that a game can come to, by any digits, is the node that the trace says."""
    descent = Descent(shape)
    spot = descent.root(Side.BODY)
    while (phase := descent.phase(spot)) is Phase.REVEAL:
        node = descent.node(spot)
        assert shape.reveal_levels(node) == min(4, spot.height)
        assert shape.height(node) == (0 if node.depth == shape.upper_depth else spot.height)
        assert shape.is_padding(node) is False
        spot = descent.child(spot, data.draw(st.integers(0, (1 << min(4, spot.height)) - 1)))
        if descent.is_row_root(spot):
            entered = descent.enter(spot)
            assert descent.node(entered) == descent.node(spot) and entered.in_row
            spot = entered
    assert (phase is Phase.LOST) == shape.is_padding(descent.node(spot))
    if phase is Phase.LEAF:
        assert shape.find_place(descent.node(spot)) == descent.place(spot)
        assert descent.leaf_bytes(spot) == shape.leaf_bytes(*descent.place(spot)[:2], descent.place(spot).leaf)


@given(small(), st.data())
@settings(max_examples=50, deadline=None)
def test_equal_trees_have_no_pick_and_forged_children_none(descent: Descent, data: st.DataObject) -> None:
    tree = MadeUp(descent, Side.BODY)
    spot, node = descent.root(Side.BODY), tree.node(Node(0, 0))
    children = reveal(descent, spot, tree)
    assert pick(descent, spot, node, children, tree) is None
    at = data.draw(st.integers(0, 15))
    forged = [*children[:at], b"\1" * 32, *children[at + 1 :]]
    with pytest.raises(ProtocolError, match="not those of the game's node"):
        pick(descent, spot, node, forged, tree)
    with pytest.raises(ProtocolError, match="nodes were revealed where 16 are due"):
        pick(descent, spot, node, children[:-1], tree)
    with pytest.raises(ProtocolError, match="none has number 16"):
        descent.child(spot, 16)


def one_position(start: int, end: int, generated: int = 1) -> Descent:
    return Descent(Shape(model_spec(), start, end, 1, 1 if generated else 2, generated))


@pytest.mark.parametrize(
    ("descent", "side", "phase"),
    [
        (one_position(0, 3), Side.INPUT, Phase.LEAF),
        (one_position(0, 3), Side.OUTPUT, Phase.LEAF),
        (one_position(0, 2), Side.OUTPUT, Phase.PROOF),
        (one_position(1, 2), Side.INPUT, Phase.PICK),
        (one_position(1, 2), Side.BODY, Phase.REVEAL),
    ],
)
def test_side_with_a_single_node(descent: Descent, side: Side, phase: Phase) -> None:
    spot = descent.root(side)
    assert descent.phase(spot) is phase
    if phase is Phase.PICK:
        picked = pick(descent, spot, b"\5" * 32, (), MadeUp(descent, side))
        assert picked is not None and (picked.digit, picked.siblings, picked.is_row) == (0, (), True)
        assert descent.after(spot, picked) == Spot(side, 0, 0, True)
        assert descent.phase(descent.after(spot, picked)) is Phase.LEAF


def test_longest_game() -> None:
    largest = Descent(Shape(LARGEST, 0, LARGEST.layers, LARGEST.context, LARGEST.context, 1))
    assert largest.shape.upper_depth == 33
    assert largest.longest() == 2 + 2 * (9 + 5) + 2
    assert one_position(0, 3).longest() == 2 + 2 * (2 + 1) + 2


def test_zero_words_stand_for_nothing() -> None:
    assert zero_root(0) == EMPTY


def test_leaves_that_the_worker_reveals() -> None:
    prompt = [3, 1, 4, 1, 5]
    first = Descent(Shape(model_spec(), 0, 2, 6, 5, 2))
    tokens = CommittedTokens([*prompt, 9])
    assert leaf(first, Spot(Side.INPUT, 0, 5), tokens) == bytes([9, 0, 0, 0])
    inner = Descent(Shape(model_spec(hidden=300), 1, 2, 6, 5, 2))
    rows = CommittedRows(6, lambda at: bytes([at]) * 1200)
    spot = inner.child(inner.enter(Spot(Side.INPUT, 0, 4)), 1)
    assert leaf(inner, spot, rows) == bytes([4]) * 176
    assert len(leaf(inner, spot, rows)) == inner.leaf_bytes(spot)
    body = MadeUp(inner, Side.BODY)
    place = Place(0, 27, 3, 1)
    slot = inner.shape.row_node(0, 27, 3).path
    assert leaf(inner, Spot(Side.BODY, 0, slot << 24 | 1, True), body) == body.leaf(inner.shape.leaf_node(place))
