"""The back end `int8`: the library's int8 product on the two int8 halves of every row."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from .exact import Exact
from .prepared import Prepared, join, split
from .weights import Matrix

CPU_COLUMNS = 2
"""With one column the library's CPU product leaves its result unwritten: a zero column is added."""

CUDA_ROWS = 24
"""CUDA's int8 product wants more than 16 rows."""

CUDA_MULTIPLE = 8
"""CUDA's int8 product wants dimensions that are multiples of this."""


SMALL = 16
"""Below this, or on CUDA (where it would pad and launch once per matrix), a batch goes to fp64."""


class Int8:
    """`torch._int_mm`: int8 by int8 into int32; |partial sums| <= 2^14 * K <= 2^30."""

    name = "int8"

    def prepare(self, matrix: Matrix) -> Prepared:
        rows, columns = matrix.q.shape
        if matrix.q.is_cuda:  # column-major, as stored: what the library wants there
            weight = pad(matrix.q, (0, -columns % CUDA_MULTIPLE, 0, -rows % CUDA_MULTIPLE)).t()
        else:  # row-major [K, N]: at few rows, where reading weights is the cost, 2 to 4 times faster
            weight = pad(matrix.q, (0, max(0, CPU_COLUMNS - columns))).t().contiguous()
        return Prepared(weight, matrix.scale.to(torch.int64), matrix.exponent, rows, columns)

    def product(self, q: Tensor, matrix: Prepared) -> Tensor:
        count, x = q.shape[0], split(q)
        below = max(-len(x) % CUDA_MULTIPLE, CUDA_ROWS - len(x)) if x.is_cuda else 0
        right = matrix.weight.shape[0] - matrix.columns
        if below or right:
            x = pad(x, (0, right, 0, below))
        return join(torch._int_mm(x, matrix.weight)[:, : matrix.rows], count)

    def products(self, q: Tensor, w: Tensor) -> Tensor:
        if w.is_cuda or min(w.shape[1:]) < SMALL:
            return Exact().products(q, w)
        x = split(q)
        out = torch.empty((*x.shape[:2], w.shape[1]), dtype=torch.int32, device=q.device)
        for rows, matrix, into in zip(x, w, out, strict=True):
            torch._int_mm(rows, matrix.t(), out=into)
        return join(out, q.shape[1])
