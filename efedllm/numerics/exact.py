"""The back end `exact`: floating-point products that are provably integers; right on any hardware."""

import torch
from torch import Tensor

from .prepared import Prepared
from .weights import Matrix

TILE = 1 << 18
"""Weights that are converted to fp64 at once (2 MiB): a large matrix is never held in eight times its size."""

KEPT = 1 << 18
"""Matrices of up to so many weights are kept in fp64 (2 MiB)."""


class Exact:
    """fp64: |q * w| < 2^22 and K <= 2^16, so every partial sum is an integer below 2^38, in any order of summation."""

    name = "exact"

    def prepare(self, matrix: Matrix) -> Prepared:
        rows, columns = matrix.q.shape
        weight = matrix.q.to(torch.float64) if matrix.q.numel() <= KEPT else matrix.q
        return Prepared(weight, matrix.scale.to(torch.int64), matrix.exponent, rows, columns)

    def product(self, q: Tensor, matrix: Prepared) -> Tensor:
        x = q.to(torch.float64)
        if matrix.weight.dtype == torch.float64:
            return (x @ matrix.weight.t()).to(torch.int64)
        out = torch.empty((q.shape[0], matrix.rows), dtype=torch.int64, device=q.device)
        step = max(1, TILE // matrix.columns)
        buffer = torch.empty((min(step, matrix.rows), matrix.columns), dtype=torch.float64, device=q.device)
        for start in range(0, matrix.rows, step):
            part = matrix.weight[start : start + step]
            out[:, start : start + step] = x @ buffer[: len(part)].copy_(part).t()
        return out

    def products(self, q: Tensor, w: Tensor) -> Tensor:
        return torch.bmm(q.to(torch.float64), w.to(torch.float64).transpose(1, 2)).to(torch.int64)
