"""The ops of docs/numerics.md in torch, on a ragged batch of rows: row t belongs to any sequence at any position.

Q16 (int32, value * 2^16): the residual and every linear, rotary, attention and SwiGLU output. T: rows (tokens).
Rows never influence each other, so a batch gives what its rows give one by one.
"""

import math

import torch
from torch import Tensor

from . import fixed
from .attention import attention as attention
from .fixed import ACTIVATION, CACHED, Scale
from .prepared import Backend, Prepared
from .tiles import by_rows
from .weights import Gain, Matrix

LOG2_E = 6196328019
"""round(log2(e) * 2^32)."""


def embed(ids: Tensor, matrix: Matrix) -> Tensor:
    """ids: int64 [T] in [0, N); matrix [N, K] -> int32 [T, K], Q16."""
    rows = matrix.q[ids].to(torch.int64) * matrix.scale[ids].to(torch.int64).unsqueeze(-1)
    return fixed.sat32(fixed.rounded_shift_(rows, matrix.exponent - 16))


def norm(x: Tensor, gain: Gain, epsilon: int) -> tuple[Tensor, Scale]:
    """RMS norm and quantisation in one: the norm's factor only enters the scale.

    x: int32 [T, d], Q16; gain: [d]; epsilon: Q32 -> q: int16 [T, d], scale [T].
    """
    q, m, e = by_rows(lambda rows: _norm(rows, gain, epsilon), x)
    return q, Scale(m, e)


def _norm(x: Tensor, gain: Gain, epsilon: int) -> tuple[Tensor, Tensor, Tensor]:
    exact = x.to(torch.float64)
    top = exact.abs().amax(-1)
    q, largest, _ = fixed.quantise_wide(exact.mul_(gain.g), ACTIVATION)  # products stay below 2^46
    return q, *norm_scale(x, top, largest, gain, epsilon)


def norm_scale(x: Tensor, top: Tensor, largest: Tensor, gain: Gain, epsilon: int) -> Scale:
    """The scale of a norm. x: int32 [T, d], Q16; top: float64 [T], max |x|; largest: int64 [T], `M` of its quantised
    products with the gain -> scale [T]."""
    d = x.shape[-1]
    tx = (fixed.bitlen(top) - 23).clamp_(min=0)
    tq = (fixed.bitlen(largest) - 32).clamp_(min=0)
    reduced = x.to(torch.int64).bitwise_right_shift_(tx.unsqueeze(-1))
    regular = torch.full_like(tx, epsilon * d).bitwise_right_shift_(2 * tx)
    square = regular.add_(reduced.mul_(reduced).sum(-1)).clamp_(min=1)  # < 2^61
    u = (62 - fixed.bitlen(square)) >> 1
    root = fixed.isqrt(square << (2 * u))

    m, e = fixed.scale_of((largest >> tq) * math.isqrt(d << 32), root * ACTIVATION)
    return Scale(m, e.sub_(tq).sub_(u).add_(tx).add_(gain.exponent + 16))


def quantise_rows(x: Tensor) -> tuple[Tensor, Scale]:
    """x: int32 [T, K], Q16 -> q: int16 [T, K], |q| <= 32512, scale [T]."""
    q, largest = by_rows(lambda rows: fixed.quantise(rows, ACTIVATION), x)
    return q, fixed.scale_of_maxima(largest, ACTIVATION)


def linear(q: Tensor, scale: Scale, matrix: Prepared, backend: Backend) -> Tensor:
    """q: int16 [T, K] with scale [T]; matrix [N, K] -> int32 [T, N], Q16."""
    return scaled(backend.product(q, matrix), scale, matrix.scale, matrix.exponent)


def scaled(acc: Tensor, scale: Scale, rows: Tensor, exponent: int) -> Tensor:
    """Scales raw accumulators (of a whole K, or summed over its parts) to Q16; overwrites `acc`.

    acc: int64 [T, N], |acc| < 2^38; scale [T]; rows: int64 [N], row scales; exponent: the matrix's -> int32 [T, N].
    """
    x = fixed.rounded_shift_(acc.mul_(rows), 13).mul_(scale.m.unsqueeze(-1))  # < 2^61; the bounds keep the shift >= 1
    return fixed.sat32(fixed.rounded_shift_(x, scale.e.unsqueeze(-1) + (exponent - 29)))


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
    (y,) = by_rows(lambda g, u: _swiglu(g, u, table), gate, up)
    return y


def _swiglu(gate: Tensor, up: Tensor, table: Tensor) -> tuple[Tensor]:
    silu = fixed.rounded_shift_(gate.to(torch.int64).mul_(fixed.sigmoid(gate, table)), 24)
    return (fixed.sat32(fixed.rounded_shift_(silu.mul_(up), 16)),)
