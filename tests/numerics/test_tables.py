"""Tables are the correctly rounded values, and depend on nothing that a caller can set."""

import decimal
import random

import mpmath
import pytest

from efedllm.numerics.errors import LimitError
from efedllm.numerics.tables import exp2_table, rotary_table, sigmoid_table

PRECISION = 300


def half_up(x: mpmath.mpf) -> int:
    return int(mpmath.floor(x + 0.5))


def steps(entries: list[int]) -> list[tuple[int, int]]:
    return [(entries[i], entries[i + 1] - entries[i]) for i in range(len(entries) - 1)]


def test_exp2() -> None:
    with mpmath.workprec(PRECISION):
        want = [half_up(2**24 * mpmath.power(2, -mpmath.mpf(i) / 256)) for i in range(257)]
    assert exp2_table() == steps(want)
    assert (want[0], want[256]) == (2**24, 2**23)


def test_sigmoid() -> None:
    with mpmath.workprec(PRECISION):
        want = [half_up(2**24 / (1 + mpmath.exp(-mpmath.mpf(i) / 32))) for i in range(513)]
    assert sigmoid_table() == steps(want)
    assert want[0] == 2**23 and want[512] <= 2**24


@pytest.mark.parametrize(
    ("context", "head_dim", "theta"),
    [(1, 2, 10000.0), (40, 8, 1.0), (600, 16, 10000.0), (300, 128, 500000.0), (2000, 6, 1e6), (50, 4, 10000.5)],
)
def test_rotary(context: int, head_dim: int, theta: float) -> None:
    half = head_dim // 2
    table = rotary_table(context, head_dim, theta)
    assert len(table) == context and all(len(row) == head_dim for row in table)
    assert table[0] == [2**14] * half + [0] * half
    positions = {0, context - 1, *random.Random(5).sample(range(context), min(context, 60))}
    with mpmath.workprec(PRECISION):
        for i in range(half):
            base = mpmath.power(mpmath.mpf(theta), -mpmath.mpf(2 * i) / head_dim)
            for p in positions:
                assert table[p][i] == half_up(mpmath.cos(p * base) * 2**14)
                assert table[p][half + i] == half_up(mpmath.sin(p * base) * 2**14)


def test_the_last_position_of_the_longest_context() -> None:
    table = rotary_table(2**17, 2, 10000.0)
    with mpmath.workprec(PRECISION):
        for p in range(2**17 - 50, 2**17):
            assert table[p] == [half_up(mpmath.cos(p) * 2**14), half_up(mpmath.sin(p) * 2**14)]


def test_a_shorter_context_is_a_prefix() -> None:
    assert rotary_table(20, 8, 10000.0) == rotary_table(90, 8, 10000.0)[:20]


def test_a_callers_decimal_context_changes_nothing() -> None:
    want = exp2_table(), sigmoid_table(), rotary_table(9, 8, 10000.0)
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP)):
        assert (exp2_table(), sigmoid_table(), rotary_table(9, 8, 10000.0)) == want


@pytest.mark.parametrize("theta", [0.5, 0.0, -1.0, float("inf"), float("nan")])
def test_theta_out_of_range_is_refused(theta: float) -> None:
    with pytest.raises(LimitError, match="theta"):
        rotary_table(4, 4, theta)
