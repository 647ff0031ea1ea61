"""What a worker computes with, and the ways in which it can compute something else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from torch import Tensor

from efedllm.model.load import LayerWeights
from efedllm.model.segment_weights import SegmentWeights
from efedllm.model.trace import Trace
from efedllm.model.trace_rows import DTYPES, Lie, Values
from efedllm.numerics.weights import Gain, Matrix, Tables
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.hash_tree import HashTree
from efedllm.protocol.objects import Request
from efedllm.protocol.trace import Node, Shape
from efedllm.protocol.trace_elements import unpack
from efedllm.protocol.trace_tensors import TILE, Exit, Kind, Layer
from tests.support.cheat_model import CheatModel

Inputs = CommittedTokens | CommittedRows
Key = tuple[int, int, int]
"""Segment, tensor and row."""


class Source(Protocol):
    """A tree that a worker can be led down, as far as it knows it: what it does not know raises LookupError."""

    @property
    def root(self) -> bytes: ...

    def node(self, node: Node) -> bytes: ...

    def leaf(self, node: Node) -> bytes: ...


class Words(HashTree):
    """Of words below which nothing is known."""

    def leaf(self, node: Node) -> bytes:
        """A hash is not what it is the hash of."""
        return self.node(node)


@dataclass(frozen=True)
class Unopenable:
    """A root of nothing."""

    root: bytes

    def node(self, node: Node) -> bytes:
        if node == Node(0, 0):
            return self.root
        raise LookupError("there is nothing below")

    def leaf(self, node: Node) -> bytes:
        raise LookupError("there is nothing below")


@dataclass(frozen=True)
class Committed:
    """Trees whose roots a receipt carries."""

    input: Source
    output: Source


def rows_tree(rows: list[bytes]) -> CommittedRows:
    return CommittedRows(len(rows), rows.__getitem__)


@dataclass(frozen=True)
class Work:
    """One shard's part of one request up to some counts."""

    model: CheatModel
    request: Request
    shape: Shape
    inputs: Inputs
    is_final: bool = True
    """Whether no more is to come."""

    @cached_property
    def honest(self) -> Trace:
        """Of these very inputs."""
        return self.trace()

    def trace(
        self,
        weights: SegmentWeights | None = None,
        inputs: Inputs | None = None,
        sampling_of: Request | None = None,
        lie: Lie | None = None,
    ) -> Trace:
        """By default the honest one."""
        request = sampling_of or self.request
        sampling, seed = request.sampling, request.seed
        weights, inputs = weights or self.model.weights, inputs or self.inputs
        return Trace(weights, self.shape, inputs, sampling, seed, self.model.backend, lie=lie)

    @property
    def last_layer(self) -> int:
        """The segment of the shard's last layer."""
        return self.shape.segments - self.shape.has_exit - 1

    @property
    def exit(self) -> int:
        """The segment of the exit."""
        assert self.shape.has_exit
        return self.shape.segments - 1

    def layers(self) -> range:
        """Segments of the shard's layers."""
        return range(int(self.shape.has_entry), self.last_layer + 1)

    def input_rows(self) -> list[bytes]:
        """What an inner shard received."""
        assert isinstance(self.inputs, CommittedRows)
        return [self.inputs.read(at) for at in range(self.inputs.count)]


def rows_of(trace: Trace) -> list[bytes]:
    """The residual rows that leave the shard, as a trace has them."""
    last = trace.shape.segments - trace.shape.has_exit - 1
    return [trace.row(last, Layer.ADD_MLP, at) for at in range(trace.shape.positions)]


def tokens_of(trace: Trace) -> list[int]:
    """The tokens that a trace samples."""
    exit_, rows = trace.shape.segments - 1, trace.shape.rows(trace.shape.segments - 1, Exit.SAMPLE)
    return [unpack(Kind.SAMPLE, trace.row(exit_, Exit.SAMPLE, row))[0][0] for row in rows]


# ── lies ────────────────────────────────────────────────────────────────────


def rows_instead(shape: Shape, rows: Mapping[Key, bytes], is_consistent: bool = True) -> Lie:
    """These rows instead of those that were computed."""

    def alter(segment: int, tensor: int, part: int, first: int, values: Values) -> None:
        for at in range(len(values)):
            if (data := rows.get((segment, tensor, first + at))) is not None:
                parts = shape.parts(segment, tensor)
                start = sum(one.count * one.kind.size for one in parts[:part])
                end = start + parts[part].count * parts[part].kind.size
                values[at] = np.frombuffer(data[start:end], DTYPES[parts[part].kind])

    return Lie(alter, is_consistent)


def values_changed(
    segment: int,
    tensor: int,
    change: Callable[[int, Values], None],
    part: int | None = None,
    is_consistent: bool = True,
) -> Lie:
    """`change(first row, values)` of one tensor, in all its parts or one."""

    def alter(at: int, which: int, which_part: int, first: int, values: Values) -> None:
        if (at, which) == (segment, tensor) and part in (None, which_part):
            change(first, values)

    return Lie(alter, is_consistent)


def bridged_rows(work: Work, rows: list[bytes]) -> Trace:
    """Honest up to the last addition, which gives other rows."""
    keys = {(work.last_layer, int(Layer.ADD_MLP), at): row for at, row in enumerate(rows)}
    return work.trace(lie=rows_instead(work.shape, keys, is_consistent=False))


def bridged_tokens(work: Work, tokens: list[int]) -> Trace:
    """Honest up to the samples, which are other tokens."""
    first = work.shape.prompt_count - 1
    struct = "<u4"
    keys: dict[Key, bytes] = {}
    for at, token in enumerate(tokens):
        honest = unpack(Kind.SAMPLE, work.honest.row(work.exit, Exit.SAMPLE, first + at))[0]
        if token != honest[0]:
            sample = np.array([token, token // TILE], struct).tobytes() + honest[2].to_bytes(8, "little")
            keys[work.exit, int(Exit.SAMPLE), first + at] = sample
    return work.trace(lie=rows_instead(work.shape, keys, is_consistent=False))


# ── weights ─────────────────────────────────────────────────────────────────


class AlteredWeights(SegmentWeights):
    """What a cheap or broken worker has in memory; what it would open is another matter."""

    def __init__(
        self,
        model: CheatModel,
        *,
        layer: Callable[[int, LayerWeights], LayerWeights] = lambda _, weights: weights,
        head: Callable[[Matrix], Matrix] = lambda head: head,
        tables: Callable[[Tables], Tables] = lambda tables: tables,
    ) -> None:
        super().__init__(model.folder)
        self._alter_layer, self._alter_head, self._alter_tables = layer, head, tables

    @cached_property
    def tables(self) -> Tables:
        return self._alter_tables(super().tables)

    def layer(self, index: int) -> LayerWeights:
        return self._alter_layer(index, super().layer(index))

    def final(self) -> tuple[Gain, Matrix]:
        norm, head = super().final()
        return norm, self._alter_head(head)


def every_matrix(layer: LayerWeights, change: Callable[[Tensor], Tensor]) -> LayerWeights:
    """A layer with the integers of all its matrices changed."""
    names = ("q", "k", "v", "o", "gate", "up", "down")
    return replace(layer, **{name: with_integers(getattr(layer, name), change) for name in names})


def with_integers(matrix: Matrix, change: Callable[[Tensor], Tensor]) -> Matrix:
    return replace(matrix, q=change(matrix.q.clone()))
