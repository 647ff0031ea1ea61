"""Back ends: one exact product, int16 by int8 into int64, and the self-test that decides whether one may serve.

Some libraries saturate 16-bit partial sums of an int8 product. An honest worker on such a machine would be slashed, so
no back end is trusted by name: it reproduces adversarial operands exactly, or it is refused.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import BackendError
from .exact import Exact
from .int8 import Int8
from .prepared import Backend, Prepared
from .weights import Matrix

__all__ = ["AVAILABLE", "Backend", "Prepared", "check_prepared", "select", "self_test"]

AVAILABLE: tuple[Backend, ...] = (Int8(), Exact())
"""Every back end, the preferred one first."""

SEED = 20250611
"""Of the random operands: every start tests the same ones."""


TEST_SHAPES = (
    (1, 1, 1),
    (2, 1, 9),
    (1, 64, 8),
    (2, 127, 9),
    (1, 1000, 17),
    (4, 2049, 16),
    (9, 512, 40),
    (1, 14337, 5),
    (5, 4100, 6),
    (70, 129, 24),
    (66, 1, 3),
)
"""(T, K, N) of the self-test: few rows and many, odd and long lengths, every padding."""


def operands(device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """The self-test's (q int16 [T, K], W int8 [N, K]): random ones, and extremes of both signs that saturate."""
    generator = torch.Generator().manual_seed(SEED)
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


def results(backend: Backend, q: Tensor, w: Tensor) -> list[Tensor]:
    """The product in each way inference asks for it: prepared, and as batches with the strides of keys and values."""
    matrix = Matrix(w, torch.ones(w.shape[0], dtype=torch.int32, device=w.device), 16)
    keys = torch.stack((w, w), dim=1).transpose(0, 1)
    values = torch.stack((w.t(), w.t()), dim=1).permute(1, 2, 0)
    twice = torch.stack((q, q))
    batches = [product for cached in (keys, values) for product in backend.products(twice, cached)]
    return [backend.product(q, backend.prepare(matrix)), *batches]


def self_test(backend: Backend, device: torch.device | str = "cpu") -> None:
    """Raises BackendError unless `backend` multiplies every operand of the fixed set exactly on `device`."""
    for q, w in operands(torch.device(device)):
        try:
            products = [product.tolist() for product in results(backend, q, w)]
        except RuntimeError as error:
            raise BackendError(f"back end {backend.name} cannot run on {device}: {error}; use exact") from error
        right = expected(q, w)
        if any(product != right for product in products):
            shape = f"{len(q)} x {q.shape[1]} x {len(w)}"
            raise BackendError(f"back end {backend.name} multiplies wrongly on {device} at {shape}; use exact")


def check_prepared(backend: Backend, matrix: Matrix, prepared: Prepared) -> None:
    """Raises BackendError unless `prepared` multiplies like `matrix` for one and for many saturating rows.

    Libraries choose kernels by shape: a loader that can spare two fp64 products per matrix checks the shapes it serves.
    """
    exact = Exact()
    right = exact.prepare(matrix)
    rows, columns = matrix.q.shape
    generator = torch.Generator().manual_seed(SEED)
    for count in (1, 17):
        signs = torch.randint(0, 2, (count, columns), generator=generator).mul_(2).sub_(1)
        q = (signs * 32512).to(matrix.q.device, torch.int16)
        if not torch.equal(backend.product(q, prepared), exact.product(q, right)):
            raise BackendError(f"back end {backend.name} multiplies wrongly at {count} x {columns} x {rows}; use exact")


def select(
    name: str | None = None, device: torch.device | str = "cpu", backends: Sequence[Backend] = AVAILABLE
) -> Backend:
    """The back end `name`, or without a name the first of `backends` that passes its self-test on `device`.

    Raises BackendError if the named one is unknown or fails, or if none passes.
    """
    candidates = [backend for backend in backends if name is None or backend.name == name]
    if not candidates:
        raise BackendError(f"unknown back end {name!r}; use one of: {', '.join(backend.name for backend in backends)}")
    failures = []
    for backend in candidates:
        try:
            self_test(backend, device)
        except BackendError as error:
            failures.append(error)
        else:
            return backend
    raise BackendError("; ".join(str(error) for error in failures))
