"""Ops scores, softmax and values of docs/numerics.md in torch, for a chunk of one sequence."""

from typing import NamedTuple

import torch
from torch import Tensor

from . import fixed
from .exact import Exact
from .fixed import CACHED, PROBABILITY, Scale
from .prepared import Backend

EXACT = Exact()

TILE = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Scores held at once: fits a CPU's cache, fills a GPU. The result does not depend on it."""

MASKED = -(2**41)
"""Score of a future position: below every int32, so never the maximum; so far below that its weight is 0."""


def attention(
    query: Tensor,
    scale: Scale,
    keys: Tensor,
    key_maxima: Tensor,
    values: Tensor,
    value_maxima: Tensor,
    first: int,
    table: Tensor,
    backend: Backend = EXACT,
) -> Tensor:
    """Scores, softmax and values of T consecutive positions `first .. first + T` of one sequence.

    query: int16 [T, heads, head_dim] with scale [T, heads]; keys, values: int8 [P, kv_heads, head_dim] with maxima
    int64 [P, kv_heads], P >= first + T (what lies behind is not read); table: exp2, int32 [256, 2], or [65536] as
    `fixed.expand_exp2` makes it once for many calls; backend: multiplies; without one, `exact`.
    -> int32 [T, heads, head_dim], Q16.
    """
    count, heads, _ = query.shape
    end = first + count
    cache = Cache(
        keys[:end].transpose(0, 1),
        fixed.scale_of_maxima(key_maxima[:end].t().unsqueeze(1), CACHED),
        values[:end].permute(1, 2, 0),
        value_maxima[:end].t().unsqueeze(1),
    )
    expanded = table if table.dim() == 1 else fixed.expand_exp2(table)
    step = max(1, TILE.get(query.device.type, TILE["cpu"]) // (heads * end))
    tiles = []
    for start in range(0, count, step):
        part = slice(start, min(count, start + step))
        rows = Scale(scale.m[part], scale.e[part])
        tiles.append(_tile(query[part], rows, cache.until(first + part.stop), expanded, backend))
    return tiles[0] if len(tiles) == 1 else torch.cat(tiles)


class Cache(NamedTuple):
    """What a sequence has cached, kv heads first.

    keys: int8 [kv_heads, P, head_dim] with their scales [kv_heads, 1, P]; values: int8 [kv_heads, head_dim, P] with
    maxima int64 [kv_heads, 1, P].
    """

    keys: Tensor
    key_scale: Scale
    values: Tensor
    maxima: Tensor

    def until(self, end: int) -> "Cache":
        """Positions 0 .. end."""
        m, e = self.key_scale
        return Cache(
            self.keys[:, :end], Scale(m[..., :end], e[..., :end]), self.values[..., :end], self.maxima[..., :end]
        )


def heads_first(x: Tensor, kv_heads: int) -> Tensor:
    """[R, heads, n] -> [kv_heads, heads / kv_heads * R, n]: the rows that meet one kv head, together."""
    rows, heads, _ = x.shape
    group = heads // kv_heads
    return x.reshape(rows, kv_heads, group, -1).permute(1, 2, 0, 3).reshape(kv_heads, group * rows, -1)


def rows_first(x: Tensor, rows: int) -> Tensor:
    """Undoes `heads_first`. x: [kv_heads, group * R, n] -> [R, heads, n], a view."""
    kv_heads, _, width = x.shape
    return x.view(kv_heads, -1, rows, width).permute(2, 0, 1, 3).flatten(1, 2)


def unmasked_scores(query: Tensor, scale: Scale, keys: Tensor, key_scale: Scale, backend: Backend) -> Tensor:
    """Op scores of R rows against all of some positions, also later ones.

    query: int16 [R, heads, head_dim], scale [R, heads]; keys: int8 [kv_heads, P, head_dim], scales [kv_heads, 1, P]
    -> int64 [kv_heads, heads / kv_heads * R, P], within int32.
    """
    kv_heads = len(keys)
    m, e = (heads_first(part.unsqueeze(-1), kv_heads) for part in (scale.m, scale.e - 11))
    s = backend.products(heads_first(query, kv_heads), keys).mul_(m).mul_(key_scale.m)
    # rr by eq + ek - 16 in steps that are never negative (eq >= 12, ek >= 6), floors of floors; |s| < 2^62 before them.
    s = s.bitwise_right_shift_(e).bitwise_right_shift_(key_scale.e - 6)
    return s.add_(1).bitwise_right_shift_(1).clamp_(fixed.INT32_MIN, fixed.INT32_MAX)


def mixed(acc: Tensor, largest: Tensor, total: Tensor) -> Tensor:
    """Op values from the sum of probabilities times values; overwrites `acc`.

    acc: int64 [..., n]; largest: int64 [...], `A` of the probabilities; total: int64 [...], `Z` -> int32 [..., n], Q16.
    """
    m, e = fixed.scale_of(largest, total * CACHED)
    return fixed.sat32(fixed.rounded_shift_(acc.mul_(m.unsqueeze(-1)), e.unsqueeze(-1) + 6))


def _tile(query: Tensor, scale: Scale, cache: Cache, exp2: Tensor, backend: Backend) -> Tensor:
    """The last R positions of `cache`. query: int16 [R, heads, head_dim], scale [R, heads] -> int32, like query."""
    rows, heads, head_dim = query.shape
    kv_heads, end = cache.keys.shape[:2]
    s = unmasked_scores(query, scale, cache.keys, cache.key_scale, backend)
    if rows > 1:
        position = torch.arange(rows, device=s.device)
        group = heads // kv_heads
        s.view(kv_heads, group, rows, end)[..., end - rows :].masked_fill_(position > position.unsqueeze(1), MASKED)
    top = s.amax(-1, keepdim=True)
    w = fixed.exp2neg(s.neg_().add_(top), exp2)
    total = w.sum(-1)
    weighted = fixed.rounded_shift_(w.mul_(cache.maxima), 8)
    p, largest, _ = fixed.quantise_wide(weighted.to(torch.float64), PROBABILITY)
    out = mixed(backend.products(p, cache.values), largest, total)
    return rows_first(out, rows).reshape(rows, heads, head_dim)
