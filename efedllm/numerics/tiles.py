"""Rows in tiles: elementwise chains on a CPU stay in its cache and off the page-fault path."""

from collections.abc import Callable

import torch
from torch import Tensor

TILE = 1 << 17
"""Elements of an input that a CPU takes at once."""


def by_rows(op: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
    """`op(*inputs)` computed a few rows at a time where that is faster: `op` must treat rows one by one.

    inputs: [T, ...], first of them the widest; op: -> tensors [T, ...].
    """
    rows, step = len(inputs[0]), max(1, TILE * len(inputs[0]) // max(1, inputs[0].numel()))
    if rows <= step or inputs[0].is_cuda:
        return op(*inputs)
    tiles = [op(*(x[start : start + step] for x in inputs)) for start in range(0, rows, step)]
    return tuple(torch.cat(parts) for parts in zip(*tiles, strict=True))
