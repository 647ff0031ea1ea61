"""Recomputing a shard in bounded memory: one sequence, some rows at a time, at most one model's worth of weights."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from efedllm.model.blocks import blocks_for
from efedllm.model.load import load
from efedllm.model.shard import Shard, Slice
from efedllm.numerics.backend import Backend
from efedllm.numerics.sampling import sample
from efedllm.numerics.sampling_parameters import SamplingParameters
from efedllm.protocol.merkle import row_root
from efedllm.protocol.objects import Request

CHUNK_POSITIONS = 128
"""Rows per step; changes no bit."""
LOGITS_VALUES = 1 << 21
"""Logits at a time: sampling needs some hundred bytes for each."""


class Shelf:
    """Loaded layer ranges, the least recently used one given up first. Holds at most `layers` layers together."""

    def __init__(self, folder: Path, weights_root: bytes, backend: Backend, layers: int) -> None:
        self._folder, self._weights_root, self._backend, self._room = folder, weights_root, backend, layers
        self._shards: OrderedDict[tuple[int, int], Shard] = OrderedDict()

    def take(self, start: int, end: int) -> Shard:
        """Raises ModelError if the weights on disk are not the registered ones."""
        if (start, end) in self._shards:
            self._shards.move_to_end((start, end))
            return self._shards[start, end]
        while self._shards and sum(last - first for first, last in self._shards) + end - start > self._room:
            self._shards.popitem(last=False)
        shard = Shard(load(self._folder, start, end, self._weights_root), self._backend)
        self._shards[start, end] = shard
        return shard


class Recomputer:
    """`check.Compute` over the layers of a built model. Threads wait for each other: weights fit memory once."""

    def __init__(self, shelf: Shelf, chunk_positions: int = CHUNK_POSITIONS) -> None:
        self._shelf, self._chunk_positions = shelf, chunk_positions
        self._lock = threading.Lock()

    def row_roots(self, start: int, end: int, inputs: Sequence[int] | memoryview) -> list[bytes]:
        with self._lock:
            shard = self._shelf.take(start, end)
            size = shard.dimensions.hidden * 4
            roots: list[bytes] = []
            for _, rows in self._outputs(shard, inputs):
                data = rows.cpu().numpy().tobytes()
                roots += [row_root(data[at : at + size]) for at in range(0, len(data), size)]
            return roots

    def rows(self, start: int, end: int, inputs: Sequence[int] | memoryview) -> bytes:
        """What leaves the layers: int32 [positions, hidden], little-endian."""
        with self._lock:
            shard = self._shelf.take(start, end)
            return b"".join(rows.cpu().numpy().tobytes() for _, rows in self._outputs(shard, inputs))

    def sampled(self, start: int, end: int, inputs: Sequence[int] | memoryview, request: Request) -> list[int]:
        with self._lock:
            shard = self._shelf.take(start, end)
            asked = request.sampling
            parameters = SamplingParameters(temperature=asked.temperature, top_p=asked.topP, top_k=asked.topK)
            step = max(1, LOGITS_VALUES // shard.dimensions.vocab)
            tokens: list[int] = []
            for position, rows in self._outputs(shard, inputs):
                for at in range(max(0, request.promptCount - 1 - position), len(rows), step):
                    used = rows[at : at + step]
                    # The token sampled from the row at position p is the one at p + 1.
                    places = range(position + at + 1, position + at + 1 + len(used))
                    options = [parameters] * len(used), [request.seed] * len(used), places
                    tokens += sample(shard.logits(used), *options, shard.tables.exp2).tolist()
            return tokens

    def _outputs(self, shard: Shard, inputs: Sequence[int] | memoryview) -> Iterator[tuple[int, Tensor]]:
        """(first position, int32 rows [count, hidden]) of every chunk."""
        rows = _tensor(inputs, shard.dimensions.hidden)
        cache = shard.cache_pool(blocks_for(len(rows))).sequence()
        for position in range(0, len(rows), self._chunk_positions):
            chunk = rows[position : position + self._chunk_positions]
            yield position, shard.forward([Slice(cache, len(chunk))], chunk)


def _tensor(inputs: Sequence[int] | memoryview, hidden: int) -> Tensor:
    if isinstance(inputs, memoryview):
        return torch.frombuffer(bytearray(inputs), dtype=torch.int32).view(-1, hidden)
    return torch.tensor(inputs, dtype=torch.int64)
