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

    def products(self, q: Tensor, w: Tensor) -> Tensor:
        """The same for a batch of matrices that are used once, of any strides; attention's product.

        q: int16 [B, R, K], |q| <= 32639; w: int8 [B, N, K] -> int64 [B, R, N], newly allocated.
        """
        ...


def split(q: Tensor) -> Tensor:
    """`q = 256 * hi + lo` in int8. q: int16 [..., R, K], |q| <= 32639 -> int8 [..., 2R, K]: all hi, then all lo."""
    return torch.cat((((q + 128) >> 8).to(torch.int8), q.to(torch.int8)), dim=-2)  # a narrowing cast keeps the low byte


def join(rows: Tensor, count: int) -> Tensor:
    """Undoes `split` on products. rows: integers [..., >= 2R, N]; count: R -> int64 [..., R, N]."""
    hi, lo = rows[..., :count, :], rows[..., count : 2 * count, :]
    return hi.to(torch.int64, memory_format=torch.contiguous_format).mul_(256).add_(lo)
