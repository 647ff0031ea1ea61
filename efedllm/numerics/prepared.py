"""What a back end is: an exact product of int16 rows by a matrix that it has laid out itself."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .weights import Matrix


@dataclass(frozen=True)
class Prepared:
    """A matrix [rows, columns] in the form that one back end multiplies by.

    weight: that form; scale: int64 [rows]; exponent: as stored. Only the back end that prepared it reads `weight`.
    """

    weight: Tensor
    scale: Tensor
    exponent: int
    rows: int
    columns: int


class Backend(Protocol):
    """An exact integer product."""

    @property
    def name(self) -> str: ...

    def prepare(self, matrix: Matrix) -> Prepared:
        """Lays out a matrix on its device, once, when it is loaded."""
        ...

    def product(self, q: Tensor, matrix: Prepared) -> Tensor:
        """`sum_k q[t, k] * W[n, k]`, exactly. q: int16 [T, K], |q| <= 32639 -> int64 [T, N], newly allocated."""
        ...


def split(q: Tensor) -> Tensor:
    """`q = 256 * hi + lo` as stacked int8 rows. q: int16 [T, K], |q| <= 32639 -> int8 [2T, K]: all hi, then all lo."""
    hi = (q + 128) >> 8
    return torch.cat((hi, q - (hi << 8))).to(torch.int8)


def join(rows: Tensor, count: int) -> Tensor:
    """Undoes `split` on products. rows: integers [>= 2T, N]; count: T -> int64 [T, N]."""
    return rows[:count].to(torch.int64).mul_(256).add_(rows[count : 2 * count])
