"""Back ends multiply exactly or are refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from efedllm.numerics.backend import AVAILABLE, Backend, check_prepared, select, self_test
from efedllm.numerics.errors import BackendError
from efedllm.numerics.exact import Exact
from efedllm.numerics.int8 import Int8
from efedllm.numerics.prepared import Prepared, join, split
from efedllm.numerics.weights import Matrix

EACH = pytest.mark.parametrize("backend", AVAILABLE, ids=lambda backend: backend.name)


def saturating(x: Tensor, w: Tensor) -> Tensor:
    """int8 [M, K] by int8 [N, K] as processors without VNNI do it: unsigned by signed, pairs saturate to int16."""
    x, w = (torch.nn.functional.pad(part.to(torch.int32), (0, part.shape[-1] % 2)) for part in (x, w))
    terms = (x + 128).unsqueeze(1) * w.unsqueeze(0)
    pairs = terms.unflatten(-1, (-1, 2)).sum(-1).clamp(-(2**15), 2**15 - 1)
    return pairs.sum(-1) - 128 * w.sum(-1)


class Saturating(Exact):
    """Wrong in prepared products, as `torch._int_mm` is on some processors."""

    name = "saturating"

    def prepare(self, matrix: Matrix) -> Prepared:
        return Prepared(matrix.q, matrix.scale.to(torch.int64), matrix.exponent, *matrix.q.shape)

    def product(self, q: Tensor, matrix: Prepared) -> Tensor:
        return join(saturating(split(q), matrix.weight), len(q))


class SaturatingBatches(Exact):
    """Wrong in attention's products only."""

    name = "saturating batches"

    def products(self, q: Tensor, w: Tensor) -> Tensor:
        return torch.stack(
            [join(saturating(split(rows), matrix), len(rows)) for rows, matrix in zip(q, w, strict=True)]
        )


class Unsupported(Exact):
    """Needs what this machine does not have."""

    name = "unsupported"

    def product(self, q: Tensor, matrix: Prepared) -> Tensor:
        raise RuntimeError("no kernel for this device")


def matrix_of(w: Tensor) -> Matrix:
    return Matrix(w, torch.ones(len(w), dtype=torch.int32), 16)


def random_operands(seed: int, count: int, columns: int, rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q = torch.randint(-32639, 32640, (count, columns), generator=generator, dtype=torch.int16)
    return q, torch.randint(-127, 128, (rows, columns), generator=generator, dtype=torch.int8)


@pytest.mark.parametrize("wrong", [Saturating(), SaturatingBatches(), Unsupported()], ids=lambda backend: backend.name)
def test_a_wrong_back_end_is_refused_and_passed_over(wrong: Backend) -> None:
    with pytest.raises(BackendError, match=wrong.name):
        self_test(wrong)
    with pytest.raises(BackendError, match=wrong.name):
        select(wrong.name, backends=(wrong, Exact()))
    assert select(backends=(wrong, Exact())).name == "exact"
    with pytest.raises(BackendError, match=wrong.name):
        select(backends=(wrong,))


def test_the_fake_is_wrong_for_saturation_only() -> None:
    """So that its refusal shows that the self-test saturates, not that the fake is broken."""
    q, w = random_operands(1, 3, 40, 5)
    q, w = q.clamp(-999, 999), w.clamp(-9, 9)
    fake = Saturating()
    assert torch.equal(fake.product(q, fake.prepare(matrix_of(w))), Exact().product(q, Exact().prepare(matrix_of(w))))


@EACH
def test_selected_by_name(backend: Backend) -> None:
    self_test(backend)
    assert select(backend.name).name == backend.name


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(BackendError, match="one of: int8, exact"):
        select("fp4")


@EACH
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (1, 1, 5), (1, 7, 3), (2, 2048, 300), (40, 65, 130), (90, 1, 9), (90, 300, 50), (1, 65536, 3)],
    ids=str,
)
def test_products_equal_plain_integers(backend: Backend, shape: tuple[int, int, int]) -> None:
    q, w = random_operands(2, *shape)
    w[0] = 127
    q[0] = torch.where(torch.arange(shape[1]) % 2 == 0, 32639, -32639).to(torch.int16) if shape[1] < 99 else 32639
    right = q.to(torch.int64) @ w.to(torch.int64).t()
    assert torch.equal(backend.product(q, backend.prepare(matrix_of(w))), right)
    assert torch.equal(backend.products(q.unsqueeze(0), w.unsqueeze(0))[0], right)


@EACH
def test_large_matrices_are_not_kept_wide(backend: Backend) -> None:
    w = torch.zeros(2048, 1024, dtype=torch.int8)
    prepared = backend.prepare(matrix_of(w))
    assert prepared.weight.numel() * prepared.weight.element_size() <= 2 * w.numel()


@EACH
def test_a_prepared_matrix_is_checked(backend: Backend) -> None:
    _, w = random_operands(3, 1, 60, 70)
    prepared = backend.prepare(matrix_of(w.clone()))
    check_prepared(backend, matrix_of(w), prepared)
    w[69, 59] += 1 if w[69, 59] < 0 else -1
    with pytest.raises(BackendError, match=f"{backend.name} multiplies wrongly at 1 x 60 x 70"):
        check_prepared(backend, matrix_of(w), prepared)


@given(st.lists(st.integers(-32639, 32639), min_size=1, max_size=5))
def test_split_and_join(values: list[int]) -> None:
    q = torch.tensor([values, values[::-1]], dtype=torch.int16)
    halves = split(q)
    assert halves.dtype == torch.int8 and halves.shape == (4, len(values))
    assert torch.equal(join(halves, 2), q.to(torch.int64))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("backend", [Int8(), Exact()], ids=lambda backend: backend.name)
def test_self_test_on_cuda(backend: Backend) -> None:
    self_test(backend, "cuda")
