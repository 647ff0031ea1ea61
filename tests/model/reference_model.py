"""The whole model in plain Python integers, one token at a time, from the stored tensors and docs/numerics.md alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from efedllm.model.format import Manifest
from efedllm.model.load import read_manifest
from efedllm.numerics import reference as ref

Row = list[int]


@dataclass
class LayerCache:
    """Per kv head: keys, their maxima, values, their maxima."""

    keys: list[list[Row]] = field(default_factory=list)
    key_maxima: list[Row] = field(default_factory=list)
    values: list[list[Row]] = field(default_factory=list)
    value_maxima: list[Row] = field(default_factory=list)


class ReferenceModel:
    """One sequence on one built model."""

    def __init__(self, folder: Path) -> None:
        self.manifest: Manifest = read_manifest(folder)
        self.d = self.manifest.dimensions
        self._parts: dict[str, Any] = {}
        for file, specs in self.manifest.layout.files.items():
            arrays = load_file(folder / file)
            for spec in specs:
                parts = [arrays[name].tolist() for name in spec.part_names]
                self._parts[spec.name] = (*parts, self.manifest.tensors[spec.name].exponent)
        heads = range(self.d.kv_heads)
        self._caches = [
            LayerCache([[] for _ in heads], [[] for _ in heads], [[] for _ in heads], [[] for _ in heads])
            for _ in range(self.d.layers)
        ]
        self._position = 0

    def step(self, token: int) -> Row:
        """Hidden row behind the last layer for the next position."""
        x = ref.embed(token, *self._parts["embedding"])
        for layer in range(self.d.layers):
            x = self._layer(layer, x)
        self._position += 1
        return x

    def logits(self, x: Row) -> Row:
        head = self._parts["embedding" if self.d.tied else "head"]
        return ref.linear(*self._norm("final_norm", x), *head)

    def sample(self, logits: Row, seed: bytes, temperature: int, top_k: int, top_p: int) -> int:
        return ref.sample(logits, seed, self._position, temperature, top_k, top_p, self._parts["exp2"][0])

    def _norm(self, name: str, x: Row) -> tuple[Row, ref.Scale]:
        return ref.norm(x, *self._parts[name], self.d.epsilon)

    def _layer(self, layer: int, x: Row) -> Row:
        part = f"layers.{layer}."
        exp2, turn = self._parts["exp2"][0], self._parts["rotary"][0][self._position]
        normed = self._norm(part + "attention_norm", x)
        query, key, value = (self._heads(ref.linear(*normed, *self._parts[part + name])) for name in "qkv")
        cache = self._caches[layer]
        for head in range(self.d.kv_heads):
            k, k_largest = ref.quantise_key(ref.rotary(key[head], turn))
            v, v_largest = ref.quantise_value(value[head])
            cache.keys[head].append(k)
            cache.key_maxima[head].append(k_largest)
            cache.values[head].append(v)
            cache.value_maxima[head].append(v_largest)
        mixed: Row = []
        for head, row in enumerate(query):
            kv = head // (self.d.heads // self.d.kv_heads)
            q, scale = ref.quantise_query(ref.rotary(row, turn))
            seen = cache.keys[kv], cache.key_maxima[kv], cache.values[kv], cache.value_maxima[kv]
            mixed += ref.attention(q, scale, *seen, exp2)
        x = ref.add(x, ref.linear(*ref.quantise_row(mixed), *self._parts[part + "o"]))
        normed = self._norm(part + "mlp_norm", x)
        gate, up = (ref.linear(*normed, *self._parts[part + name]) for name in ("gate", "up"))
        y = ref.swiglu(gate, up, self._parts["sigmoid"][0])
        return ref.add(x, ref.linear(*ref.quantise_row(y), *self._parts[part + "down"]))

    def _heads(self, row: Row) -> list[Row]:
        width = self.d.head_dim
        return [row[at : at + width] for at in range(0, len(row), width)]
