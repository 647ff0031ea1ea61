"""Integers as an adversary would choose them, and what ops need."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from efedllm.numerics import reference as ref
from efedllm.numerics.fixed import Scale
from efedllm.numerics.tables import exp2_table, sigmoid_table

LOW, HIGH = -(2**31), 2**31 - 1
EXP2, SIGMOID = exp2_table(), sigmoid_table()
EXP2_TENSOR = torch.tensor(EXP2, dtype=torch.int32)
SIGMOID_TENSOR = torch.tensor(SIGMOID, dtype=torch.int32)


@st.composite
def rows(draw: st.DrawFn, count: int, width: int) -> list[list[int]]:
    """`count` int32 rows of `width`: of one size, with extremes and zeros strewn in."""
    bound = 1 << draw(st.integers(0, 31))
    value = st.integers(max(LOW, -bound), min(HIGH, bound)) | st.sampled_from([0, 1, -1, LOW, HIGH])
    zero = st.just([0] * width)
    return draw(st.lists(st.lists(value, min_size=width, max_size=width) | zero, min_size=count, max_size=count))


@st.composite
def shaped_rows(draw: st.DrawFn, widths: tuple[int, ...] = (1, 2, 7, 16)) -> list[list[int]]:
    """One to three rows of one of the widths."""
    return draw(rows(draw(st.integers(1, 3)), draw(st.sampled_from(widths))))


def int32(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def pairs(scale: Scale) -> list[ref.Scale]:
    """Scales of a torch result as the reference writes them."""
    return list(zip(scale.m.flatten().tolist(), scale.e.flatten().tolist(), strict=True))


def random_rows(seed: int, *shape: int, bits: int = 20) -> Tensor:
    """int32 of about `bits` bits."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**bits), 2**bits, shape, generator=generator, dtype=torch.int32)
