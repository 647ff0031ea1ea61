"""Coordinates of a trace: paths and their inverse, padding, and that every operand lies before its element."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.merkle import LEAF_BYTES, tree_root
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Node, Place, Shape, Step, zero_root
from efedllm.protocol.trace_operand import (
    BodyLeaf,
    BodyRow,
    Choice,
    Gain,
    InputLeaf,
    InputRow,
    InputToken,
    MatrixRow,
    Operand,
    WeightLeaf,
    exp2_leaf,
    sigmoid_leaf,
)
from efedllm.protocol.trace_operands import choice_of, operands
from efedllm.protocol.trace_tensors import Exit, Layer, Program
from tests.support.shapes import LARGEST, model_spec, shapes

GREEDY = Sampling(temperature=0, topK=0, topP=65536)
BOTH = Sampling(temperature=65536, topK=1, topP=60000)
SAMPLINGS = (GREEDY, BOTH, replace(BOTH, topK=0), replace(BOTH, topP=65536), replace(BOTH, topK=0, topP=65536))
SMALL = Shape(model_spec(), start=0, end=3, positions=12, prompt_count=10, generated=3)


def draw_step(data: st.DataObject, shape: Shape) -> Step:
    segment = data.draw(st.integers(0, shape.segments - 1))
    tensor = data.draw(st.integers(0, shape.tensors(segment) - 1))
    row = data.draw(st.sampled_from(shape.rows(segment, tensor)))
    parts = shape.parts(segment, tensor)
    part = data.draw(st.integers(0, len(parts) - 1))
    return shape.step(segment, tensor, row, part, data.draw(st.integers(0, parts[part].count - 1)))


@given(shapes(), st.data())
@settings(max_examples=200)
def test_path_and_place_are_inverse(shape: Shape, data: st.DataObject) -> None:
    place = draw_step(data, shape).place
    node = shape.leaf_node(place)
    assert shape.find_place(node) == place
    assert 0 <= node.path < 1 << node.depth
    assert not shape.is_padding(node) and shape.height(node) == 0 == shape.reveal_levels(node)
    for depth in range(node.depth):
        above = Node(depth, node.path >> (node.depth - depth))
        assert not shape.is_padding(above)
        assert 1 <= shape.reveal_levels(above) <= 4 or (depth == shape.upper_depth and shape.height(above) == 0)
        assert depth + shape.reveal_levels(above) <= (shape.upper_depth if depth < shape.upper_depth else node.depth)


@given(shapes(), st.data())
@settings(max_examples=200)
def test_any_node_is_padding_or_leads_to_leaves(shape: Shape, data: st.DataObject) -> None:
    depth = data.draw(st.integers(0, shape.upper_depth))
    node = Node(depth, data.draw(st.integers(0, (1 << depth) - 1)))
    low, high = (edge << (shape.upper_depth - depth) for edge in (node.path, node.path + 1))
    if high - low <= 4096:
        assert shape.is_padding(node) == all(shape.find_row(slot) is None for slot in range(low, high))


@given(shapes())
@settings(max_examples=30)
def test_leaves_of_a_row_are_its_bytes(shape: Shape) -> None:
    for segment in range(shape.segments):
        for tensor in range(shape.tensors(segment)):
            lengths = [shape.leaf_bytes(segment, tensor, leaf) for leaf in range(shape.leaves(segment, tensor))]
            assert sum(lengths) == shape.row_bytes(segment, tensor)
            assert all(0 < length <= LEAF_BYTES for length in lengths)
            offsets = [shape.leaf_offset(segment, tensor, leaf) for leaf in range(len(lengths))]
            assert offsets == [sum(lengths[:leaf]) for leaf in range(len(lengths))]


@given(shapes(), st.sampled_from(SAMPLINGS), st.data())
@settings(max_examples=400)
def test_operands_lie_before_their_element(shape: Shape, sampling: Sampling, data: st.DataObject) -> None:
    for _ in range(5):
        step = draw_step(data, shape)
        found = operands(shape, sampling, step)
        assert len(set(found)) == len(found)
        for operand in found:
            assert_exists(shape, operand)
            if isinstance(operand, BodyLeaf):
                assert operand.place < step.place
            if isinstance(operand, BodyRow):
                assert (operand.segment, operand.tensor, operand.row) < step[:3]
            if isinstance(operand, InputLeaf | InputRow):
                assert step.segment == 0 and shape.start > 0
            if isinstance(operand, InputToken):
                assert step.segment == 0 == shape.start


def assert_exists(shape: Shape, operand: Operand) -> None:
    match operand:
        case BodyLeaf(place):
            assert shape.find_place(shape.leaf_node(place)) == place
        case BodyRow(segment, tensor, row):
            assert row in shape.rows(segment, tensor)
        case InputToken(position) | InputLeaf(position, _) | InputRow(position):
            assert 0 <= position < shape.positions


def test_segments() -> None:
    programs = [SMALL.program(segment) for segment in range(SMALL.segments)]
    assert programs == [Program.ENTRY, Program.LAYER, Program.LAYER, Program.LAYER, Program.EXIT]
    assert [SMALL.layer(segment) for segment in (1, 2, 3)] == [0, 1, 2]
    inner = replace(SMALL, start=1, end=2)
    assert (inner.segments, inner.program(0), inner.layer(0), inner.segment(1)) == (1, Program.LAYER, 1, 0)
    early = replace(SMALL, start=2, positions=9, generated=0)
    assert (early.segments, early.has_exit) == (1, False)


def test_exit_rows_begin_with_the_last_prompt_position() -> None:
    assert SMALL.rows(4, Exit.SAMPLE) == range(9, 12)
    assert SMALL.find_row(SMALL.row_node(4, Exit.SAMPLE, 9).path) == (4, Exit.SAMPLE, 9)
    assert SMALL.find_row(SMALL.row_node(4, Exit.SAMPLE, 9).path - 1) is None


def test_slots() -> None:
    assert SMALL.row_node(2, 9, 0) == Node(3 + 5 + 4, (2 << 5 | 9) << 4)
    assert SMALL.leaf_node(Place(1, 0, 3, 1)) == Node(13, (1 << 5 << 4 | 3) << 1 | 1)


def test_one_position_has_no_row_bits() -> None:
    one = replace(SMALL, positions=1, prompt_count=1, generated=1)
    assert (one.row_bits, one.upper_depth, one.row_node(1, 4, 0)) == (0, 8, Node(8, 1 << 5 | 4))


def test_largest_model() -> None:
    narrow = replace(LARGEST, heads=1 << 15, kv_heads=1 << 15, head_dim=2)
    shape = Shape(narrow, 0, 1024, 1 << 17, 1 << 16, (1 << 16) + 1)
    assert shape.upper_depth == 11 + 5 + 17
    depths = {
        (tensor, shape.row_depth(segment, tensor))
        for segment in (0, 1, 1025)
        for tensor in range(shape.tensors(segment))
    }
    assert max(depth for _, depth in depths) == 24  # scores: 2^32 of 4 bytes


def test_pieces_of_a_layer() -> None:
    long = Shape(model_spec(context=2000), 1, 2, 700, 650, 51)
    at = long.step(0, Layer.SCORES, 300, 0, 2 * 768 + 299)  # head 2 against position 299
    assert operands(long, GREEDY, at) == (
        BodyLeaf(Place(0, Layer.QUERY, 300, 0)),
        BodyLeaf(Place(0, Layer.QUERY, 300, 1)),
        BodyLeaf(Place(0, Layer.KEY, 299, 0)),
        BodyLeaf(Place(0, Layer.KEY, 299, 1)),
    )
    assert operands(long, GREEDY, at._replace(element=301 - 256)) == ()
    assert operands(long, GREEDY, long.step(0, Layer.ATTENTION_NORM, 5, 0, 0)) == (
        InputRow(5),
        Gain("layers.1.attention_norm"),
    )
    assert operands(long, GREEDY, long.step(0, Layer.LINEAR_K, 5, 0, 7))[1] == MatrixRow("layers.1.k", 7)
    assert operands(long, GREEDY, long.step(0, Layer.SWIGLU, 5, 0, 7), choice=2)[2] == WeightLeaf("sigmoid", 2)
    # An odd number of blocks: the second leaf of probabilities holds the end of head 0 and the beginning of head 1.
    assert operands(long, GREEDY, long.step(0, Layer.PARTIAL_SUMS, 5, 0, 12 * 3 + 0))[0].place.leaf == 1


def test_heads_that_straddle_leaves() -> None:
    shape = Shape(model_spec(head_dim=96, heads=8, kv_heads=4), 0, 3, 5, 6, 0)
    for part, index, leaves in ((0, 2, (0, 1)), (0, 1, (0,)), (0, 5, (1, 2))):
        step = shape.step(1, Layer.QUERY, 4, part, index)
        assert operands(shape, GREEDY, step) == tuple(BodyLeaf(Place(1, Layer.ROTARY_Q, 4, at)) for at in leaves)
    pair = shape.step(1, Layer.ROTARY_Q, 4, 0, 2 * 96 + 50)  # values 242 - 48 ... and 242 lie on both sides of 256
    assert [one.place.leaf for one in operands(shape, GREEDY, pair)[:-1]] == [0]
    pair = shape.step(1, Layer.ROTARY_Q, 4, 0, 2 * 96 + 70)
    assert [one.place.leaf for one in operands(shape, GREEDY, pair)[:-1]] == [0, 1]


def test_what_is_off_is_not_opened() -> None:
    sums = SMALL.step(4, Exit.SUMS, 9, 0, 1)
    counts = [len(operands(SMALL, sampling, sums)) for sampling in SAMPLINGS]
    assert counts == [0, 4, 3, 3, 2]
    masses = SMALL.step(4, Exit.MASSES_1, 9, 0, 5)
    assert [len(operands(SMALL, sampling, masses)) for sampling in SAMPLINGS] == [0, 4, 3, 0, 0]
    sample = SMALL.step(4, Exit.SAMPLE, 9, 0, 0)
    assert [choice_of(SMALL, sampling, sample) for sampling in SAMPLINGS] == [Choice.TILE] * 5
    assert [len(operands(SMALL, sampling, sample, 1)) for sampling in SAMPLINGS] == [3, 6, 5, 5, 4]


def test_table_leaves() -> None:
    assert [exp2_leaf(x) for x in (0, 0x7FFF, 0x8000, 0xFFFF, (24 << 16) | 0x9000, 25 << 16)] == [0, 0, 1, 1, 1, None]
    assert [sigmoid_leaf(x) for x in (0, (1 << 18) - 1, -(1 << 18), (1 << 20) - 1, 1 << 20)] == [0, 0, 1, 3, None]


def test_zero_roots() -> None:
    for height in range(5):
        assert zero_root(height) == tree_root([bytes(32)] * (1 << height))


@pytest.mark.parametrize(
    "changes",
    [
        {"end": 4},
        {"start": 3},
        {"positions": 13},
        {"positions": 0, "generated": 0},
        {"positions": 10, "generated": 0},
        {"generated": -1},
        {"prompt_count": 0, "generated": 13},
        {"positions": 201, "generated": 192},
    ],
)
def test_refuses_shapes_that_no_receipt_has(changes: dict[str, int]) -> None:
    with pytest.raises(ProtocolError):
        replace(SMALL, **changes)


@pytest.mark.parametrize(
    "step",
    [
        Step(5, 0, 0, 0, 0),
        Step(0, 1, 0, 0, 0),
        Step(4, 0, 8, 0, 0),
        Step(1, 9, 1, 0, 0),
        Step(1, 0, 0, 2, 0),
        Step(1, 0, 0, 1, 48),
        Step(1, 0, 12, 0, 0),
        Step(1, 0, 0, -1, 0),
    ],
)
def test_refuses_steps_that_are_not_there(step: Step) -> None:
    with pytest.raises(ProtocolError):
        operands(SMALL, GREEDY, step)


def test_refuses_choices_that_no_element_can_name() -> None:
    with pytest.raises(ProtocolError, match="token 300 is not below"):
        operands(SMALL, GREEDY, Step(0, 0, 0, 0, 0), 300)
    with pytest.raises(ProtocolError, match="tile 2 is not below"):
        operands(SMALL, GREEDY, Step(4, Exit.SAMPLE, 9, 0, 0), 2)
