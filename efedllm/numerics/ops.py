"""The ops of docs/numerics.md in torch, on a ragged batch of rows: row t belongs to any sequence at any position.

Q16 (int32, value * 2^16): the residual and every linear, rotary, attention and SwiGLU output. T: rows (tokens).
Rows never influence each other, so a batch gives what its rows give one by one.
"""

import math

import torch
from torch import Tensor

from . import fixed
from .backend import Backend, Prepared
from .fixed import ACTIVATION, CACHED, PROBABILITY, Scale
from .weights import Gain, Matrix

LOG2_E = 6196328019
"""round(log2(e) * 2^32)."""


def embed(ids: Tensor, matrix: Matrix) -> Tensor:
    """ids: int64 [T] in [0, N); matrix [N, K] -> int32 [T, K], Q16."""
    rows = matrix.q[ids].to(torch.int64) * matrix.scale[ids].to(torch.int64).unsqueeze(-1)
    return fixed.sat32(fixed.rounded_shift(rows, matrix.exponent - 16))


def norm(x: Tensor, gain: Gain, epsilon: int) -> tuple[Tensor, Scale]:
    """RMS norm and quantisation in one: the norm's factor only enters the scale.

    x: int32 [T, d], Q16; gain: [d]; epsilon: Q32 -> q: int16 [T, d], scale [T].
    """
    d = x.shape[-1]
    product = x.to(torch.float64) * gain.g.to(torch.float64)  # < 2^46, exact
    q, largest = fixed.quantise(product, ACTIVATION, wide=True)
    down = (fixed.bitlen(largest) - 32).clamp_(min=0)

    wide = x.to(torch.int64)
    tx = (fixed.bitlen(wide.abs().amax(-1)) - 23).clamp_(min=0)
    wide = wide >> tx.unsqueeze(-1)
    regular = torch.full_like(tx, epsilon * d) >> (2 * tx)
    square = (wide * wide).sum(-1).add_(regular).clamp_(min=1)  # < 2^61
    u = (62 - fixed.bitlen(square)) >> 1
    root = fixed.isqrt(square << (2 * u))

    m, e = fixed.scale_of((largest >> down) * math.isqrt(d << 32), root * ACTIVATION)
    return q, Scale(m, e - down - u + tx + (gain.exponent + 16))


def quantise_rows(x: Tensor) -> tuple[Tensor, Scale]:
    """x: int32 [T, K], Q16 -> q: int16 [T, K], |q| <= 32512, scale [T]."""
    q, largest = fixed.quantise(x, ACTIVATION)
    return q, scale_of_maxima(largest, ACTIVATION)


def scale_of_maxima(largest: Tensor, limit: int) -> Scale:
    """The scale of Q16 values that were quantised to `limit`. largest: int64, 1 .. 2^31, any shape."""
    m, e = fixed.scale_of(largest, limit)
    return Scale(m, e + 16)


def linear(q: Tensor, scale: Scale, matrix: Prepared, backend: Backend) -> Tensor:
    """q: int16 [T, K] with scale [T]; matrix [N, K] -> int32 [T, N], Q16."""
    return scaled(backend.product(q, matrix), scale, matrix.scale, matrix.exponent)


def scaled(acc: Tensor, scale: Scale, rows: Tensor, exponent: int) -> Tensor:
    """Scales raw accumulators (of a whole K, or summed over its parts) to Q16; overwrites `acc`.

    acc: int64 [T, N], |acc| < 2^38; scale [T]; rows: int64 [N], row scales; exponent: the matrix's -> int32 [T, N].
    """
    # |x| < 2^61 when it is shifted, so a shift of 62 gives 0 as any larger one does; the bounds keep every shift >= 1.
    shift = (scale.e + (exponent - 29)).clamp_(max=62).unsqueeze(-1)
    x = acc.mul_(rows).add_(1 << 12).bitwise_right_shift_(13)
    x = x.mul_(scale.m.unsqueeze(-1)).add_(torch.ones_like(shift) << (shift - 1)).bitwise_right_shift_(shift)
    return fixed.sat32(x)


def rotary(v: Tensor, positions: Tensor, table: Tensor) -> Tensor:
    """v: int32 [T, heads, head_dim], Q16; positions: int64 [T]; table: int16 [context, head_dim] -> like v.

    In fp64: products are below 2^45, sums below 2^47, and a division by 2^14 only moves the binary point.
    """
    half = v.shape[-1] // 2
    turn = table[positions].to(torch.float64).unsqueeze(1)
    cos, sin = turn[..., :half], turn[..., half:]
    x = v.to(torch.float64)
    a, b = x[..., :half], x[..., half:]
    y = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
    y = y.add_(8192.0).mul_(2.0**-14).floor_()
    return y.clamp_(fixed.INT32_MIN, fixed.INT32_MAX).to(torch.int32)


def query_constant(head_dim: int) -> tuple[int, int]:
    """The scale `log2(e) / sqrt(head_dim)` as plain integers (m, e)."""
    den = math.isqrt(head_dim << 32)
    e = 15 - (LOG2_E.bit_length() - den.bit_length())
    m = (LOG2_E << e if e >= 0 else LOG2_E >> -e) // den
    return m, e + 16


def quantise_query(v: Tensor) -> tuple[Tensor, Scale]:
    """Per head; the scale carries `log2(e) / sqrt(head_dim)`, so that scores are logits in base 2.

    v: int32 [T, heads, head_dim], Q16 -> q: int16 [T, heads, head_dim], scale [T, heads].
    """
    q, scale = quantise_rows(v)
    return q, fixed.scale_mul(scale, *query_constant(v.shape[-1]))


def quantise_key(v: Tensor) -> tuple[Tensor, Tensor]:
    """v: int32 [T, kv_heads, head_dim], Q16 -> k: int8, same shape; its maxima M: int64 [T, kv_heads], 1 .. 2^31."""
    return fixed.quantise(v, CACHED)


def quantise_value(v: Tensor) -> tuple[Tensor, Tensor]:
    """v: int32 [T, kv_heads, head_dim], Q16 -> v: int8, same shape; its maxima M: int64 [T, kv_heads], 1 .. 2^31."""
    return fixed.quantise(v, CACHED)


def add(x: Tensor, y: Tensor) -> Tensor:
    """Saturating sum. x, y: int32, one shape -> int32."""
    return fixed.sat32(x.to(torch.int64) + y)


def swiglu(gate: Tensor, up: Tensor, table: Tensor) -> Tensor:
    """`gate * sigmoid(gate) * up`. gate, up: int32 [T, intermediate], Q16; table: int32 [512, 2] -> int32, Q16."""
    g = gate.to(torch.int64)
    silu = fixed.sigmoid(g, table).mul_(g).add_(1 << 23).bitwise_right_shift_(24)
    return fixed.sat32(silu.mul_(up).add_(1 << 15).bitwise_right_shift_(16))


ATTENTION_TILE = {"cpu": 1 << 17, "cuda": 1 << 24}
"""Scores held at once: fits a CPU's cache, fills a GPU. The result does not depend on it."""


def attention(
    query: Tensor,
    scale: Scale,
    keys: Tensor,
    key_maxima: Tensor,
    values: Tensor,
    value_maxima: Tensor,
    first: int,
    table: Tensor,
) -> Tensor:
    """Scores, softmax and values of T consecutive positions `first .. first + T` of one sequence.

    query: int16 [T, heads, head_dim] with scale [T, heads]; keys, values: int8 [P, kv_heads, head_dim] with maxima
    int64 [P, kv_heads], P >= first + T (what lies behind is not read); table: exp2, int32 [256, 2].
    -> int32 [T, heads, head_dim], Q16.
    """
    count, heads, head_dim = query.shape
    kv_heads, end = keys.shape[1], first + count
    group = heads // kv_heads
    # fp64 holds both products exactly: |scores| < 2^30, |values| <= 2^38.
    k = keys[:end].permute(1, 2, 0).to(torch.float64)
    v = values[:end].permute(1, 0, 2).to(torch.float64)
    key_scale = scale_of_maxima(key_maxima[:end].t().unsqueeze(1), CACHED)
    maxima = value_maxima[:end].t().unsqueeze(1)

    def heads_first(x: Tensor) -> Tensor:
        """[R, heads, n] -> [kv_heads, group * R, n]."""
        return x.view(-1, kv_heads, group, x.shape[-1]).permute(1, 2, 0, 3).reshape(kv_heads, -1, x.shape[-1])

    step = max(1, ATTENTION_TILE.get(query.device.type, 1 << 17) // (heads * end))
    blocks = []
    for start in range(0, count, step):
        stop = min(count, start + step)
        seen = first + stop
        q = heads_first(query[start:stop]).to(torch.float64)
        qm, qe = (heads_first(part[start:stop].unsqueeze(-1)) for part in scale)
        s = torch.bmm(q, k[:, :, :seen]).to(torch.int64).mul_(qm).mul_(key_scale.m[:, :, :seen])
        # |s| < 2^62 here, so a shift of 63 gives 0 as any larger one does; the bounds keep every shift >= 2.
        shift = (key_scale.e[:, :, :seen] + (qe - 16)).clamp_(max=63)
        s = s.add_(torch.ones_like(shift) << (shift - 1)).bitwise_right_shift_(shift)
        s = s.clamp_(fixed.INT32_MIN, fixed.INT32_MAX)
        if stop - start > 1:
            rows = torch.arange(first + start, seen, device=s.device).repeat(group).unsqueeze(-1)
            future = torch.arange(seen, device=s.device) > rows
            # Below every int32, so never the maximum; 2^24 and more below it, so its weight is 0.
            s = s.masked_fill_(future, -(2**41))
        w = fixed.exp2neg(s.amax(-1, keepdim=True) - s, table)
        total = w.sum(-1)
        weighted = w.mul_(maxima[:, :, :seen]).add_(128).bitwise_right_shift_(8)
        p, largest = fixed.quantise(weighted, PROBABILITY, wide=True)
        m, e = fixed.scale_of(largest, total * CACHED)
        acc = torch.bmm(p.to(torch.float64), v[:, :seen]).to(torch.int64)
        out = fixed.sat32(fixed.rounded_shift(acc * m.unsqueeze(-1), e.unsqueeze(-1) + 6))
        blocks.append(
            out.view(kv_heads, group, stop - start, head_dim).permute(2, 0, 1, 3).reshape(-1, heads, head_dim)
        )
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)
