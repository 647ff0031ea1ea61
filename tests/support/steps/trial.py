"""A trial as the contract takes it: case, step, leaf and openings, from operands in sparse trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from random import Random

from efedllm.chain.abi import interface
from efedllm.model.layout import Branch
from efedllm.protocol.merkle import LEAF_BYTES, depth_of, leaf_hash, node_hash, row_root, tree_root
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.trace import Node
from efedllm.protocol.trace_operand import (
    BodyLeaf,
    BodyRow,
    Gain,
    InputLeaf,
    InputRow,
    InputToken,
    MatrixRow,
    Operand,
    WeightLeaf,
)
from tests.support.steps.answers import answer
from tests.support.steps.layouts import layout_of
from tests.support.steps.opened import Opened

HEADER = 8
BODY, INPUT, WEIGHTS = "body", "input", "weights"


class SparseTree:
    """A tree of which only some nodes are given; all others are random."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._levels: dict[int, dict[int, bytes]] = {}
        self.root = rng.randbytes(32)

    def put(self, node: Node, value: bytes) -> None:
        self._levels.setdefault(node.depth, {})[node.path] = value

    def build(self) -> None:
        if not self._levels:
            return
        for depth in range(max(self._levels), 0, -1):
            level = self._levels.setdefault(depth, {})
            above = self._levels.setdefault(depth - 1, {})
            for path in list(level):
                other = level.setdefault(path ^ 1, self._rng.randbytes(32))
                if path >> 1 not in above:
                    left, right = (other, level[path]) if path & 1 else (level[path], other)
                    above[path >> 1] = node_hash(left, right)
        self.root = self._levels[0][0]

    def siblings(self, node: Node) -> list[bytes]:
        """From the bottom up."""
        return [self._levels[node.depth - up][(node.path >> up) ^ 1] for up in range(node.depth)]


@dataclass(frozen=True)
class Trial:
    """Arguments of `isWrong`. `expected`: the element's bytes."""

    model: ModelSpec
    counts: tuple[int, ...]  # start, end, positions, prompt_count, generated
    input_root: bytes
    body_root: bytes
    seed: bytes
    sampling: tuple[int, int, int]
    step: tuple[int, ...]
    leaf: bytes
    openings: tuple[tuple[bytes, tuple[bytes, ...]], ...]

    def arguments(self) -> tuple[object, ...]:
        case = (
            astuple(self.model),
            *self.counts,
            self.input_root,
            self.body_root,
            self.seed,
            self.sampling,
        )
        return case, self.step, self.leaf, [(data, list(siblings)) for data, siblings in self.openings]

    def call(self) -> bytes:
        return interface("StepVerifier").encode_call("isWrong", *self.arguments())


def trial_of(rng: Random, opened: Opened, element: int | None = None) -> Trial:
    """With a leaf whose element is right, or the given one."""
    shape, step = opened.shape, opened.step
    trees = {name: SparseTree(rng) for name in (BODY, INPUT, WEIGHTS)}
    places = []
    for operand, data in opened.data.items():
        name, node, value = locate(opened, operand, data)
        trees[name].put(node, value)
        places.append((name, node, data))
    for tree in trees.values():
        tree.build()
    part, _ = shape.find_element(step)
    size = shape.parts(step.segment, step.tensor)[part].kind.size
    leaf = bytearray(rng.randbytes(shape.leaf_bytes(step.segment, step.tensor, step.leaf)))
    right = answer(opened) if element is None else element
    leaf[step.element * size : (step.element + 1) * size] = right.to_bytes(size, "little")
    return Trial(
        model=replace(shape.model, weights_root=trees[WEIGHTS].root),
        counts=(shape.start, shape.end, shape.positions, shape.prompt_count, shape.generated),
        input_root=trees[INPUT].root,
        body_root=trees[BODY].root,
        seed=opened.seed,
        sampling=(opened.sampling.temperature, opened.sampling.topK, opened.sampling.topP),
        step=tuple(step),
        leaf=bytes(leaf),
        openings=tuple((data, tuple(trees[name].siblings(node))) for name, node, data in places),
    )


def locate(opened: Opened, operand: Operand, data: bytes) -> tuple[str, Node, bytes]:
    """Tree, node and hash of an operand."""
    shape = opened.shape
    depth = depth_of(shape.positions)
    residual_depth = depth_of(-(-4 * shape.model.hidden // LEAF_BYTES))
    match operand:
        case BodyLeaf(place):
            return BODY, shape.leaf_node(place), leaf_hash(data)
        case BodyRow(segment, tensor, row):
            hashes, at = [], 0
            for part in shape.parts(segment, tensor):
                end = at + part.count * part.kind.size
                hashes += [leaf_hash(data[i : min(i + LEAF_BYTES, end)]) for i in range(at, end, LEAF_BYTES)]
                at = end
            return BODY, shape.row_node(segment, tensor, row), tree_root(hashes)
        case InputToken(position):
            return INPUT, Node(depth, position), leaf_hash(data)
        case InputLeaf(position, leaf):
            return INPUT, Node(depth + residual_depth, position << residual_depth | leaf), leaf_hash(data)
        case InputRow(position):
            return INPUT, Node(depth, position), row_root(data)
        case WeightLeaf(name, index):
            return WEIGHTS, _node(layout_of(shape.model).place(name, index).trees), leaf_hash(data)
        case MatrixRow(name, row):
            layout = layout_of(shape.model)
            tiles = layout.place(name, 0).spec.tiles
            return WEIGHTS, _node(layout.place(name, row * tiles).trees[1:]), _whole(data)
        case Gain(name):
            return WEIGHTS, _node(layout_of(shape.model).place(name, 0).trees[2:]), _whole(data)


def _whole(data: bytes) -> bytes:
    """Root of all leaves of a matrix row or a gain, whose one header every leaf carries."""
    header = data[:HEADER]
    starts = range(HEADER, len(data), LEAF_BYTES)
    return tree_root([leaf_hash(header + data[at : at + LEAF_BYTES]) for at in starts])


def _node(upward: Sequence[Branch]) -> Node:
    depth = path = 0
    for branch in reversed(upward):
        levels = depth_of(branch.children)
        depth, path = depth + levels, path << levels | branch.child
    return Node(depth, path)
