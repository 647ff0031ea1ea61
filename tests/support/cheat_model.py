"""The tiny model that cheats are tried on: odd sizes, rows of two leaves, and ties in every greedy choice."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path

from efedllm.model.build import build
from efedllm.model.load import load
from efedllm.model.segment_weights import SegmentWeights
from efedllm.model.shard import Shard
from efedllm.numerics.backend import select
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.objects import Request
from tests.model.checkpoints import CONFIG, weights, write_checkpoint

CHANGES = {
    "hidden_size": 264,
    "intermediate_size": 276,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "max_position_embeddings": 600,
    "tie_word_embeddings": False,
}
checked = cache(select)
"""A back end; its self-test takes longer than most of what is done with it here."""
TWIN = CONFIG["vocab_size"] // 2
"""Tokens `t` and `t + TWIN` have the same row of the head, so the same logit wherever they are looked at."""


class CheatModel:
    """A built model with what all tries on it share. Not to be altered."""

    def __init__(self, folder: Path, backend: str = "exact") -> None:
        self.folder = folder
        self.backend = checked(backend)
        self._shards: dict[tuple[int, int], Shard] = {}

    @classmethod
    def build(cls, folder: Path) -> CheatModel:
        tensors = weights({**CONFIG, **CHANGES})
        head = tensors["lm_head.weight"]
        head[TWIN:] = head[:TWIN]
        build(str(write_checkpoint(folder / "checkpoint", tensors, **CHANGES)), folder / "model")
        return cls(folder / "model")

    @cached_property
    def weights(self) -> SegmentWeights:
        return SegmentWeights(self.folder)

    @cached_property
    def spec(self) -> ModelSpec:
        return self.weights.spec()

    def shard(self, start: int, end: int) -> Shard:
        """Of an honest worker."""
        if (start, end) not in self._shards:
            self._shards[start, end] = Shard(load(self.folder, start, end), self.backend)
        return self._shards[start, end]

    def shard_of(self, request: Request, at: int) -> Shard:
        return self.shard(request.path[at].start, request.path[at].end)
