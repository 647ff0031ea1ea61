"""The trace holds what a shard computes, however it is built; elements follow from their openings; lies are found."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from efedllm.model import trace_attention, trace_layer
from efedllm.model.build import build
from efedllm.model.errors import ModelError
from efedllm.model.load import load
from efedllm.model.segment_weights import SegmentWeights
from efedllm.model.shard import Shard, Slice
from efedllm.model.trace import Trace
from efedllm.model.trace_openings import TraceOpenings
from efedllm.numerics.errors import BackendError
from efedllm.numerics.sampling import sample
from efedllm.numerics.sampling_parameters import SamplingParameters
from efedllm.protocol.committed import CommittedTokens
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.hash_tree import root_above
from efedllm.protocol.merkle import leaf_hash, row_root, tree_root
from efedllm.protocol.objects import Sampling
from efedllm.protocol.partial_tree import PartialTree
from efedllm.protocol.trace import Node, Place, Shape, Step, zero_root
from efedllm.protocol.trace_elements import first_difference
from efedllm.protocol.trace_tensors import Exit, Layer
from tests.model.checkpoints import write_checkpoint
from tests.support.step_judge import is_wrong
from tests.support.traces import BOTH, SEED, altered, checked, every_part, residual_rows, tokens, trace

GREEDY = Sampling(temperature=0, topK=0, topP=65536)
SAMPLINGS = {
    "greedy": GREEDY,
    "no cut": replace(GREEDY, temperature=60000),
    "top-k": replace(BOTH, topP=65536),
    "top-p": replace(BOTH, topK=0),
    "both": BOTH,
    "top-k of all": replace(BOTH, topK=300),
    "cold": Sampling(temperature=656, topK=2, topP=1),
    "hot": Sampling(temperature=6553600, topK=299, topP=65535),
}


@pytest.fixture(scope="session")
def weights(built: Path) -> SegmentWeights:
    return SegmentWeights(built)


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> SegmentWeights:
    """Heads that straddle leaves, rows of several leaves, an untied head."""
    folder = tmp_path_factory.mktemp("wide")
    changes = {
        "hidden_size": 261,
        "intermediate_size": 1030,
        "num_hidden_layers": 2,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 36,
        "max_position_embeddings": 600,
        "tie_word_embeddings": False,
    }
    write_checkpoint(folder / "checkpoint", **changes)
    build(str(folder / "checkpoint"), folder / "built")
    return SegmentWeights(folder / "built")


@pytest.fixture(scope="session")
def honest(weights: SegmentWeights) -> Trace:
    return trace(weights)


def residuals(made: Trace, layer: int) -> list[list[int]]:
    segment = made.shape.segment(layer)
    rows = [made.row(segment, Layer.ADD_MLP, at) for at in range(made.shape.positions)]
    return [np.frombuffer(row, "<i4").tolist() for row in rows]


def judge(made: Trace, step: Step) -> bool:
    return is_wrong(made.case, step, made.leaf_at(step.place), TraceOpenings(made).openings(step))


# ── values ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_rows_and_tokens_are_the_shards(weights: SegmentWeights, model: Shard, sampling: Sampling) -> None:
    made = trace(weights, sampling=sampling, prompt=8, generated=6)
    count = made.shape.positions
    rows = model.forward([Slice(model.cache_pool(4).sequence(), count)], torch.tensor(tokens(count).tokens))
    assert residuals(made, 2) == rows.tolist()
    assert made.outputs().root == tree_root([row_root(row.numpy().tobytes()) for row in rows])
    parameters = SamplingParameters(sampling.temperature, sampling.topP, sampling.topK)
    logits = model.logits(rows[7:])
    ids = sample(logits, [parameters] * 6, [SEED] * 6, range(8, 14), model.tables.exp2)
    assert [int.from_bytes(made.row(4, Exit.SAMPLE, at)[:4], "little") for at in range(7, 13)] == ids.tolist()
    assert np.frombuffer(made.row(4, Exit.LOGITS, 7), "<i4").tolist() == logits[0].tolist()


def test_two_blocks_are_the_shards(wide: SegmentWeights) -> None:
    made = trace(wide, 0, 2, prompt=270, generated=1)
    shard = Shard(load(wide._folder), checked("exact"))
    ids = torch.tensor(tokens(270).tokens)
    rows = shard.forward([Slice(shard.cache_pool(5).sequence(), 270)], ids)
    assert residuals(made, 1) == rows.tolist()


def test_a_shard_of_many_is_a_part_of_the_whole(weights: SegmentWeights, honest: Trace) -> None:
    """The rows that leave a shard are those that enter the next one, and every tensor between is the same."""
    inputs = trace(weights, 0, 1).outputs()  # the first thing that is asked of this trace
    assert inputs.root == tree_root([honest.row_root(1, Layer.ADD_MLP, at) for at in range(12)])
    assert inputs.root == tree_root([row_root(inputs.read(at)) for at in range(12)])
    shape = replace(honest.shape, start=1)
    rest = Trace(weights, shape, inputs, BOTH, SEED, checked("exact"))
    for segment in range(shape.segments):
        for tensor in range(shape.tensors(segment)):
            path = segment << 5 | tensor
            there = Node(honest.shape.tensor_depth, path + (2 << 5))
            assert rest.node(Node(shape.tensor_depth, path)) == honest.node(there)


def test_longer_requests_begin_alike(weights: SegmentWeights, honest: Trace) -> None:
    """No row depends on what comes behind it: a whole prefill gives the rows of one that goes on."""
    longer = trace(weights, prompt=14, generated=3)
    assert residuals(longer, 2)[:12] == residuals(honest, 2)


# ── how it is built does not matter ─────────────────────────────────────────


@pytest.mark.parametrize("at_once", [1, 5000, 1 << 30])
def test_chunks_do_not_matter(wide: SegmentWeights, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    root = trace(wide, 0, 2, prompt=258, generated=2).body_root
    monkeypatch.setattr(trace_layer, "VALUES_AT_ONCE", 300 * at_once)
    monkeypatch.setattr(trace_attention, "SCORES_AT_ONCE", at_once)
    assert trace(wide, 0, 2, prompt=258, generated=2).body_root == root


def test_back_ends_do_not_matter(weights: SegmentWeights, honest: Trace) -> None:
    try:
        checked("int8")
    except BackendError as error:
        pytest.skip(str(error))
    assert trace(weights, backend="int8").body_root == honest.body_root


def test_threads_do_not_matter(weights: SegmentWeights, honest: Trace) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert trace(weights).body_root == honest.body_root
    finally:
        torch.set_num_threads(before)


def test_inputs_sampling_and_seed_matter(weights: SegmentWeights, honest: Trace) -> None:
    others = [
        Trace(weights, honest.shape, tokens, sampling, seed, checked("exact"))
        for tokens, sampling, seed in (
            (CommittedTokens([1] * 12), BOTH, SEED),
            (honest.inputs, GREEDY, SEED),
            (honest.inputs, BOTH, bytes(32)),
        )
    ]
    assert len({honest.body_root, *(other.body_root for other in others)}) == 4


# ── the tree ────────────────────────────────────────────────────────────────


def test_every_root_is_that_of_its_bytes(honest: Trace) -> None:
    shape = honest.shape
    for segment, tensor, part in every_part(shape):
        if part:
            continue
        for row in {shape.rows(segment, tensor)[0], shape.rows(segment, tensor)[-1]}:
            data, hashes, at = honest.row(segment, tensor, row), [], 0
            for leaf in range(shape.leaves(segment, tensor)):
                place = Place(segment, tensor, row, leaf)
                hashes.append(leaf_hash(data[at : at + shape.leaf_bytes(segment, tensor, leaf)]))
                assert honest.leaf_at(place) == data[at : at + shape.leaf_bytes(segment, tensor, leaf)]
                assert honest.node(shape.leaf_node(place)) == hashes[-1]
                at += shape.leaf_bytes(segment, tensor, leaf)
            assert at == len(data) == shape.row_bytes(segment, tensor)
            assert honest.row_root(segment, tensor, row) == tree_root(hashes)


def test_the_body_root_is_the_tree_of_row_roots_by_slot(honest: Trace) -> None:
    shape = honest.shape
    words = [bytes(32)] * (1 << shape.upper_depth)
    for slot in range(len(words)):
        if found := shape.find_row(slot):
            words[slot] = honest.row_root(*found)
    assert tree_root(words) == honest.body_root


def test_padding_is_zero(honest: Trace) -> None:
    shape, seen = honest.shape, 0
    for depth in range(shape.upper_depth + 1):
        for path in range(1 << depth):
            if shape.is_padding(node := Node(depth, path)):
                assert honest.node(node) == zero_root(shape.height(node))
                seen += 1
    assert seen > 100


def test_there_is_nothing_below_leaves_and_padding(honest: Trace) -> None:
    leaf = honest.shape.leaf_node(Place(0, 0, 0, 0))
    for node in (Node(leaf.depth + 1, leaf.path << 1), Node(honest.shape.upper_depth + 1, (1 << 13) - 1)):
        with pytest.raises(ProtocolError):
            honest.node(node)
    with pytest.raises(ProtocolError, match="is no leaf"):
        honest.leaf(Node(0, 0))


def test_inputs_of_an_inner_shard() -> None:
    rows = residual_rows(5, 300)
    assert rows.root == tree_root([row_root(rows.read(at)) for at in range(5)])
    for opening, path in ((rows.open_leaf(3, 1), 3 << 1 | 1), (rows.open_leaf(4, 0), 4 << 1)):
        assert root_above(leaf_hash(opening.data), path, opening.siblings) == rows.root
        assert rows.leaf(Node(4, path)) == opening.data
    whole = rows.open_row(2)
    assert root_above(row_root(whole.data), 2, whole.siblings) == rows.root
    for node in (Node(3, 2), Node(4, 10), Node(5, 0)):
        with pytest.raises(IndexError):
            rows.leaf(node)
    with pytest.raises(IndexError):
        rows.open_leaf(3, 2)


def test_refuses_inputs_that_do_not_fit(weights: SegmentWeights) -> None:
    shape = Shape(weights.spec(), 0, 3, 12, 10, 3)
    for inputs in (tokens(11), residual_rows(12, 48), CommittedTokens([300] * 12)):
        with pytest.raises(ModelError):
            Trace(weights, shape, inputs, BOTH, SEED, checked("exact"))
    with pytest.raises(ModelError):
        Trace(weights, replace(shape, start=1), tokens(12), BOTH, SEED, checked("exact"))


# ── every element follows from its openings ─────────────────────────────────


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_every_element_of_the_exit_follows(weights: SegmentWeights, sampling: Sampling) -> None:
    made = trace(weights, 2, 3, prompt=3, generated=2, sampling=sampling)
    segment, generator = made.shape.segments - 1, random.Random(1)
    for tensor in range(made.shape.tensors(segment)):
        for part, one in enumerate(made.shape.parts(segment, tensor)):
            for at in {0, one.count - 1, *(generator.randrange(one.count) for _ in range(12))}:
                assert not judge(made, made.shape.step(segment, tensor, 3, part, at))


@pytest.mark.parametrize(("start", "end"), [(0, 3), (0, 1), (1, 2), (2, 3)])
def test_elements_of_every_part_follow(weights: SegmentWeights, start: int, end: int) -> None:
    follows(trace(weights, start, end), random.Random(start), 2)


def test_elements_follow_over_several_blocks_and_leaves(wide: SegmentWeights) -> None:
    follows(trace(wide, 0, 1, prompt=515, generated=1), random.Random(7), 3)
    follows(trace(wide, 1, 2, prompt=257, generated=2), random.Random(8), 2)


def test_one_position(weights: SegmentWeights) -> None:
    follows(trace(weights, 0, 3, prompt=1, generated=1), random.Random(9), 2)


def test_no_token_yet(weights: SegmentWeights) -> None:
    made = trace(weights, 2, 3, prompt=7, generated=0)
    assert made.shape.segments == 1
    follows(made, random.Random(10), 1)


def follows(made: Trace, generator: random.Random, count: int) -> None:
    """Random elements of every part are what their openings give, and no other value is."""
    opener = TraceOpenings(made)
    for segment, tensor, part in every_part(made.shape):
        one = made.shape.parts(segment, tensor)[part]
        for _ in range(count):
            row = generator.choice(made.shape.rows(segment, tensor))
            step = made.shape.step(segment, tensor, row, part, generator.randrange(one.count))
            leaf, openings = made.leaf_at(step.place), opener.openings(step)
            assert not is_wrong(made.case, step, leaf, openings)
            changed = bytearray(leaf)
            changed[step.element * one.kind.size + generator.randrange(one.kind.size)] ^= 1 << generator.randrange(8)
            assert is_wrong(made.case, step, bytes(changed), openings)


# ── lies ────────────────────────────────────────────────────────────────────


def descend(mine: Trace, theirs: Trace) -> tuple[Step, PartialTree]:
    """The first element at which two traces differ, found as in a dispute, and what was revealed of theirs."""
    shape, node = mine.shape, Node(0, 0)
    revealed = PartialTree(theirs.body_root, mine.node)
    while levels := shape.reveal_levels(node):
        revealed.reveal(node, theirs.children(node))
        found = revealed.first_difference(node, levels)
        assert found is not None
        node = found
    place = shape.find_place(node)
    assert place is not None
    number, part, _ = shape.find_leaf(place.segment, place.tensor, place.leaf)
    element = first_difference(part.kind, mine.leaf_at(place), theirs.leaf_at(place))
    assert element is not None and number >= 0
    return Step(*place, element), revealed


@pytest.mark.parametrize("is_consistent", [True, False])
@pytest.mark.parametrize("span", [(0, 1), (2, 3)])
def test_every_lie_is_found_where_it_was_told(
    weights: SegmentWeights, span: tuple[int, int], is_consistent: bool
) -> None:
    """A lie about any element of any part, carried on or not, is the first difference, and is judged wrong."""
    mine, generator = trace(weights, *span, prompt=6, generated=2), random.Random(5)
    for segment, tensor, part in every_part(mine.shape):
        one = mine.shape.parts(segment, tensor)[part]
        row = generator.choice(mine.shape.rows(segment, tensor))
        step = mine.shape.step(segment, tensor, row, part, generator.randrange(one.count))
        bit = generator.randrange(8 * one.kind.size)
        theirs = trace(weights, *span, prompt=6, generated=2, lie=altered(mine.shape, step, bit, is_consistent))
        assert theirs.inputs.root == mine.inputs.root
        found, revealed = descend(mine, theirs)
        assert found == step
        openings = TraceOpenings(mine, revealed).openings(step)
        case = replace(mine.case, body_root=theirs.body_root)
        assert is_wrong(case, step, theirs.leaf_at(step.place), openings)
        assert not is_wrong(mine.case, step, mine.leaf_at(step.place), TraceOpenings(mine).openings(step))


def test_a_consistent_lie_is_carried_on(weights: SegmentWeights, honest: Trace) -> None:
    step = honest.shape.step(1, Layer.LINEAR_V, 4, 0, 3)
    for is_consistent in (True, False):
        lying = trace(weights, lie=altered(honest.shape, step, 20, is_consistent))
        rows = residuals(lying, 2)
        assert (rows != residuals(honest, 2)) == is_consistent
        assert rows[:4] == residuals(honest, 2)[:4]
        differing = [
            at
            for at in range(1, honest.shape.segments << 5)
            if lying.node(Node(honest.shape.tensor_depth, at)) != honest.node(Node(honest.shape.tensor_depth, at))
        ]
        assert differing[0] == 1 << 5 | Layer.LINEAR_V
        assert (len(differing) > 1) == is_consistent


def test_rows_are_shown_again_as_they_were(weights: SegmentWeights, honest: Trace) -> None:
    """What a liar reveals below a row's root hashes to it, whatever the lie is about."""
    for tensor in (Layer.VALUE, Layer.VALUE_BLOCKS, Layer.MAXIMA, Layer.ADD_MLP):
        for is_consistent in (True, False):
            step = honest.shape.step(2, tensor, 0, 0, 1)
            lying = trace(weights, lie=altered(honest.shape, step, 1, is_consistent))
            for at in range(tensor, len(Layer)):
                row, node = lying.row(2, at, 0), lying.shape.row_node(2, at, 0)
                assert len(row) == lying.shape.row_bytes(2, at)
                assert lying.shape.reveal_levels(node) == 0 or tree_root(lying.children(node)) == lying.node(node)
