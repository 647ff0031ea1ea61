"""The trace of a receipt's computation, with every hash, byte and opening that a dispute asks for.

Built segment by segment with the weights of one layer at a time. Residual rows and row roots lie in a temporary file;
whatever a dispute needs below a row's root is computed again when it is asked for.
"""

import tempfile
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from efedllm.model.errors import ModelError
from efedllm.model.segment_weights import WeightSource
from efedllm.model.trace_attention import Stored
from efedllm.model.trace_exit import ExitTrace
from efedllm.model.trace_layer import LayerTrace
from efedllm.model.trace_rows import Hashes, Lie, OneRow, RowRoots, Rows
from efedllm.numerics import ops
from efedllm.numerics.prepared import Backend
from efedllm.numerics.weights import Matrix
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.hash_tree import HashTree, leaf_hashes
from efedllm.protocol.merkle import HASH_BYTES
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import TENSOR_BITS, Node, Place, Shape, zero_root
from efedllm.protocol.trace_case import Case
from efedllm.protocol.trace_tensors import Entry, Layer, Program

ROWS_KEPT = 64
"""Rows whose bytes are kept after they were computed again."""
ENTRY_CHUNK = 256


class Trace:
    """inputs: what entered the shard, token ids (all below the vocabulary) for a first one.

    lie: see there; for tests. scratch: folder for the temporary file; as much as the residual rows of all layers and a
    quarter more. Raises ModelError for weights or inputs that do not fit the shape.
    """

    def __init__(
        self,
        weights: WeightSource,
        shape: Shape,
        inputs: CommittedTokens | CommittedRows,
        sampling: Sampling,
        seed: bytes,
        backend: Backend,
        *,
        lie: Lie | None = None,
        scratch: Path | None = None,
    ) -> None:
        count = len(inputs.tokens) if isinstance(inputs, CommittedTokens) else inputs.count
        if isinstance(inputs, CommittedTokens) != shape.has_entry or count != shape.positions:
            raise ModelError(f"{count} inputs are not those of {shape.positions} positions from layer {shape.start} on")
        if isinstance(inputs, CommittedTokens) and any(token >= shape.model.vocab for token in inputs.tokens):
            raise ModelError(f"an input token is outside this model's 0 .. {shape.model.vocab - 1}")
        self.weights = weights
        self.shape = shape
        self.inputs = inputs
        self.sampling = sampling
        self.seed = seed
        self._backend = backend
        self._lie = lie
        self._folder = tempfile.TemporaryDirectory(prefix="efedllm-trace-", dir=scratch)
        residuals = shape.segments - shape.has_exit
        # What every segment but the exit passes on; a liar may show something else.
        self._residuals: NDArray[np.int32] = np.lib.format.open_memmap(
            f"{self._folder.name}/residuals.npy", "w+", np.int32, (residuals, shape.positions, shape.model.hidden)
        )
        self._roots: list[Hashes] = [
            np.lib.format.open_memmap(
                f"{self._folder.name}/roots-{segment}.npy",
                "w+",
                np.uint8,
                (shape.tensors(segment), shape.positions, HASH_BYTES),
            )
            for segment in range(shape.segments)
        ]
        self._tensor_tree = lru_cache(8)(self._make_tensor_tree)
        self._row_tree = lru_cache(ROWS_KEPT)(self._make_row_tree)
        self._read_row = lru_cache(ROWS_KEPT)(self._compute_row)
        self._layer = lru_cache(1)(self._enter_layer)
        self._exit = lru_cache(1)(self._load_exit)

    def close(self) -> None:
        """Removes the temporary file; nothing can be asked for then."""
        self._folder.cleanup()

    # ── what a dispute asks for ─────────────────────────────────────────────

    @property
    def body_root(self) -> bytes:
        """The first time, this computes everything."""
        return self.node(Node(0, 0))

    @property
    def case(self) -> Case:
        return Case(self.shape, self.inputs.root, self.body_root, self.seed, self.sampling)

    def node(self, node: Node) -> bytes:
        """Any node under `bodyRoot`. Raises IndexError or ProtocolError where there is none."""
        top = self._top_tree  # with it everything is there that lies below
        if node.depth <= self.shape.tensor_depth:
            return top.node(node)
        if node.depth <= self.shape.upper_depth:
            below = node.depth - self.shape.tensor_depth
            tree = self._tensor_tree(node.path >> below)
            return tree.node(Node(below, node.path & ((1 << below) - 1)))
        self.shape.height(node)  # raises where there is nothing
        below = node.depth - self.shape.upper_depth
        return self._row_tree(self.shape.slot_of(node)).node(Node(below, node.path & ((1 << below) - 1)))

    def children(self, node: Node) -> list[bytes]:
        """What is revealed at once below a node: `shape.reveal_levels` levels further down."""
        levels = self.shape.reveal_levels(node)
        first = node.path << levels
        return [self.node(Node(node.depth + levels, first + at)) for at in range(1 << levels)]

    def row(self, segment: int, tensor: int, row: int) -> bytes:
        """All bytes of a row, computed again. Raises ProtocolError for a row that is not there."""
        self.shape.row_node(segment, tensor, row)  # raises
        return self._read_row(segment, tensor, row)

    def leaf(self, node: Node) -> bytes:
        """Bytes of the leaf that a node is. Raises ProtocolError for a node that is none."""
        if (place := self.shape.find_place(node)) is None:
            raise ProtocolError(f"node {node.path} at depth {node.depth} is no leaf")
        return self.leaf_at(place)

    def leaf_at(self, place: Place) -> bytes:
        """Bytes of a leaf. Raises ProtocolError for a leaf that is not there."""
        offset = self.shape.leaf_offset(*place[:2], place.leaf)
        return self.row(*place[:3])[offset : offset + self.shape.leaf_bytes(*place[:2], place.leaf)]

    def row_root(self, segment: int, tensor: int, row: int) -> bytes:
        return self.node(self.shape.row_node(segment, tensor, row))

    def outputs(self) -> CommittedRows:
        """The residual rows that leave the shard, as the trace has them."""
        last = self.shape.segments - self.shape.has_exit - 1
        roots = [self.row_root(last, Layer.ADD_MLP, at) for at in range(self.shape.positions)]
        return CommittedRows(self.shape.positions, lambda at: self.row(last, Layer.ADD_MLP, at), roots)

    # ── trees ───────────────────────────────────────────────────────────────

    @cached_property
    def _top_tree(self) -> HashTree:
        """Segments and tensors."""
        self._build()
        words = []
        for segment in range(self.shape.segments):
            for tensor in range(1 << TENSOR_BITS):
                words.append(self._tensor_tree(segment << TENSOR_BITS | tensor).root)
        return HashTree(words, self.shape.tensor_depth, zero_root(self.shape.row_bits))

    def _make_tensor_tree(self, key: int) -> HashTree:
        """Rows of a tensor; key: the bits of segment and tensor."""
        segment, tensor = key >> TENSOR_BITS, key & ((1 << TENSOR_BITS) - 1)
        if segment >= self.shape.segments or tensor >= self.shape.tensors(segment):
            return HashTree([], self.shape.row_bits)
        data = self._roots[segment][tensor, : self.shape.rows(segment, tensor).stop].tobytes()
        words = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
        return HashTree(words, self.shape.row_bits)

    def _make_row_tree(self, slot: int) -> HashTree:
        found = self.shape.find_row(slot)
        assert found is not None, "nodes of rows that are not there are refused before"
        segment, tensor, _ = found
        lengths = [self.shape.leaf_bytes(segment, tensor, leaf) for leaf in range(self.shape.leaves(segment, tensor))]
        return HashTree(leaf_hashes(self.row(*found), lengths))

    # ── values ──────────────────────────────────────────────────────────────

    @torch.inference_mode()
    def _build(self) -> None:
        for segment in range(self.shape.segments):
            rows = RowRoots(self.shape, segment, self._lie, self._roots[segment])
            match self.shape.program(segment):
                case Program.ENTRY:
                    matrix = self.weights.embedding()
                    for first in range(0, self.shape.positions, ENTRY_CHUNK):
                        end = min(first + ENTRY_CHUNK, self.shape.positions)
                        self._residuals[0, first:end] = self._embed(matrix, first, end, rows).numpy()
                case Program.LAYER:
                    layer = self._load_layer(segment)
                    stored = self._enter(layer, segment, rows)
                    for first in range(0, self.shape.positions, layer.chunk):
                        x = self._residual(segment, first, first + layer.chunk)
                        out = layer.leave(x, first, stored, rows)
                        self._residuals[segment, first : first + len(out)] = out.numpy()
                case Program.EXIT:
                    exit_ = self._exit()
                    for first in range(self.shape.prompt_count - 1, self.shape.positions, exit_.chunk):
                        exit_(self._residual(segment, first, first + exit_.chunk), first, rows)
        self._exit.cache_clear()

    @torch.inference_mode()
    def _compute_row(self, segment: int, tensor: int, row: int) -> bytes:
        """The bytes of a row, as it was shown when the trace was built."""
        assert self._top_tree, "residual rows are there once the trace is"
        one = OneRow(self.shape, segment, self._lie, tensor)
        # What was kept as it is computed with: a consistent lie is in it already.
        kept = OneRow(self.shape, segment, None if one.is_altered else self._lie, tensor)
        program = self.shape.program(segment)
        if program is Program.EXIT:
            self._exit()(self._residual(segment, row, row + 1), row, one)
        elif program is Program.ENTRY or tensor == Layer.ADD_MLP:
            kept.put(tensor, 0, row, torch.from_numpy(self._residuals[segment, row : row + 1].copy()))
        elif tensor == Layer.VALUE_BLOCKS:
            self._layer(segment)[1].show_blocks(kept, row, row + 1)
        elif tensor < Layer.VALUE_BLOCKS:
            stored = Stored.empty(self.shape.model, self.shape.positions)
            self._layer(segment)[0].enter(self._residual(segment, row, row + 1), row, stored, one)
        else:
            layer, stored = self._layer(segment)
            layer.leave(self._residual(segment, row, row + 1), row, stored, one)
        return one.data or kept.data

    def _residual(self, segment: int, first: int, end: int) -> Tensor:
        """`X` of a segment but the entry, positions `first .. end` as far as there are any: int32 [R, hidden]."""
        end = min(end, self.shape.positions)
        if segment > 0:
            return torch.from_numpy(self._residuals[segment - 1, first:end].copy())
        assert isinstance(self.inputs, CommittedRows), "a first shard has an entry"
        data = bytearray(b"".join(self.inputs.read(at) for at in range(first, end)))
        return torch.frombuffer(data, dtype=torch.int32).view(end - first, self.shape.model.hidden)

    def _embed(self, matrix: Matrix, first: int, end: int, rows: Rows) -> Tensor:
        assert isinstance(self.inputs, CommittedTokens), "a first shard has an entry"
        ids = torch.tensor(self.inputs.tokens[first:end], dtype=torch.int64)
        return rows.put(Entry.EMBED, 0, first, ops.embed(ids, matrix))

    def _load_layer(self, segment: int) -> LayerTrace:
        weights = self.weights.layer(self.shape.layer(segment))
        return LayerTrace(self.shape.model, weights, self.weights.tables, self._backend)

    def _load_exit(self) -> ExitTrace:
        final_norm, head = self.weights.final()
        exp2 = self.weights.tables.exp2
        return ExitTrace(self.shape.model, final_norm, head, exp2, self._backend, self.sampling, self.seed)

    def _enter(self, layer: LayerTrace, segment: int, rows: Rows) -> Stored:
        """Tensors 0 to 9 of all positions."""
        stored = Stored.empty(self.shape.model, self.shape.positions)
        for first in range(0, self.shape.positions, layer.chunk):
            layer.enter(self._residual(segment, first, first + layer.chunk), first, stored, rows)
        for block in range(self.shape.blocks):
            stored.show_blocks(rows, block, block + 1)
        return stored

    @torch.inference_mode()
    def _enter_layer(self, segment: int) -> tuple[LayerTrace, Stored]:
        """A layer ready to compute single rows again."""
        layer = self._load_layer(segment)
        return layer, self._enter(layer, segment, Rows(self.shape, segment, self._lie))
