"""The compute thread: the only one that touches torch. Sessions hand it steps and await their results."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from efedllm.model.blocks import blocks_for
from efedllm.model.cache import Cache
from efedllm.model.shard import Shard, Slice
from efedllm.numerics.sampling import sample
from efedllm.numerics.sampling_parameters import SamplingParameters
from efedllm.protocol.objects import Request


@dataclass(frozen=True)
class StepResult:
    """`rows`: int32 [count, hidden], little-endian, empty in the last shard; `token`: sampled, if it was asked for."""

    rows: bytes
    token: int | None


class Engine:
    """One shard and its KV memory for `sessions` sequences of full context."""

    def __init__(self, shard: Shard, sessions: int) -> None:
        self.shard = shard
        self._pool = shard.cache_pool(sessions * blocks_for(shard.dimensions.context))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")

    def sequence(self) -> Cache:
        return self._pool.sequence()

    async def step(
        self, cache: Cache, inputs: list[int] | bytes | memoryview, request: Request, sample_position: int | None
    ) -> StepResult:
        """Pass token ids (first shard) or rows through the layers; sample for `sample_position` if given."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._step, cache, inputs, request, sample_position
        )

    def _step(
        self, cache: Cache, inputs: list[int] | bytes | memoryview, request: Request, sample_position: int | None
    ) -> StepResult:
        if isinstance(inputs, list):
            rows = torch.tensor(inputs, dtype=torch.int64)
        else:
            rows = torch.frombuffer(bytearray(inputs), dtype=torch.int32).view(-1, self.shard.dimensions.hidden)
        hidden = self.shard.forward([Slice(cache, len(rows))], rows)
        if not self.shard.is_last:
            return StepResult(hidden.cpu().numpy().tobytes(), None)
        if sample_position is None:
            return StepResult(b"", None)
        asked = request.sampling
        parameters = SamplingParameters(temperature=asked.temperature, top_p=asked.topP, top_k=asked.topK)
        logits = self.shard.logits(hidden[-1:])
        token = int(sample(logits, [parameters], [request.seed], [sample_position], self.shard.tables.exp2))
        return StepResult(b"", token)

    async def release(self, cache: Cache) -> None:
        """Give a sequence's memory back, behind any step that still uses it."""
        await asyncio.get_running_loop().run_in_executor(self._thread, cache.release)

    def close(self) -> None:
        self._thread.shutdown()
