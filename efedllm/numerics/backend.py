"""Back ends: one exact product, int16 by int8 into int64, and the self-test that decides whether one may serve.

Some libraries saturate 16-bit partial sums of an int8 product. An honest worker on such a machine would be slashed, so no
back end is trusted by name: it reproduces adversarial operands exactly, or it is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .errors import BackendError
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


TEST_SHAPES = ((1, 1, 1), (1, 64, 8), (2, 127, 9), (1, 1000, 17), (3, 2049, 16), (9, 512, 40), (1, 14337, 5))
"""(T, K, N) of the self-test: both paddings, odd and long lengths, few rows and many."""


def operands(device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """The self-test's (q int16 [T, K], W int8 [N, K]): saturating extremes of both signs, odd and long lengths, random ones."""
    generator = torch.Generator().manual_seed(20250611)
    cases: list[tuple[Tensor, Tensor]] = []
    for count, columns, rows in TEST_SHAPES:

        def uniform(limit: int, *shape: int) -> Tensor:
            return torch.randint(-limit, limit + 1, shape, generator=generator)

        signs = uniform(1, 1, columns).mul_(2).add_(1).clamp_(-1, 1)
        for q, w in (
            (uniform(32512, count, columns), uniform(127, rows, columns)),
            (torch.full((count, columns), 32512), torch.full((rows, columns), 127)),
            (torch.full((count, columns), -32512), torch.full((rows, columns), 127)),
            (signs.expand(count, -1) * 32512, signs.expand(rows, -1) * 127),
            (signs.expand(count, -1) * 32639, signs.expand(rows, -1) * -127),
            (signs.expand(count, -1) * 32640 - 128, signs.expand(rows, -1) * 127),
        ):
            cases.append((q.clamp(-32639, 32639).to(device, torch.int16), w.to(device, torch.int8)))
    return cases


def expected(q: Tensor, w: Tensor) -> list[list[int]]:
    """The product in plain Python integers."""
    return [[sum(a * b for a, b in zip(x, y, strict=True)) for y in w.tolist()] for x in q.tolist()]


def self_test(backend: Backend, device: torch.device | str = "cpu") -> None:
    """Raises BackendError unless `backend` multiplies every operand of the fixed set exactly on `device`."""
    for q, w in operands(torch.device(device)):
        matrix = Matrix(w, torch.ones(w.shape[0], dtype=torch.int32, device=w.device), 16)
        try:
            got = backend.product(q, backend.prepare(matrix)).tolist()
        except RuntimeError as error:
            raise BackendError(f"back end {backend.name} cannot run on {device}: {error}; use exact") from error
        if got != expected(q, w):
            raise BackendError(
                f"back end {backend.name} multiplies wrongly on {device} (rows {len(q)}, length {q.shape[1]}); use exact"
            )


def available() -> Sequence[Backend]:
    """Every back end, the preferred one first."""
    from .exact import Exact
    from .int8 import Int8

    return (Int8(), Exact())


def select(
    name: str | None = None, device: torch.device | str = "cpu", backends: Sequence[Backend] | None = None
) -> Backend:
    """The back end `name`, or without a name the first of `backends` that passes its self-test on `device`.

    Raises BackendError if the named one is unknown or fails, or if none passes.
    """
    candidates = available() if backends is None else backends
    if name is not None:
        candidates = [backend for backend in candidates if backend.name == name]
        if not candidates:
            raise BackendError(f"unknown back end {name!r}; use exact or int8")
    failures = []
    for backend in candidates:
        try:
            self_test(backend, device)
        except BackendError as error:
            failures.append(error)
        else:
            return backend
    raise BackendError("; ".join(str(error) for error in failures))
