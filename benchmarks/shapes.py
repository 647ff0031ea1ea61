"""Models of a given shape with random weights: how long a computation takes does not depend on what it says."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import torch

from efedllm.model.config import Dimensions
from efedllm.model.format import Manifest
from efedllm.model.layout import Kind, Layout, TensorSpec
from efedllm.model.load import LayerWeights, Loaded
from efedllm.numerics.tables import exp2_table, rotary_table, sigmoid_table
from efedllm.numerics.weights import Gain, Matrix, Tables

if TYPE_CHECKING:
    from transformers import LlamaConfig

THETA = 10000.0
EPSILON = 1e-5
MATRIX_EXPONENT = 31
MATRIX_SCALE = 588_000
"""With values uniform in -127 .. 127 this is a standard deviation of 0.02, the usual initialisation."""


@dataclass(frozen=True)
class Shape:
    """A Llama with an untied head. `context`: positions that caches and tables have room for."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int

    @property
    def dimensions(self) -> Dimensions:
        return Dimensions(
            hidden=self.hidden,
            intermediate=self.intermediate,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            vocab=self.vocab,
            context=self.context,
            epsilon=round(EPSILON * 2**32),
            tied=False,
        )

    @property
    def parameters(self) -> int:
        """Weights, embedding and head included."""
        tensors = Layout(self.dimensions).tensors.values()
        return sum(spec.rows * spec.columns for spec in tensors if spec.kind in (Kind.MATRIX, Kind.GAIN))

    def loaded(self, start: int = 0, end: int | None = None) -> Loaded:
        """Layers `start .. end` in integer form; a tensor's values depend on its name only, so shards fit together."""
        dimensions = self.dimensions
        layout = Layout(dimensions)
        end = self.layers if end is None else end
        tables = (rotary_table(self.context, self.head_dim, THETA), exp2_table(), sigmoid_table())
        types = (torch.int16, torch.int32, torch.int32)
        is_last = end == self.layers
        return Loaded(
            manifest=Manifest(self.name, dimensions, {}, bytes(32), ()),
            start=start,
            end=end,
            tables=Tables(*(torch.tensor(rows, dtype=dtype) for rows, dtype in zip(tables, types, strict=True))),
            embedding=_matrix(layout.tensors["embedding"]) if start == 0 else None,
            layers=tuple(_layer(layout.layer(index)) for index in range(start, end)),
            final_norm=_gain(layout.tensors["final_norm"]) if is_last else None,
            head=_matrix(layout.tensors["head"]) if is_last else None,
        )

    def config(self) -> "LlamaConfig":
        """The same shape for `transformers`."""
        from transformers import LlamaConfig

        return LlamaConfig(
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            vocab_size=self.vocab,
            max_position_embeddings=self.context,
            rms_norm_eps=EPSILON,
            tie_word_embeddings=False,
            bos_token_id=0,
            eos_token_id=0,
        )


HIDDEN_1024 = Shape("hidden 1024", 1024, 2816, 16, 16, 4, 64, 32_000, 1024)
HIDDEN_2048 = Shape("hidden 2048", 2048, 5632, 16, 32, 4, 64, 32_000, 1024)
LLAMA_134M = Shape("134 M Llama", 768, 2048, 12, 12, 12, 64, 32_000, 1024)
SHIPPED = Path(__file__).resolve().parents[1] / "models" / "shakespeare" / "built"
TOY = Shape("toy", 64, 128, 4, 4, 2, 16, 256, 512)


def _layer(specs: tuple[TensorSpec, ...]) -> LayerWeights:
    attention_norm, q, k, v, o, mlp_norm, gate, up, down = specs
    return LayerWeights(
        attention_norm=_gain(attention_norm),
        q=_matrix(q),
        k=_matrix(k),
        v=_matrix(v),
        o=_matrix(o),
        mlp_norm=_gain(mlp_norm),
        gate=_matrix(gate),
        up=_matrix(up),
        down=_matrix(down),
    )


def _matrix(spec: TensorSpec) -> Matrix:
    generator = torch.Generator().manual_seed(crc32(spec.name.encode()))
    q = torch.randint(-127, 128, (spec.rows, spec.columns), dtype=torch.int8, generator=generator)
    scale = torch.randint(MATRIX_SCALE * 3 // 4, MATRIX_SCALE * 5 // 4, (spec.rows,), generator=generator)
    return Matrix(q, scale.to(torch.int32), MATRIX_EXPONENT)


def _gain(spec: TensorSpec) -> Gain:
    """All ones."""
    return Gain(torch.full((spec.columns,), 1 << 14, dtype=torch.int16), 14)
