"""Primitives of the integer semantics on torch tensors: shifts, roots, quantisation, scales, tables.

Every function is exact on the ranges it states, makes no decision on the host (so no device is waited for), and gives
the same integers on any device. fp64 appears only where its results are provably exact; each place says why.
"""

from typing import NamedTuple

import torch
from torch import Tensor

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
ACTIVATION = 32512
"""Largest |q| of activations and queries: 127 * 256, so that q = 256*hi + lo with two int8."""
CACHED = 127
"""Largest |q| of keys and values."""
PROBABILITY = 16384
"""Largest |q| of attention weights."""


class Scale(NamedTuple):
    """Stands for `m * 2^-e`, `2^14 <= m < 2^16`. m, e: int64, one shape."""

    m: Tensor
    e: Tensor


def rounded_shift_(x: Tensor, shift: int | Tensor) -> Tensor:
    """`rr(x, shift)`, half up, in place. x: int64; shift: int >= 0, or int64 >= 1 that broadcasts to x -> x.

    |x| < 2^62. A tensor's shift goes in two steps, floors of floors: that needs no rounding constant per element, and
    0 follows by itself from 63 on.
    """
    if isinstance(shift, Tensor):
        return x.bitwise_right_shift_((shift - 1).clamp_(max=63)).add_(1).bitwise_right_shift_(1)
    if shift >= 63:
        return x.zero_()
    return x.add_(1 << (shift - 1)).bitwise_right_shift_(shift) if shift else x


def sat32(x: Tensor) -> Tensor:
    """Saturates to int32, overwriting x. x: int64 -> int32, same shape."""
    return x.clamp_(INT32_MIN, INT32_MAX).to(torch.int32)


def bitlen(x: Tensor) -> Tensor:
    """Number of bits. x: int64, 0 <= x < 2^63, or float64 of integers, 0 <= x <= 2^53 -> int64.

    Clearing every bit below a set one keeps the top bit and leaves a zero after it, so rounding to fp64 cannot carry
    into the next power of two and the exponent field of the double is the answer.
    """
    exact = x if x.dtype == torch.float64 else (x & ~(x >> 1)).to(torch.float64)
    return ((exact.view(torch.int64) >> 52) - 1022).clamp_(min=0)


def isqrt(x: Tensor) -> Tensor:
    """Floor of the square root. x: int64, 0 <= x < 2^62 -> int64 < 2^31.

    Two roundings of fp64 err by less than 2^-52 relatively, that is by less than one: one step either way repairs it.
    """
    r = x.to(torch.float64).sqrt().to(torch.int64)
    r = r - (r * r > x).to(torch.int64)
    return r + ((r + 1) * (r + 1) <= x).to(torch.int64)


def quantise(v: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Quantises int32 along the last dimension; they need no shift (t = 0).

    v: int32 [..., K] -> q: int16 (int8 for limit 127) [..., K], |q| <= limit; M: int64 [...].
    """
    x = v.to(torch.float64)
    m = largest(x)
    return _quotient(x, m, limit), m.squeeze(-1).to(torch.int64)


def quantise_wide(v: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Quantises along the last dimension. v: float64 of integers, |v| < 2^48; shape [..., K].

    -> q: int16 [..., K], |q| <= limit; M: int64 [...]; t: int64 [...].
    """
    m = largest(v)
    q, t = _quantise_by(v, m, limit)
    return q, m.squeeze(-1).to(torch.int64), t.squeeze(-1)


def quantise_by(v: Tensor, maxima: Tensor, limit: int) -> Tensor:
    """Quantises with maxima that are known already. v: float64 of integers, |v| < 2^48; maxima: int64, the shape of v
    but for a last dimension of 1 -> q: int16 (int8 for limit 127), the shape of v."""
    return _quantise_by(v, maxima.to(torch.float64), limit)[0]


def _quantise_by(v: Tensor, m: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    t = (bitlen(m) - 32).clamp_(min=0)
    down = power(-t)  # products with a power of two are exact, and so is the floor
    return _quotient((v * down).floor_(), (m * down).floor_(), limit), t


def largest(v: Tensor) -> Tensor:
    """`M = max(1, max |v|)` over the last dimension, kept as size 1. v: float64 -> float64."""
    return v.abs().amax(-1, keepdim=True).clamp_(min=1.0)


def _quotient(v: Tensor, m: Tensor, limit: int) -> Tensor:
    """`(2 * limit * v + m) // (2 * m)` for |v| <= m < 2^32 (or v = -m - 1), exactly, though in fp64.

    The numerator stays below 2^49 and the denominator below 2^33, so a quotient that is no integer is at least 2^-33
    away from one, while its rounding error is below 2^-36 (|quotient| <= 2^15): it has the floor of the true quotient.
    """
    q = torch.add(m, v, alpha=2 * limit).div_(m * 2.0).floor_()
    return q.to(torch.int8 if limit == CACHED else torch.int16)


def power(exponent: Tensor) -> Tensor:
    """2^exponent, from the bits of a double. exponent: int64 in [-1022, 1023] -> float64."""
    return ((exponent + 1023) << 52).view(torch.float64)


def scale_of(num: Tensor, den: Tensor | int) -> Scale:
    """`num / den` as a scale. num: int64, 1 <= num < 2^56; den: int64 or int, 1 <= den < 2^48."""
    bits = den.bit_length() if isinstance(den, int) else bitlen(den)
    e = 15 + bits - bitlen(num)
    shifted = (num << e.clamp(min=0)) >> (-e).clamp_(min=0)
    return Scale(torch.div(shifted, den, rounding_mode="floor"), e)


def scale_of_maxima(largest: Tensor, limit: int) -> Scale:
    """The scale of Q16 values that were quantised to `limit`. largest: int64, 1 .. 2^31, any shape."""
    m, e = scale_of(largest, limit)
    return Scale(m, e + 16)


def scale_mul(a: Scale, m: int, e: int) -> Scale:
    """The product of scales `a` and the constant (m, e)."""
    p = a.m * m
    large = (p >= 2**30).to(torch.int64)
    return Scale(p >> (14 + 2 * large), a.e + (e - 14) - 2 * large)


def expand_exp2(table: Tensor) -> Tensor:
    """The exp2 table for every fraction of 16 bits: one look-up instead of an interpolation.

    table: int32 [256, 2] -> int32 [65536].
    """
    fraction = torch.arange(256, device=table.device, dtype=torch.int32)
    return (table[:, :1] + ((table[:, 1:] * fraction + 128) >> 8)).flatten()


def exp2neg(d: Tensor, table: Tensor) -> Tensor:
    """2^-d in units of 2^-24. d: int64 >= 0, Q16; table: int32 [256, 2], or [65536] from `expand_exp2` -> int64.

    Values are at most 2^24, so any shift of 25 or more gives the 0 that the semantics asks for.
    """
    expanded = table if table.dim() == 1 else expand_exp2(table)
    value = expanded.index_select(0, (d & 0xFFFF).view(-1)).view(d.shape)
    return value >> (d >> 16).clamp_(max=25)


def sigmoid(x: Tensor, table: Tensor) -> Tensor:
    """Logistic function in units of 2^-24. x: int32, Q16; table: int32 [512, 2] -> int32, 0 .. 2^24."""
    a = x.clamp(-(1 << 20), 1 << 20).abs_()
    at = (a >> 11).view(-1)
    # Entry 512, one and flat, serves everything from 2^20 on. A difference is below 2^17, a fraction below 2^11.
    value, step = torch.nn.functional.pad(table, (0, 0, 0, 1)).unbind(1)
    value[-1] = 1 << 24
    s = step.index_select(0, at).view(x.shape).mul_(a & 2047).add_(1024).bitwise_right_shift_(11)
    s = s.add_(value.index_select(0, at).view(x.shape))
    negative = x >> 31  # 0 or -1: 2^24 - s for negative x, without a branch
    return (s ^ negative).sub_(negative).add_(negative & (1 << 24))
