"""Some consecutive layers of a model, run over integers: what one worker computes.

A step is a ragged batch: rows of several sequences, one after the other. A decoded token is a slice of one row, a chunk
of a prompt a slice of many; a row's result does not depend on the batch, on chunks, or on how layers are split up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from efedllm.model.cache import Cache, CachePool, Entries
from efedllm.model.config import Dimensions
from efedllm.model.errors import ModelError
from efedllm.model.load import LayerWeights, Loaded
from efedllm.numerics import ops
from efedllm.numerics.backend import Backend
from efedllm.numerics.fixed import Scale, expand_exp2
from efedllm.numerics.weights import Gain, Matrix, Tables


@dataclass(frozen=True)
class Slice:
    """The next `count` positions of the sequence in `cache`."""

    cache: Cache
    count: int


@dataclass(frozen=True)
class Step:
    """What every layer of a step needs besides rows. positions: int64 [T], absolute."""

    slices: Sequence[Slice]
    positions: Tensor


class Shard:
    """Layers `start .. end`, with the embedding before layer 0 and the head behind the last layer."""

    def __init__(self, loaded: Loaded, backend: Backend, device: torch.device | str = "cpu") -> None:
        self.manifest = loaded.manifest
        self.dimensions = loaded.manifest.dimensions
        self.start, self.end = loaded.start, loaded.end
        self.device = torch.device(device)
        tables = loaded.tables
        # The exp2 table in its expanded form, which every op takes in the place of the stored one.
        exp2 = expand_exp2(tables.exp2.to(device))
        self.tables = Tables(tables.rotary.to(device), exp2, tables.sigmoid.to(device))
        self._embedding = None if loaded.embedding is None else _matrix_to(loaded.embedding, self.device)
        layers = loaded.layers
        self._layers = [Layer(self.dimensions, weights, self.tables, backend, self.device) for weights in layers]
        self._final_norm = None if loaded.final_norm is None else _gain_to(loaded.final_norm, self.device)
        self._head = None if loaded.head is None else Linear(loaded.head, backend, self.device)

    @property
    def is_first(self) -> bool:
        return self.start == 0

    @property
    def is_last(self) -> bool:
        return self.end == self.dimensions.layers

    def cache_pool(self, blocks: int) -> CachePool:
        """Memory for the sequences that this shard computes."""
        return CachePool(self.dimensions, len(self._layers), blocks, self.device)

    @torch.inference_mode()
    def forward(self, slices: Sequence[Slice], rows: Tensor) -> Tensor:
        """Pass rows through the layers and add their keys and values to the slices' caches.

        rows: the slices' rows in order: int32 hidden [T, hidden] in Q16, or token ids int64 [T] for the first shard
        -> int32 hidden [T, hidden]. Raises ModelError for rows that do not fit, for ids outside the vocabulary, and
        past the context; CacheFull without free blocks. After an error the caches are as before.
        """
        x = self._enter(slices, rows)
        try:
            for part in slices:
                part.cache.reserve(part.count)
            positions = [torch.arange(part.cache.length, part.cache.length + part.count) for part in slices]
            step = Step(slices, torch.cat(positions).to(self.device))
            for index, layer in enumerate(self._layers):
                x = layer(index, step, x)
        except BaseException:
            for part in slices:
                part.cache.truncate(part.cache.length)
            raise
        for part in slices:
            part.cache.advance(part.count)
        return x

    @torch.inference_mode()
    def logits(self, rows: Tensor) -> Tensor:
        """Head of the last shard. rows: int32 [R, hidden] that its `forward` returned -> int32 [R, vocab], Q16."""
        if self._final_norm is None or self._head is None:
            raise ModelError(f"layers {self.start}:{self.end} do not have the head, the last shard has it")
        return self._head(*ops.norm(rows.to(self.device), self._final_norm, self.dimensions.epsilon))

    def _enter(self, slices: Sequence[Slice], rows: Tensor) -> Tensor:
        counts = [part.count for part in slices]
        if not counts or min(counts) < 1 or len({id(part.cache) for part in slices}) != len(counts):
            raise ModelError("a step needs slices of at least one position, each of another sequence")
        hidden, vocab, total = self.dimensions.hidden, self.dimensions.vocab, sum(counts)
        if self._embedding is None:
            if rows.dtype != torch.int32 or rows.shape != (total, hidden):
                raise ModelError(f"hidden states are {rows.dtype} {list(rows.shape)}, not int32 [{total}, {hidden}]")
            return rows.to(self.device)
        if rows.dtype != torch.int64 or rows.shape != (total,):
            raise ModelError(f"token ids are {rows.dtype} {list(rows.shape)}, not int64 [{total}]")
        if wrong := [token for token in rows.tolist() if not 0 <= token < vocab]:
            raise ModelError(f"token id {wrong[0]} is outside this model's 0 .. {vocab - 1}")
        return ops.embed(rows.to(self.device), self._embedding)


class Layer:
    """Attention and feed-forward part, each behind a norm and added to the residual."""

    def __init__(
        self, dimensions: Dimensions, weights: LayerWeights, tables: Tables, backend: Backend, device: torch.device
    ) -> None:
        self._epsilon = dimensions.epsilon
        self._attention_norm = _gain_to(weights.attention_norm, device)
        self._attention = Attention(dimensions, weights, tables, backend, device)
        self._mlp_norm = _gain_to(weights.mlp_norm, device)
        self._feed_forward = FeedForward(weights, tables, backend, device)

    def __call__(self, index: int, step: Step, x: Tensor) -> Tensor:
        """index: of the layer in the caches; x: int32 [T, hidden] -> int32 [T, hidden]."""
        x = ops.add(x, self._attention(index, step, *ops.norm(x, self._attention_norm, self._epsilon)))
        return ops.add(x, self._feed_forward(*ops.norm(x, self._mlp_norm, self._epsilon)))


class Attention:
    """Grouped-query attention over the int8 cache, with rotary positions."""

    def __init__(
        self, dimensions: Dimensions, weights: LayerWeights, tables: Tables, backend: Backend, device: torch.device
    ) -> None:
        self._head_dim = dimensions.head_dim
        self._backend = backend
        self._tables = tables
        self._q, self._k, self._v, self._o = (
            Linear(matrix, backend, device) for matrix in (weights.q, weights.k, weights.v, weights.o)
        )

    def __call__(self, index: int, step: Step, q: Tensor, scale: Scale) -> Tensor:
        """q: int16 [T, hidden] with scale [T] -> int32 [T, hidden]."""
        query = ops.rotary(self._heads(self._q(q, scale)), step.positions, self._tables.rotary)
        key = ops.rotary(self._heads(self._k(q, scale)), step.positions, self._tables.rotary)
        value = self._heads(self._v(q, scale))
        query, query_scale = ops.quantise_query(query)
        entries = Entries(*ops.quantise_key(key), *ops.quantise_value(value))
        out, at = [], 0
        for part in step.slices:
            cache, rows = part.cache, slice(at, at + part.count)
            cache.write(index, Entries(*(tensor[rows] for tensor in entries)))
            seen = cache.read(index, cache.length + part.count)
            scale = Scale(query_scale.m[rows], query_scale.e[rows])
            out.append(ops.attention(query[rows], scale, *seen, cache.length, self._tables.exp2, self._backend))
            at += part.count
        mixed = out[0] if len(out) == 1 else torch.cat(out)
        return self._o(*ops.quantise_rows(mixed.flatten(1)))

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, self._head_dim)


class FeedForward:
    """SwiGLU."""

    def __init__(self, weights: LayerWeights, tables: Tables, backend: Backend, device: torch.device) -> None:
        self._sigmoid = tables.sigmoid
        self._gate, self._up, self._down = (
            Linear(matrix, backend, device) for matrix in (weights.gate, weights.up, weights.down)
        )

    def __call__(self, q: Tensor, scale: Scale) -> Tensor:
        """q: int16 [T, hidden] with scale [T] -> int32 [T, hidden]."""
        y = ops.swiglu(self._gate(q, scale), self._up(q, scale), self._sigmoid)
        return self._down(*ops.quantise_rows(y))


class Linear:
    """A matrix in the form that a back end multiplies by."""

    def __init__(self, matrix: Matrix, backend: Backend, device: torch.device) -> None:
        self._backend = backend
        self._prepared = backend.prepare(_matrix_to(matrix, device))

    def __call__(self, q: Tensor, scale: Scale) -> Tensor:
        """q: int16 [T, columns] with scale [T] -> int32 [T, rows], Q16."""
        return ops.linear(q, scale, self._prepared, self._backend)


def _matrix_to(matrix: Matrix, device: torch.device) -> Matrix:
    return Matrix(matrix.q.to(device), matrix.scale.to(device), matrix.exponent)


def _gain_to(gain: Gain, device: torch.device) -> Gain:
    return Gain(gain.g.to(device), gain.exponent)
