"""Tensors 9 to 17 of a layer's trace: attention over blocks of positions."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from efedllm.model.trace_rows import Blank, Rows
from efedllm.numerics import fixed
from efedllm.numerics.attention import heads_first, mixed, rows_first, unmasked_scores
from efedllm.numerics.fixed import CACHED, INT32_MIN, PROBABILITY, Scale
from efedllm.numerics.prepared import Backend
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.trace_tensors import BLOCK, Layer

SCORES_AT_ONCE = 1 << 18
"""They fit a CPU's cache. The result does not depend on it."""


@dataclass(frozen=True)
class Stored:
    """What one layer computes for all positions before it attends to them, filled chunk by chunk.

    queries: int16 [P, heads, head_dim], scales int64 [P, heads]; padded to T blocks of 256 positions, P' = 256 T: keys
    int8 [P', kv_heads, head_dim], maxima int64 [P', kv_heads]; values int8 [T, kv_heads, head_dim, 256], maxima int64
    [T, kv_heads, 256].
    """

    queries: Tensor
    query_scale: Scale
    keys: Tensor
    key_maxima: Tensor
    values: Tensor
    value_maxima: Tensor

    @classmethod
    def empty(cls, model: ModelSpec, positions: int) -> "Stored":
        blocks, heads, kv_heads, head_dim = -(-positions // BLOCK), model.heads, model.kv_heads, model.head_dim
        whole = torch.int64
        return cls(
            queries=torch.zeros(positions, heads, head_dim, dtype=torch.int16),
            query_scale=Scale(*(torch.zeros(positions, heads, dtype=whole) for _ in range(2))),
            keys=torch.zeros(blocks * BLOCK, kv_heads, head_dim, dtype=torch.int8),
            key_maxima=torch.ones(blocks * BLOCK, kv_heads, dtype=whole),
            values=torch.zeros(blocks, kv_heads, head_dim, BLOCK, dtype=torch.int8),
            value_maxima=torch.zeros(blocks, kv_heads, BLOCK, dtype=whole),
        )

    def put_values(self, first: int, values: Tensor, maxima: Tensor) -> None:
        """Of positions `first ..`, all in one block. values: int8 [R, kv_heads, head_dim]; maxima [R, kv_heads]."""
        block, at = divmod(first, BLOCK)
        self.values[block, :, :, at : at + len(values)] = values.permute(1, 2, 0)
        self.value_maxima[block, :, at : at + len(values)] = maxima.t()

    def show_blocks(self, rows: Rows, first: int, end: int) -> None:
        """Puts rows `first .. end` of the value blocks."""
        part = slice(first, end)
        self.value_maxima[part] = rows.put(Layer.VALUE_BLOCKS, 0, first, self.value_maxima[part])
        self.values[part] = rows.put(Layer.VALUE_BLOCKS, 1, first, self.values[part])


class Attention:
    """Attends from rows of one layer to its stored keys and values."""

    def __init__(self, model: ModelSpec, exp2: Tensor, backend: Backend) -> None:
        self._model = model
        self._exp2 = exp2
        self._backend = backend

    def __call__(self, stored: Stored, first: int, count: int, rows: Rows) -> Tensor:
        """Positions `first .. first + count` -> tensor 17: int32 [count, heads * head_dim]."""
        width = self._model.heads * len(stored.keys)
        step = max(1, SCORES_AT_ONCE // width)
        starts = range(first, first + count, step)
        return torch.cat([self._tile(stored, at, min(step, first + count - at), rows) for at in starts])

    def _tile(self, stored: Stored, first: int, count: int, rows: Rows) -> Tensor:
        heads, kv_heads, total = self._model.heads, self._model.kv_heads, len(stored.values)
        # A liar's blocks behind the last position may be anything, and are computed as if they mattered.
        blocks = total if rows.is_altered else (first + count - 1) // BLOCK + 1
        end = blocks * BLOCK
        behind = torch.arange(end) > torch.arange(first, first + count).unsqueeze(1)  # [count, end]
        behind = behind.unsqueeze(1)

        def padded(x: Tensor, constant: int) -> Tensor:
            """[count, heads, blocks, ...] -> the same for all T blocks."""
            if blocks == total:
                return x
            shape = (*x.shape[:2], total - blocks, *x.shape[3:])
            return torch.cat((x, torch.full(shape, constant, dtype=x.dtype)), dim=2)

        def put(tensor: Layer, values: Tensor, constant: int, per_leaf: int = 1) -> Tensor:
            """A tensor of all positions. values: [count, heads, end]; per_leaf: blocks in a leaf."""
            wide = padded(values.view(count, heads, blocks, BLOCK), constant)
            item = constant.to_bytes(wide.element_size(), "little", signed=True)
            mask = np.tile(np.arange(total) >= blocks, heads)
            leaves = mask[: len(mask) // per_leaf * per_leaf].reshape(-1, per_leaf)
            blank = Blank(np.logical_and.reduce(leaves, axis=1), item * BLOCK * per_leaf)
            used = rows.put(tensor, 0, first, wide, blank)
            return used.view(count, heads, end) if rows.is_altered else values

        scale = Scale(*(part[first : first + count] for part in stored.query_scale))
        key_scale = fixed.scale_of_maxima(stored.key_maxima[:end].t().unsqueeze(1), CACHED)
        keys = stored.keys[:end].transpose(0, 1)
        all_scores = unmasked_scores(stored.queries[first : first + count], scale, keys, key_scale, self._backend)
        s = rows_first(all_scores, count).to(torch.int32).masked_fill_(behind, INT32_MIN)
        s = put(Layer.SCORES, s, INT32_MIN)

        maxima = padded(s.view(count, heads, blocks, BLOCK).amax(-1), INT32_MIN)
        maxima = rows.put(Layer.MAXIMA, 0, first, maxima)
        top = rows.put(Layer.MAXIMA, 1, first, maxima.amax(-1))

        distance = (top.to(torch.int64).unsqueeze(-1) - s).clamp_(min=0)
        w = fixed.exp2neg(distance, self._exp2).to(torch.int32).masked_fill_(behind, 0)
        w = put(Layer.WEIGHTS, w, 0)

        sums = padded(w.view(count, heads, blocks, BLOCK).sum(-1), 0)
        sums = rows.put(Layer.SUMS, 0, first, sums)
        total_weight = rows.put(Layer.SUMS, 1, first, sums.sum(-1)).clamp(min=1)

        by_position = stored.value_maxima[:blocks].permute(1, 0, 2).reshape(kv_heads, 1, end)
        weighted = w.to(torch.int64).view(count, kv_heads, -1, end) * by_position
        weighted = fixed.rounded_shift_(weighted, 8).view(count, heads, end)
        largest = padded(weighted.view(count, heads, blocks, BLOCK).amax(-1), 0)
        largest = rows.put(Layer.LARGEST, 0, first, largest)
        scale_maximum = rows.put(Layer.LARGEST, 1, first, largest.amax(-1).clamp_(min=1)).clamp(1, 2**48 - 1)

        p = fixed.quantise_by(weighted.to(torch.float64), scale_maximum.unsqueeze(-1), PROBABILITY)
        p = put(Layer.PROBABILITIES, p, 0, per_leaf=2)

        partial = padded(self._partial_sums(p, stored.values[:blocks]), 0).transpose(2, 3)
        partial = rows.put(Layer.PARTIAL_SUMS, 0, first, partial)  # [count, heads, head_dim, T]
        out = mixed(partial.sum(-1), scale_maximum, total_weight).flatten(1)
        return rows.put(Layer.MIXED, 0, first, out)

    def _partial_sums(self, p: Tensor, values: Tensor) -> Tensor:
        """p: int16 [R, heads, blocks * 256]; values: int8 [blocks, kv_heads, head_dim, 256]
        -> int32 [R, heads, blocks, head_dim]."""
        count, kv_heads = len(p), values.shape[1]
        sums = []
        for block, cached in enumerate(values):
            part = heads_first(p[..., block * BLOCK : (block + 1) * BLOCK], kv_heads)
            sums.append(rows_first(self._backend.products(part, cached), count).to(torch.int32))
        return torch.stack(sums, dim=2)
