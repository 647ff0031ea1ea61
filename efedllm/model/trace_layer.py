"""Values of the trace of a layer, each tensor computed from those that docs/trace.md names."""

import torch
from torch import Tensor

from efedllm.model.load import LayerWeights
from efedllm.model.trace_attention import Attention, Stored
from efedllm.model.trace_rows import Rows
from efedllm.numerics import fixed, ops
from efedllm.numerics.fixed import ACTIVATION, CACHED, Scale
from efedllm.numerics.prepared import Backend, Prepared
from efedllm.numerics.weights import Gain, Tables
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.trace_tensors import BLOCK, Layer

VALUES_AT_ONCE = 1 << 20
"""Of the widest row: a chunk of positions stays small however wide the model is."""


def chunk_of(widest: int) -> int:
    """Positions that are computed at once: a divisor of 256, so that no chunk lies in two blocks."""
    count = BLOCK
    while count > 1 and count * widest > VALUES_AT_ONCE:
        count //= 2
    return count


def norm(tensor: int, first: int, x: Tensor, gain: Gain, epsilon: int, rows: Rows) -> tuple[Tensor, Scale]:
    """A norm's two parts. x: int32 [R, d] -> q: int16 [R, d], scale [R]."""
    exact = x.to(torch.float64)
    top = exact.abs().amax(-1)
    product = exact.mul_(gain.g)
    largest = fixed.largest(product).squeeze(-1).to(torch.int64)
    largest, m, e = rows.put_scales(tensor, first, largest, *ops.norm_scale(x, top, largest, gain, epsilon))
    q = fixed.quantise_by(product, largest.unsqueeze(-1), ACTIVATION)
    return rows.put(tensor, 1, first, q), Scale(m, e)


class LayerTrace:
    """One layer with its weights."""

    def __init__(self, model: ModelSpec, weights: LayerWeights, tables: Tables, backend: Backend) -> None:
        self._model = model
        self._weights = weights
        self._tables = tables
        self._backend = backend
        self._attention = Attention(model, fixed.expand_exp2(tables.exp2), backend)
        names = ("q", "k", "v", "o", "gate", "up", "down")
        self._prepared = {name: backend.prepare(getattr(weights, name)) for name in names}
        self.chunk = chunk_of(max(model.hidden, model.intermediate, model.heads * model.head_dim))

    def enter(self, x: Tensor, first: int, stored: Stored, rows: Rows) -> None:
        """Tensors 0 to 8 of positions `first ..`, into what is stored. x: int32 [R, hidden], within one block."""
        positions = torch.arange(first, first + len(x))
        q, scale = norm(Layer.ATTENTION_NORM, first, x, self._weights.attention_norm, self._model.epsilon, rows)
        query = self._linear(Layer.LINEAR_Q, first, q, scale, self._prepared["q"], rows)
        key = self._linear(Layer.LINEAR_K, first, q, scale, self._prepared["k"], rows)
        value = self._linear(Layer.LINEAR_V, first, q, scale, self._prepared["v"], rows)
        query, key = (ops.rotary(self._heads(part), positions, self._tables.rotary) for part in (query, key))
        query = rows.put(Layer.ROTARY_Q, 0, first, query)
        key = rows.put(Layer.ROTARY_K, 0, first, key)

        part = slice(first, first + len(x))
        exact = query.to(torch.float64)
        largest = fixed.largest(exact).squeeze(-1).to(torch.int64)
        constant = ops.query_constant(self._model.head_dim)
        scales = fixed.scale_mul(fixed.scale_of_maxima(largest, ACTIVATION), *constant)
        largest, stored.query_scale.m[part], stored.query_scale.e[part] = rows.put_scales(
            Layer.QUERY, first, largest, *scales
        )
        quantised = fixed.quantise_by(exact, largest.unsqueeze(-1), ACTIVATION)
        stored.queries[part] = rows.put(Layer.QUERY, 1, first, quantised)
        stored.keys[part], stored.key_maxima[part] = self._cached(Layer.KEY, first, key, rows)
        stored.put_values(first, *self._cached(Layer.VALUE, first, self._heads(value), rows))

    def leave(self, x: Tensor, first: int, stored: Stored, rows: Rows) -> Tensor:
        """Tensors 10 to 27 of positions `first ..`; x as for `enter` -> int32 [R, hidden]."""
        mixed = self._attention(stored, first, len(x), rows)
        q, scale = self._quantise(Layer.QUANTISE_MIXED, first, mixed, rows)
        y = self._linear(Layer.LINEAR_O, first, q, scale, self._prepared["o"], rows)
        x = rows.put(Layer.ADD_ATTENTION, 0, first, ops.add(x, y))
        q, scale = norm(Layer.MLP_NORM, first, x, self._weights.mlp_norm, self._model.epsilon, rows)
        gate = self._linear(Layer.LINEAR_GATE, first, q, scale, self._prepared["gate"], rows)
        up = self._linear(Layer.LINEAR_UP, first, q, scale, self._prepared["up"], rows)
        y = rows.put(Layer.SWIGLU, 0, first, ops.swiglu(gate, up, self._tables.sigmoid))
        q, scale = self._quantise(Layer.QUANTISE_SWIGLU, first, y, rows)
        y = self._linear(Layer.LINEAR_DOWN, first, q, scale, self._prepared["down"], rows)
        return rows.put(Layer.ADD_MLP, 0, first, ops.add(x, y))

    def _linear(self, tensor: Layer, first: int, q: Tensor, scale: Scale, matrix: Prepared, rows: Rows) -> Tensor:
        return rows.put(tensor, 0, first, ops.linear(q, scale, matrix, self._backend))

    def _quantise(self, tensor: Layer, first: int, v: Tensor, rows: Rows) -> tuple[Tensor, Scale]:
        exact = v.to(torch.float64)
        largest = fixed.largest(exact).squeeze(-1).to(torch.int64)
        largest, m, e = rows.put_scales(tensor, first, largest, *fixed.scale_of_maxima(largest, ACTIVATION))
        q = fixed.quantise_by(exact, largest.unsqueeze(-1), ACTIVATION)
        return rows.put(tensor, 1, first, q), Scale(m, e)

    def _cached(self, tensor: Layer, first: int, v: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """A key or value. v: int32 [R, kv_heads, head_dim] -> int8, same shape; M: int64 [R, kv_heads]."""
        exact = v.to(torch.float64)
        largest = fixed.largest(exact).squeeze(-1).to(torch.int64)
        largest = rows.put(tensor, 0, first, largest).clamp(min=1)
        return rows.put(tensor, 1, first, fixed.quantise_by(exact, largest.unsqueeze(-1), CACHED)), largest

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, self._model.head_dim)
