"""Built models of many shapes, each made once per session of tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from efedllm.model.build import build
from tests.model.checkpoints import write_checkpoint
from tests.support.cheat_model import CheatModel


@dataclass(frozen=True)
class Sizes:
    """Of a model."""

    hidden_size: int = 6
    intermediate_size: int = 5
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    num_key_value_heads: int = 1
    head_dim: int = 2
    vocab_size: int = 258
    max_position_embeddings: int = 300
    tie_word_embeddings: bool = True


SIZES = (
    Sizes(),
    Sizes(hidden_size=33, intermediate_size=1, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=3),
    Sizes(hidden_size=260, intermediate_size=513, head_dim=6, vocab_size=520, tie_word_embeddings=False),
    Sizes(hidden_size=2, num_hidden_layers=1, head_dim=130, vocab_size=257),
    Sizes(hidden_size=16, num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=2, head_dim=4),
)
"""Rows of one and of several leaves, heads over two leaves, one and three heads to a key."""


class ModelShelf:
    """Models by their sizes, in a folder that goes with the shelf."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="efedllm-models-")
        self._build = lru_cache(None)(self._make)

    def take(self, sizes: Sizes, backend: str = "exact") -> CheatModel:
        return CheatModel(self._build(sizes), backend)

    def _make(self, sizes: Sizes) -> Path:
        folder = Path(self._folder.name) / str(SIZES.index(sizes))
        build(str(write_checkpoint(folder / "checkpoint", **sizes.__dict__)), folder / "model")
        return folder / "model"

    def close(self) -> None:
        self._folder.cleanup()
