"""Blocks are accounted for exactly, and a cache gives back what was written."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from efedllm.model.blocks import BLOCK_POSITIONS, BlockPool, blocks_for
from efedllm.model.cache import Cache, CachePool, Entries
from efedllm.model.config import Dimensions
from efedllm.model.errors import CacheFull, ModelError

DIMENSIONS = Dimensions(
    hidden=8, intermediate=8, layers=3, heads=2, kv_heads=2, head_dim=4, vocab=9, context=300, epsilon=1, tied=True
)

OFFSET = 7  # between the contents of two layers


def entries(start: int, count: int) -> Entries:
    """Entries that name their position."""
    at = torch.arange(start, start + count)
    rows = (at % 100).to(torch.int8)[:, None, None].expand(-1, 2, 4)
    return Entries(rows, 1000 + at[:, None].expand(-1, 2), -rows, 2000 + at[:, None].expand(-1, 2))


def grow(cache: Cache, count: int) -> None:
    cache.reserve(count)
    for layer in range(2):
        cache.write(layer, entries(cache.length + OFFSET * layer, count))
    cache.advance(count)


@pytest.mark.parametrize(("positions", "blocks"), [(0, 0), (1, 1), (64, 1), (65, 2), (128, 2)])
def test_blocks_for(positions: int, blocks: int) -> None:
    assert blocks_for(positions) == blocks


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=40))
def test_a_block_has_one_owner(steps: list[tuple[int, int]]) -> None:
    """(owner, count) takes count more; a count above 5 gives everything back."""
    pool = BlockPool(16)
    owned: dict[int, list[int]] = {owner: [] for owner in range(4)}
    for owner, count in steps:
        mine = owned[owner]
        if count > 5:
            pool.give_back(mine)
            owned[owner] = []
        elif count > pool.free:
            with pytest.raises(CacheFull):
                pool.take(count, mine[-1] if mine else None)
        else:
            mine += pool.take(count, mine[-1] if mine else None)
        blocks = [block for held in owned.values() for block in held]
        assert len(set(blocks)) == len(blocks) == 16 - pool.free
        assert set(blocks) <= set(range(16))


def test_blocks_are_neighbours_where_possible() -> None:
    pool = BlockPool(8)
    assert pool.take(2) == [0, 1]
    assert pool.take(3) == [2, 3, 4]
    pool.give_back([0, 1])
    assert pool.take(3) == [5, 6, 7]  # not the shorter gap in front
    assert pool.take(1, after=4) == [0]


def test_giving_a_block_back_twice_is_noticed() -> None:
    pool = BlockPool(2)
    pool.take(2)
    pool.give_back([1])
    with pytest.raises(AssertionError, match="block 1 is not taken"):
        pool.give_back([1])


def test_reads_what_was_written() -> None:
    pool = CachePool(DIMENSIONS, 2, 8)
    one, two = pool.sequence(), pool.sequence()
    for count in (1, 63, 1, 100):  # in turn, so that neither has all its blocks side by side
        grow(one, count)
        grow(two, count + 1)
    for cache, length in ((one, 165), (two, 169)):
        assert cache.length == length
        for layer in range(2):
            for got, wanted in zip(cache.read(layer, length), entries(OFFSET * layer, length), strict=True):
                assert torch.equal(got, wanted)


def test_truncation_frees_blocks_and_keeps_the_rest() -> None:
    pool = CachePool(DIMENSIONS, 2, 4)
    cache = pool.sequence()
    grow(cache, 200)
    cache.truncate(65)
    assert (cache.length, pool.blocks.free) == (65, 2)
    grow(cache, 10)
    assert torch.equal(cache.read(0, 75).key_maxima, entries(0, 75).key_maxima)
    with pytest.raises(ModelError, match="cannot cut a cache of 75 positions to 76"):
        cache.truncate(76)
    cache.release()
    assert (cache.length, pool.blocks.free) == (0, 4)


def test_reserve_changes_nothing_when_it_fails() -> None:
    pool = CachePool(DIMENSIONS, 2, 2)
    cache, other = pool.sequence(), pool.sequence()
    grow(cache, BLOCK_POSITIONS)
    with pytest.raises(CacheFull, match="has 1 free blocks of 64 positions, 2 are needed"):
        cache.reserve(65)
    with pytest.raises(ModelError, match="position 300 is past the model's context of 300 positions"):
        cache.reserve(237)
    other.reserve(64)
    assert pool.blocks.free == 0
    with pytest.raises(CacheFull, match="or start with more than 2 blocks"):
        cache.reserve(1)
    assert cache.length == BLOCK_POSITIONS
