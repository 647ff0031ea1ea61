"""Our model as a contender: a batch of sequences in one process, without a network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from efedllm.model.blocks import blocks_for
from efedllm.model.load import Loaded
from efedllm.model.shard import Shard, Slice
from efedllm.numerics.backend import select
from efedllm.numerics.sampling import sample
from efedllm.numerics.sampling_parameters import SEED_BYTES, SamplingParameters

CHUNK = 128
"""Prompt positions per step, as everywhere else."""


class IntegerModel:
    """Greedy decoding, as the float contenders do it."""

    def __init__(self, loaded: Loaded) -> None:
        self._backend = select()
        self.name = f"ours ({self._backend.name})"
        self.shard = Shard(loaded, self._backend)

    def start(self, prompts: Tensor, positions: int) -> None:
        """Begin one sequence per row of `prompts` (int64 [batch, count]), with room for `positions` each."""
        batch, count = prompts.shape
        pool = self.shard.cache_pool(batch * blocks_for(positions))
        self._caches = [pool.sequence() for _ in range(batch)]
        for at in range(0, count, CHUNK):
            part = prompts[:, at : at + CHUNK]
            slices = [Slice(cache, part.shape[1]) for cache in self._caches]
            rows = self.shard.forward(slices, part.flatten())
        self._tokens = self._sampled(rows.view(batch, -1, rows.shape[-1])[:, -1])

    def step(self) -> None:
        """One more token for every sequence."""
        rows = self.shard.forward([Slice(cache, 1) for cache in self._caches], self._tokens)
        self._tokens = self._sampled(rows)

    def _sampled(self, rows: Tensor) -> Tensor:
        count = len(rows)
        greedy: Sequence[SamplingParameters] = [SamplingParameters()] * count
        places = [cache.length for cache in self._caches]
        return sample(self.shard.logits(rows), greedy, [bytes(SEED_BYTES)] * count, places, self.shard.tables.exp2)


def random_prompts(batch: int, count: int, vocab: int) -> Tensor:
    """int64 [batch, count], the same in every run."""
    return torch.randint(0, vocab, (batch, count), generator=torch.Generator().manual_seed(1))
