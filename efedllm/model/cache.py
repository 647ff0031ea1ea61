"""KV cache: int8 keys and values and their maxima, per layer and position, in blocks allocated once."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from efedllm.model.blocks import BLOCK_POSITIONS, BlockPool, blocks_for
from efedllm.model.config import Dimensions
from efedllm.model.errors import ModelError


class Entries(NamedTuple):
    """Keys and values of consecutive positions of one layer.

    keys, values: int8 [positions, kv_heads, head_dim]; their maxima: int64 [positions, kv_heads], 1 .. 2^31.
    """

    keys: Tensor
    key_maxima: Tensor
    values: Tensor
    value_maxima: Tensor


class CachePool:
    """Memory for the sequences of a shard: `blocks` blocks of 64 positions over its `layers` layers."""

    def __init__(self, dimensions: Dimensions, layers: int, blocks: int, device: torch.device | str = "cpu") -> None:
        positions = blocks * BLOCK_POSITIONS
        heads, width = dimensions.kv_heads, dimensions.head_dim
        self.context = dimensions.context
        self.blocks = BlockPool(blocks)
        self.layers = [
            Entries(
                torch.zeros(positions, heads, width, dtype=torch.int8, device=device),
                torch.ones(positions, heads, dtype=torch.int64, device=device),
                torch.zeros(positions, heads, width, dtype=torch.int8, device=device),
                torch.ones(positions, heads, dtype=torch.int64, device=device),
            )
            for _ in range(layers)
        ]

    def sequence(self) -> "Cache":
        """The empty cache of a new sequence; it takes blocks as it grows."""
        return Cache(self)


class Cache:
    """One sequence's part of a pool. `length` positions are complete; a step writes behind them, then advances."""

    def __init__(self, pool: CachePool) -> None:
        self._pool = pool
        self._blocks: list[int] = []
        self._places: Tensor | None = None  # of every position in the pool; None while the blocks are neighbours
        self.length = 0

    def reserve(self, count: int) -> None:
        """Make room for `count` more positions.

        Raises ModelError past the model's context, CacheFull without free blocks; the cache is then as before.
        """
        end = self.length + count
        if end > self._pool.context:
            raise ModelError(f"position {end - 1} is past the model's context of {self._pool.context} positions")
        missing = blocks_for(end) - len(self._blocks)
        if missing > 0:
            last = self._blocks[-1] if self._blocks else None
            self._set_blocks(self._blocks + self._pool.blocks.take(missing, last))

    def write(self, layer: int, entries: Entries) -> None:
        """Store the entries of positions `length ..` of a layer; `reserve` has made room."""
        where = self._where(self.length, self.length + len(entries.keys))
        for stored, new in zip(self._pool.layers[layer], entries, strict=True):
            stored[where] = new

    def read(self, layer: int, end: int) -> Entries:
        """Entries of positions `0 .. end` of a layer; without a copy while the blocks are neighbours."""
        where = self._where(0, end)
        return Entries(*(stored[where] for stored in self._pool.layers[layer]))

    def advance(self, count: int) -> None:
        """Count positions that every layer has written."""
        self.length += count

    def truncate(self, length: int) -> None:
        """Forget the positions from `length` on, and free every block that holds none of the others."""
        if not 0 <= length <= self.length:
            raise ModelError(f"cannot cut a cache of {self.length} positions to {length}")
        keep = blocks_for(length)
        self._pool.blocks.give_back(self._blocks[keep:])
        self._set_blocks(self._blocks[:keep])
        self.length = length

    def release(self) -> None:
        """Free everything; the cache is then that of an empty sequence."""
        self.truncate(0)

    def _set_blocks(self, blocks: list[int]) -> None:
        self._blocks = blocks
        self._places = None
        if any(second - first != 1 for first, second in pairwise(blocks)):
            device = self._pool.layers[0].keys.device
            starts = torch.tensor(blocks, device=device).unsqueeze(1) * BLOCK_POSITIONS
            self._places = (starts + torch.arange(BLOCK_POSITIONS, device=device)).flatten()

    def _where(self, start: int, end: int) -> slice | Tensor:
        if self._places is not None:
            return self._places[start:end]
        first = self._blocks[0] * BLOCK_POSITIONS
        return slice(first + start, first + end)
