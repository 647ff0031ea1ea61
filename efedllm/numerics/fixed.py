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


def rounded_shift(x: Tensor, shift: int | Tensor) -> Tensor:
    """`rr(x, shift)`, half up. x: int64, |x| <= 2^62; shift: int, or int64 that broadcasts to x, >= 0. -> int64."""
    if isinstance(shift, int):
        if shift >= 63:
            return torch.zeros_like(x)
        return (x + (1 << (shift - 1))) >> shift if shift else x
    amount = shift.clamp(max=62)
    half = torch.ones_like(amount) << amount >> 1
    return torch.where(shift > 62, 0, (x + half) >> amount)


def sat32(x: Tensor) -> Tensor:
    """Saturates to int32. x: int64 -> int32, same shape."""
    return x.clamp(INT32_MIN, INT32_MAX).to(torch.int32)


def bitlen(x: Tensor) -> Tensor:
    """Number of bits. x: int64, 0 <= x < 2^63 -> int64.

    Clearing every bit below a set one keeps the top bit and leaves a zero after it, so rounding to fp64 cannot carry
    into the next power of two and the exponent field of the double is the answer.
    """
    sparse = (x & ~(x >> 1)).to(torch.float64)
    return ((sparse.view(torch.int64) >> 52) - 1022).clamp_(min=0)


def isqrt(x: Tensor) -> Tensor:
    """Floor of the square root. x: int64, 0 <= x < 2^62 -> int64 < 2^31.

    Two roundings of fp64 err by less than 2^-52 relatively, that is by less than one: one step either way repairs it.
    """
    r = x.to(torch.float64).sqrt().to(torch.int64)
    r = r - (r * r > x).to(torch.int64)
    return r + ((r + 1) * (r + 1) <= x).to(torch.int64)


def power(exponent: Tensor) -> Tensor:
    """2^exponent as fp64, from the bits of a double. exponent: int64 in [-1022, 1023] -> float64."""
    return ((exponent + 1023) << 52).view(torch.float64)


def maximum(v: Tensor) -> Tensor:
    """`M = max(1, max |v|)` over the last dimension, kept as size 1. v: float64 of integers -> float64."""
    largest: Tensor = torch.linalg.vector_norm(v, ord=float("inf"), dim=-1, keepdim=True)
    return largest.clamp_(min=1.0)


def quantise(v: Tensor, limit: int, wide: bool = False) -> tuple[Tensor, Tensor]:
    """Quantises along the last dimension.

    v: any dtype that holds integers, |v| <= 2^32 - 1, or |v| < 2^48 with `wide`; shape [..., K].
    -> q: int16 (int8 for limit 127) [..., K], |q| <= limit; M: int64 [...].

    fp64 is exact here. v < 2^48 and its product with a power of two are exact, and so is the floor. The numerator stays
    below 2^49 and the denominator below 2^33, so a quotient that is no integer is at least 2^-33 away from one, while
    its rounding error is below 2^-36 (|quotient| <= 2^15): the rounded quotient has the floor of the quotient.
    """
    x = v.to(torch.float64)
    m = maximum(x)
    largest = m.squeeze(-1).to(torch.int64)
    if wide:
        down = power(-(bitlen(largest) - 32).clamp_(min=0)).unsqueeze(-1)
        x = (x * down).floor_()
        m = (m * down).floor_()
    q = (x * float(2 * limit)).add_(m).div_(m * 2.0).floor_()
    return q.to(torch.int8 if limit == CACHED else torch.int16), largest


def scale_of(num: Tensor, den: Tensor | int) -> Scale:
    """`num / den` as a scale. num: int64, 1 <= num < 2^56; den: int64 or int, 1 <= den < 2^48."""
    bits = den.bit_length() if isinstance(den, int) else bitlen(den)
    e = 15 + bits - bitlen(num)
    shifted = (num << e.clamp(min=0)) >> (-e).clamp_(min=0)
    return Scale(torch.div(shifted, den, rounding_mode="floor"), e)


def scale_mul(a: Scale, m: int, e: int) -> Scale:
    """The product of scales `a` and the constant (m, e)."""
    p = a.m * m
    large = (p >= 2**30).to(torch.int64)
    return Scale(p >> (14 + 2 * large), a.e + (e - 14) - 2 * large)


def exp2neg(d: Tensor, table: Tensor) -> Tensor:
    """2^-d in units of 2^-24. d: int64 >= 0, Q16; table: int32 [256, 2] -> int64, <= 2^24.

    Values are at most 2^24, so any shift of 25 or more gives the 0 that the semantics asks for.
    """
    pair = table[(d >> 8) & 255].to(torch.int64)
    value = pair[..., 0] + ((pair[..., 1] * (d & 255) + 128) >> 8)
    return value >> (d >> 16).clamp_(max=25)


def sigmoid(x: Tensor, table: Tensor) -> Tensor:
    """Logistic function in units of 2^-24. x: int64, Q16; table: int32 [512, 2] -> int64, 0 .. 2^24."""
    a = x.abs()
    pair = table[(a >> 11).clamp_(max=511)].to(torch.int64)
    s = pair[..., 0] + ((pair[..., 1] * (a & 2047) + 1024) >> 11)
    s = torch.where(a >= 2**20, 2**24, s)
    return torch.where(x >= 0, s, 2**24 - s)
