"""The back end `int8`: the library's int8 product on the two int8 halves of every row."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from .exact import Exact
from .prepared import Prepared, join, split
from .weights import Matrix

CPU_COLUMNS = 2
"""With one column the library's CPU product leaves its result unwritten: a zero column is added."""

CPU_FEW = 6
"""Up to so many int8 rows go one by one: the library's matrix-vector product streams weights several times faster."""

CPU_SOME = 128
"""Up to so many, weights are the left operand: as they lie in memory, and with more rows than a few. Beyond, turning
the result costs more than that saves."""

CUDA_ROWS = 24
"""CUDA's int8 product wants more than 16 rows."""

MULTIPLE = 8
"""CUDA's int8 product wants dimensions that are multiples of this; a CPU is faster with such a number of rows."""

SMALL = 16
"""Below this, or on CUDA (where it would pad and launch once per matrix), a batch goes to fp64."""


class Int8:
    """`torch._int_mm`: int8 by int8 into int32. |Partial sums| <= 128 * 127 * K < 2^31 over the longest context."""

    name = "int8"

    def prepare(self, matrix: Matrix) -> Prepared:
        rows, columns = matrix.q.shape
        if matrix.q.is_cuda:
            weight = pad(matrix.q, (0, -columns % MULTIPLE, 0, -rows % MULTIPLE))
        else:
            weight = pad(matrix.q, (0, CPU_COLUMNS - columns)) if columns < CPU_COLUMNS else matrix.q.contiguous()
        return Prepared(weight, matrix.scale.to(torch.int64), matrix.exponent, rows, columns)

    def product(self, q: Tensor, matrix: Prepared) -> Tensor:
        count, weight, x = len(q), matrix.weight, split(q)
        right = weight.shape[1] - matrix.columns
        if x.is_cuda:
            x = pad(x, (0, right, 0, max(-len(x) % MULTIPLE, CUDA_ROWS - len(x))))
            return join(torch._int_mm(x, weight.t())[:, : matrix.rows], count)
        if len(x) > CPU_SOME:
            return join(torch._int_mm(pad(x, (0, right)), weight.t()), count)
        if len(x) > CPU_FEW:
            return join(torch._int_mm(weight, pad(x, (0, right, 0, -len(x) % MULTIPLE)).t()).t(), count)
        x = pad(x, (0, right)) if right else x
        out = torch.empty((len(x), matrix.rows), dtype=torch.int32)
        for row, into in zip(x.split(1), out.unsqueeze(2), strict=True):
            torch._int_mm(weight, row.t(), out=into)
        return join(out, count)

    def products(self, q: Tensor, w: Tensor) -> Tensor:
        if w.is_cuda or min(w.shape[1:]) < SMALL:
            return Exact().products(q, w)
        x = split(q)
        out = torch.empty((*x.shape[:2], w.shape[1]), dtype=torch.int32, device=q.device)
        for rows, matrix, into in zip(x, w, out, strict=True):
            torch._int_mm(rows, matrix.t(), out=into)
        return join(out, q.shape[1])
