"""Attention equals the reference, and no future position, chunk, tile or back end can change it."""

import itertools
import sys
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from efedllm.numerics import fixed, ops
from efedllm.numerics import reference as ref
from efedllm.numerics.backend import AVAILABLE, Backend
from efedllm.numerics.fixed import Scale
from tests.numerics.strategies import EXP2, EXP2_TENSOR, random_rows


class Sequence(NamedTuple):
    """What attention reads for every position of one sequence."""

    query: Tensor
    scale: Scale
    keys: Tensor
    key_maxima: Tensor
    values: Tensor
    value_maxima: Tensor

    @property
    def length(self) -> int:
        return len(self.query)

    def chunk(self, first: int, end: int, backend: Backend = AVAILABLE[-1]) -> Tensor:
        """Attention of positions first .. end, with exactly the cache they may see."""
        scale = Scale(self.scale.m[first:end], self.scale.e[first:end])
        cached = (x[:end] for x in self[2:])
        return ops.attention(self.query[first:end], scale, *cached, first, EXP2_TENSOR, backend)


def sequence(seed: int, length: int, heads: int, kv_heads: int, head_dim: int, bits: int) -> Sequence:
    query, scale = ops.quantise_query(random_rows(seed, length, heads, head_dim, bits=bits))
    keys = ops.quantise_key(random_rows(seed + 1, length, kv_heads, head_dim, bits=bits))
    values = ops.quantise_value(random_rows(seed + 2, length, kv_heads, head_dim, bits=20))
    return Sequence(query, scale, *keys, *values)


def expected(s: Sequence) -> list[list[list[int]]]:
    """The reference, position by position and head by head."""
    heads, kv_heads = s.query.shape[1], s.keys.shape[1]
    result = []
    for p in range(s.length):
        row = []
        for h in range(heads):
            g, seen = h // (heads // kv_heads), slice(0, p + 1)
            scale = int(s.scale.m[p, h]), int(s.scale.e[p, h])
            keys, key_maxima = s.keys[seen, g].tolist(), s.key_maxima[seen, g].tolist()
            values, value_maxima = s.values[seen, g].tolist(), s.value_maxima[seen, g].tolist()
            row.append(ref.attention(s.query[p, h].tolist(), scale, keys, key_maxima, values, value_maxima, EXP2))
        result.append(row)
    return result


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 2, 7, 20]),
    st.sampled_from([(1, 1), (4, 1), (4, 2), (3, 3)]),
    st.sampled_from([2, 8, 16]),
    st.integers(0, 30),
    st.sampled_from(AVAILABLE),
)
def test_equals_the_reference(
    seed: int, length: int, heads: tuple[int, int], head_dim: int, bits: int, backend: Backend
) -> None:
    s = sequence(seed, length, *heads, head_dim, bits)
    assert s.chunk(0, length, backend).tolist() == expected(s)


def test_extremes_equal_the_reference() -> None:
    """Residuals at both ends of int32 and zero vectors, in every place."""
    extremes = torch.tensor([[-(2**31)] * 4, [2**31 - 1] * 4, [0] * 4, [1, 0, 0, 0], [-(2**31), 2**31 - 1, 0, 1]])
    for order in itertools.islice(itertools.permutations(range(5)), 0, 120, 7):
        rows = extremes[list(order)].to(torch.int32).unsqueeze(1)
        query, scale = ops.quantise_query(rows)
        key_rows = rows.roll(1, 0)
        s = Sequence(query, scale, *ops.quantise_key(key_rows), *ops.quantise_value(rows.roll(2, 0)))
        assert s.chunk(0, 5).tolist() == expected(s)


@settings(max_examples=25)
@given(st.data())
def test_chunks_equal_the_whole(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 40))
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1), max_size=6))) if length > 1 else []
    backend = data.draw(st.sampled_from(AVAILABLE))
    s = sequence(data.draw(st.integers(0, 99)), length, 4, 2, 16, 18)
    parts = [s.chunk(a, b, backend) for a, b in itertools.pairwise([0, *cuts, length])]
    assert torch.equal(torch.cat(parts), s.chunk(0, length))


@pytest.mark.parametrize("backend", AVAILABLE, ids=lambda backend: backend.name)
def test_the_future_does_not_exist(backend: Backend) -> None:
    """Later positions inside a chunk, or behind it in the cache, with the largest scores and values there are."""
    s = sequence(5, 40, 4, 2, 16, 18)
    whole = s.chunk(0, 40, backend)
    for p in (0, 1, 17, 38):
        keys, values = s.keys.clone(), s.values.clone()
        key_maxima, value_maxima = s.key_maxima.clone(), s.value_maxima.clone()
        keys[p + 1 :], values[p + 1 :] = 127, -127
        key_maxima[p + 1 :], value_maxima[p + 1 :] = 2**31, 2**31
        spoiled = s._replace(keys=keys, values=values, key_maxima=key_maxima, value_maxima=value_maxima)
        assert torch.equal(spoiled.chunk(0, 40, backend)[: p + 1], whole[: p + 1])
        assert not torch.equal(spoiled.chunk(0, 40, backend)[p + 1], whole[p + 1])
        scale = Scale(s.scale.m[: p + 1], s.scale.e[: p + 1])
        behind = ops.attention(s.query[: p + 1], scale, *spoiled[2:], 0, EXP2_TENSOR, backend)
        assert torch.equal(behind, whole[: p + 1])


def test_tiles_and_table_form_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    s = sequence(6, 33, 4, 2, 16, 18)
    whole = s.chunk(0, 33)
    module = sys.modules["efedllm.numerics.attention"]
    for tile in (1, 4 * 33 * 2, 4 * 33 * 5):
        monkeypatch.setattr(module, "TILE", {"cpu": tile})
        assert torch.equal(s.chunk(0, 33), whole)
    expanded = fixed.expand_exp2(EXP2_TENSOR)
    assert torch.equal(ops.attention(s.query, s.scale, *s[2:], 0, expanded), whole)


def test_scattered_caches_do_not_matter() -> None:
    """Keys and values as views with other strides: what a cache in blocks hands over."""
    s = sequence(7, 30, 4, 2, 16, 18)
    wide = [torch.stack((x, x), dim=-1)[..., 0] for x in s[2:]]
    for backend in AVAILABLE:
        assert torch.equal(ops.attention(s.query, s.scale, *wide, 0, EXP2_TENSOR, backend), s.chunk(0, 30))
