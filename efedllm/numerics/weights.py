"""Stored tensors of a model, as torch tensors. What they mean: docs/numerics.md, "Stored form of weights"."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Matrix:
    """`W[n, k] ~ q[n, k] * scale[n] * 2^-exponent`.

    q: int8 [N, K] in [-127, 127]; scale: int32 [N] in [1, 2^20]; exponent in [16, 60].
    """

    q: Tensor
    scale: Tensor
    exponent: int


@dataclass(frozen=True)
class Gain:
    """`gain[k] ~ g[k] * 2^-exponent`. g: int16 [K]; exponent in [0, 30]."""

    g: Tensor
    exponent: int


@dataclass(frozen=True)
class Tables:
    """Tables that came from outside integer arithmetic; they are data, committed with the weights.

    rotary: int16 [context, head_dim], cosines then sines, times 2^14.
    exp2: int32 [256, 2] and sigmoid: int32 [512, 2], values and differences, times 2^24.
    """

    rotary: Tensor
    exp2: Tensor
    sigmoid: Tensor
