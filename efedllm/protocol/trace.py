"""Coordinates of a trace: segments, tensors, rows and leaves, and their paths from `bodyRoot` (docs/trace.md).

A node is named by its depth below `bodyRoot` and the bits of its path, which number the nodes of that depth. Down to
`Shape.upper_depth` they say segment, tensor and row; below it, the leaf of the row.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.merkle import EMPTY, depth_of, node_hash
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.trace_tensors import BLOCK, TILE, Layer, Part, Program, parts_of, tensor_count

TENSOR_BITS = 5
REVEAL_LEVELS = 4
"""Most levels of the tree between a node and what is revealed below it at once."""


class Node(NamedTuple):
    """A node of a tree: number `path` of the `2**depth` at its depth below the root."""

    depth: int
    path: int


class Place(NamedTuple):
    """A leaf of the trace; they are ordered as the trace is."""

    segment: int
    tensor: int
    row: int
    leaf: int


class Step(NamedTuple):
    """An element of a leaf, counted from the beginning of the leaf, as `IStepVerifier.Step`."""

    segment: int
    tensor: int
    row: int
    leaf: int
    element: int

    @property
    def place(self) -> Place:
        return Place(*self[:4])


@lru_cache(64)
def zero_root(height: int) -> bytes:
    """Root of a tree of 2**height zero words: what stands for no rows, or no leaves."""
    return EMPTY if height == 0 else node_hash(zero_root(height - 1), zero_root(height - 1))


@dataclass(frozen=True)
class Shape:
    """The trace of layers `start .. end` of a model over a receipt's counts.

    Raises ProtocolError for layers that the model does not have, and for counts that no valid receipt has.
    """

    model: ModelSpec
    start: int
    end: int
    positions: int
    prompt_count: int
    generated: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= self.model.layers:
            raise ProtocolError(f"layers {self.start}:{self.end} are not within the model's 0:{self.model.layers}")
        counts = f"{self.positions} positions, {self.prompt_count} prompt and {self.generated} generated tokens"
        if self.generated < 0 or self.prompt_count < 1 or not 1 <= self.positions <= self.model.context:
            raise ProtocolError(f"no receipt has {counts}")
        if self.generated and self.positions != self.prompt_count + self.generated - 1:
            raise ProtocolError(f"no receipt has {counts}")
        if not self.generated and self.positions >= self.prompt_count:
            raise ProtocolError(f"no receipt has {counts}")

    # ── segments ────────────────────────────────────────────────────────────

    @property
    def has_entry(self) -> bool:
        return self.start == 0

    @property
    def has_exit(self) -> bool:
        return self.end == self.model.layers and self.generated > 0

    @property
    def segments(self) -> int:
        return self.has_entry + self.end - self.start + self.has_exit

    def program(self, segment: int) -> Program:
        if not 0 <= segment < self.segments:
            raise ProtocolError(f"the trace has {self.segments} segments and no segment {segment}")
        if self.has_entry and segment == 0:
            return Program.ENTRY
        return Program.EXIT if self.has_exit and segment == self.segments - 1 else Program.LAYER

    def layer(self, segment: int) -> int:
        """The model's layer that a segment of program `LAYER` computes."""
        return self.start + segment - self.has_entry

    def segment(self, layer: int) -> int:
        """The segment of a layer of the shard."""
        return layer - self.start + self.has_entry

    # ── tensors and rows ────────────────────────────────────────────────────

    @property
    def blocks(self) -> int:
        """`T`: blocks of 256 positions."""
        return -(-self.positions // BLOCK)

    @property
    def tiles(self) -> int:
        """`V`: tiles of 256 token ids."""
        return -(-self.model.vocab // TILE)

    def tensors(self, segment: int) -> int:
        return tensor_count(self.program(segment))

    def rows(self, segment: int, tensor: int) -> range:
        """Numbers of a tensor's rows. Raises ProtocolError for a tensor that the segment does not have."""
        self._check_tensor(segment, tensor)
        match self.program(segment):
            case Program.LAYER if tensor == Layer.VALUE_BLOCKS:
                return range(self.blocks)
            case Program.EXIT:
                return range(self.prompt_count - 1, self.positions)
            case _:
                return range(self.positions)

    def parts(self, segment: int, tensor: int) -> tuple[Part, ...]:
        """Parts of a tensor's rows. Raises ProtocolError for a tensor that the segment does not have."""
        self._check_tensor(segment, tensor)
        return parts_of(self.program(segment), tensor, self.model, self.blocks)

    def _check_tensor(self, segment: int, tensor: int) -> None:
        if not 0 <= tensor < self.tensors(segment):
            raise ProtocolError(f"segment {segment} has {self.tensors(segment)} tensors and no tensor {tensor}")

    # ── leaves and elements ─────────────────────────────────────────────────

    def leaves(self, segment: int, tensor: int) -> int:
        """Leaves of every row of a tensor."""
        return sum(part.leaves for part in self.parts(segment, tensor))

    def row_bytes(self, segment: int, tensor: int) -> int:
        return sum(part.count * part.kind.size for part in self.parts(segment, tensor))

    def find_leaf(self, segment: int, tensor: int, leaf: int) -> tuple[int, Part, int]:
        """Number of the part that leaf `leaf` of a row belongs to, the part, and the leaf's number in it.

        Raises ProtocolError beyond the last leaf.
        """
        at = leaf
        for number, part in enumerate(self.parts(segment, tensor)):
            if 0 <= at < part.leaves:
                return number, part, at
            at -= part.leaves
        raise ProtocolError(f"rows of tensor {tensor} of segment {segment} have no leaf {leaf}")

    def leaf_bytes(self, segment: int, tensor: int, leaf: int) -> int:
        """Length of a leaf."""
        _, part, at = self.find_leaf(segment, tensor, leaf)
        return part.elements(at) * part.kind.size

    def leaf_offset(self, segment: int, tensor: int, leaf: int) -> int:
        """Where a leaf begins in the bytes of its row."""
        number, part, at = self.find_leaf(segment, tensor, leaf)
        before = self.parts(segment, tensor)[:number]
        return sum(one.count * one.kind.size for one in before) + at * part.per_leaf * part.kind.size

    def find_element(self, step: Step) -> tuple[int, int]:
        """The part of an element, and its number in the part. Raises ProtocolError for a step that is not there."""
        if step.row not in self.rows(step.segment, step.tensor):
            raise ProtocolError(f"tensor {step.tensor} of segment {step.segment} has no row {step.row}")
        number, part, at = self.find_leaf(step.segment, step.tensor, step.leaf)
        if not 0 <= step.element < part.elements(at):
            raise ProtocolError(f"leaf {step.leaf} of tensor {step.tensor} has no element {step.element}")
        return number, at * part.per_leaf + step.element

    def leaf_of(self, segment: int, tensor: int, part: int, index: int) -> int:
        """The leaf of a row that holds element `index` of part `part`."""
        parts = self.parts(segment, tensor)
        return sum(one.leaves for one in parts[:part]) + index // parts[part].per_leaf

    def step(self, segment: int, tensor: int, row: int, part: int, index: int) -> Step:
        """The step of element `index` of part `part`; the inverse of `find_element`."""
        per_leaf = self.parts(segment, tensor)[part].per_leaf
        return Step(segment, tensor, row, self.leaf_of(segment, tensor, part, index), index % per_leaf)

    # ── the tree ────────────────────────────────────────────────────────────

    @property
    def row_bits(self) -> int:
        return depth_of(self.positions)

    @property
    def tensor_depth(self) -> int:
        """Depth of the tensors' roots."""
        return depth_of(self.segments) + TENSOR_BITS

    @property
    def upper_depth(self) -> int:
        """Depth of the rows' roots."""
        return self.tensor_depth + self.row_bits

    def row_depth(self, segment: int, tensor: int) -> int:
        """Levels between a row's root and its leaves."""
        return depth_of(self.leaves(segment, tensor))

    def row_node(self, segment: int, tensor: int, row: int) -> Node:
        """The root of a row; its path is the slot."""
        if row not in self.rows(segment, tensor):
            raise ProtocolError(f"tensor {tensor} of segment {segment} has no row {row}")
        return Node(self.upper_depth, ((segment << TENSOR_BITS | tensor) << self.row_bits) | row)

    def leaf_node(self, place: Place) -> Node:
        segment, tensor, row, leaf = place
        if not 0 <= leaf < self.leaves(segment, tensor):
            raise ProtocolError(f"rows of tensor {tensor} of segment {segment} have no leaf {leaf}")
        slot, depth = self.row_node(segment, tensor, row).path, self.row_depth(segment, tensor)
        return Node(self.upper_depth + depth, slot << depth | leaf)

    def find_row(self, slot: int) -> tuple[int, int, int] | None:
        """Segment, tensor and row of a slot; None where there is no row."""
        row = slot & ((1 << self.row_bits) - 1)
        tensor = slot >> self.row_bits & ((1 << TENSOR_BITS) - 1)
        segment = slot >> (self.row_bits + TENSOR_BITS)
        if segment >= self.segments or tensor >= self.tensors(segment) or row not in self.rows(segment, tensor):
            return None
        return segment, tensor, row

    def slot_of(self, node: Node) -> int:
        """The slot that a node at or below a row's root lies in."""
        return node.path >> (node.depth - self.upper_depth)

    def find_place(self, node: Node) -> Place | None:
        """The leaf that a node is; None for a node above leaves, and for padding."""
        if node.depth < self.upper_depth or (found := self.find_row(self.slot_of(node))) is None:
            return None
        segment, tensor, row = found
        depth = self.row_depth(segment, tensor)
        leaf = node.path & ((1 << depth) - 1)
        if node.depth != self.upper_depth + depth or leaf >= self.leaves(segment, tensor):
            return None
        return Place(segment, tensor, row, leaf)

    def height(self, node: Node) -> int:
        """Levels from a node down to the words of its tree: row roots, or for a node in a row its leaves' hashes.

        A row's root counts as a word of the upper tree. Raises ProtocolError below leaves and below padding.
        """
        if node.depth <= self.upper_depth:
            return self.upper_depth - node.depth
        if node.depth > (bottom := self._bottom(node)):
            raise ProtocolError(f"the tree has no node at depth {node.depth} there")
        return bottom - node.depth

    def is_padding(self, node: Node) -> bool:
        """Whether a node stands for no row, or no leaf: its hash is `zero_root(height(node))`."""
        height = self.height(node)
        if node.depth <= self.upper_depth:
            return self._next_row(node.path << height) >= (node.path + 1) << height
        found = self.find_row(self.slot_of(node))
        assert found is not None, "there are no nodes below padding"
        inside = node.path & ((1 << (node.depth - self.upper_depth)) - 1)
        return inside << height >= self.leaves(*found[:2])

    def reveal_levels(self, node: Node) -> int:
        """Levels that are revealed at once below a node: four, fewer above row roots and leaves; 0 for a leaf."""
        if node.depth < self.upper_depth:
            return min(REVEAL_LEVELS, self.upper_depth - node.depth)
        return min(REVEAL_LEVELS, self._bottom(node) - node.depth)

    def _bottom(self, node: Node) -> int:
        """Depth of the leaves of the row that a node at or below a row's root lies in."""
        found = self.find_row(self.slot_of(node))
        return self.upper_depth + (self.row_depth(*found[:2]) if found else 0)

    def _next_row(self, slot: int) -> int:
        """The first slot from `slot` on that holds a row; past the tree if there is none."""
        row_mask, tensor_mask = (1 << self.row_bits) - 1, (1 << TENSOR_BITS) - 1
        row, key = slot & row_mask, slot >> self.row_bits
        while (segment := key >> TENSOR_BITS) < self.segments:
            tensor = key & tensor_mask
            if tensor >= self.tensors(segment):
                key, row = (segment + 1) << TENSOR_BITS, 0
                continue
            rows = self.rows(segment, tensor)
            if row < rows.stop:
                return key << self.row_bits | max(row, rows.start)
            key, row = key + 1, 0
        return 1 << self.upper_depth
