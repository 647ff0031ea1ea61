"""The back end `int8`: the library's int8 product on the two int8 halves of every row."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from .backend import Prepared, join, split
from .weights import Matrix

CUDA_ROWS = 24
"""CUDA's int8 product wants more than 16 rows."""

CUDA_MULTIPLE = 8
"""CUDA's int8 product wants dimensions that are multiples of this."""


class Int8:
    """`torch._int_mm`: int8 by int8 into int32; |partial sums| <= 2^14 * K <= 2^30."""

    name = "int8"

    def prepare(self, matrix: Matrix) -> Prepared:
        rows, columns = matrix.q.shape
        if matrix.q.is_cuda:  # column-major, as stored: what the library wants there
            weight = pad(matrix.q, (0, -columns % CUDA_MULTIPLE, 0, -rows % CUDA_MULTIPLE)).t()
        else:  # row-major [K, N] reads weights in order at few rows: 2 to 4 times faster
            weight = matrix.q.t().contiguous()
        return Prepared(weight, matrix.scale.to(torch.int64), matrix.exponent, rows, columns)

    def product(self, q: Tensor, matrix: Prepared) -> Tensor:
        count, x = q.shape[0], split(q)
        if x.is_cuda:
            missing = max(-len(x) % CUDA_MULTIPLE, CUDA_ROWS - len(x))
            x = pad(x, (0, matrix.weight.shape[0] - matrix.columns, 0, missing))
        return join(torch._int_mm(x, matrix.weight)[:, : matrix.rows], count)
