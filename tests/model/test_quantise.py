"""Quantising, against the definition in exact fractions, and at its edges."""

from __future__ import annotations

from fractions import Fraction
from math import floor, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from efedllm.model.errors import ModelError
from efedllm.model.layout import Kind, TensorSpec
from efedllm.model.quantise import quantise_epsilon, quantise_gain, quantise_matrix
from efedllm.model.stored import Stored

HALF = Fraction(1, 2)
WEIGHTS = st.floats(-2.0, 2.0, width=32)


def matrix(values: NDArray[np.float64]) -> Stored:
    spec = TensorSpec("w", Kind.MATRIX, *values.shape, "")
    return quantise_matrix(spec, lambda start, end: values[start:end])


def gain(values: list[float]) -> Stored:
    return quantise_gain(TensorSpec("g", Kind.GAIN, 1, len(values), ""), np.array(values))


@given(st.lists(st.lists(WEIGHTS, min_size=4, max_size=4), min_size=1, max_size=5))
def test_matrix_is_as_defined(rows: list[list[float]]) -> None:
    """The scales exactly; a value to half a unit, since fp64 may round a quotient onto a tie."""
    stored = matrix(np.array(rows))
    assert stored.scales is not None
    peaks = [max(abs(Fraction(x)) for x in row) for row in rows]
    largest = max(peaks) / 127
    exponents = [e for e in range(16, 61) if largest * 2**e <= 2**20]
    assert stored.exponent == max(exponents)
    for row, peak, scale, values in zip(rows, peaks, stored.scales.tolist(), stored.values.tolist(), strict=True):
        assert abs(scale - max(1, peak / 127 * 2**stored.exponent)) <= HALF + Fraction(1, 10**9)
        for x, q in zip(row, values, strict=True):
            exact = min(max(Fraction(x) / scale * 2**stored.exponent, Fraction(-127)), Fraction(127))
            assert abs(q - exact) <= HALF + Fraction(1, 10**9)


def test_ties_round_up() -> None:
    row = np.array([[127, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, -126.5, -127]]) / 128
    stored = matrix(row)
    assert stored.exponent == 27 and stored.scales is not None and stored.scales.tolist() == [2**20]
    assert stored.values.tolist() == [[127, 1, 0, 2, -1, 3, -2, -126, -127]]


def test_a_row_whose_scale_is_rounded_down_is_clamped() -> None:
    """1.4 units become a scale of 1, and its largest weights 178 of these: -128 and beyond must not occur."""
    unit = 2.0**-27
    stored = matrix(np.array([[127 / 128, 0.0], [127 * 1.4 * unit, -127 * 1.4 * unit]]))
    assert stored.scales is not None and stored.scales.tolist() == [2**20, 1]
    assert stored.values.tolist() == [[127, 0], [127, -127]]


@pytest.mark.parametrize(
    ("largest", "exponent"), [(2032.0, 16), (1016.0, 17), (1016.1, 16), (127.0 * 2.0**-40, 60), (1e-30, 60), (0.0, 60)]
)
def test_exponents_of_a_matrix(largest: float, exponent: int) -> None:
    assert matrix(np.array([[0.0, -largest]])).exponent == exponent


@pytest.mark.parametrize("value", [2032.1, 1e300])
def test_a_matrix_that_is_too_large(value: float) -> None:
    with pytest.raises(ModelError, match=r"tensor w: its largest weight, .* exceeds 2032"):
        matrix(np.array([[1.0], [value]]))


@pytest.mark.parametrize("value", [np.nan, inf, -inf])
def test_no_numbers(value: float) -> None:
    with pytest.raises(ModelError, match="tensor w: holds NaN or infinity"):
        matrix(np.array([[1.0], [value]]))
    with pytest.raises(ModelError, match="tensor g: holds NaN or infinity"):
        gain([1.0, value])


@given(st.lists(st.floats(-300.0, 300.0, width=32), min_size=1, max_size=8))
def test_gain_is_as_defined(values: list[float]) -> None:
    stored = gain(values)
    largest = max(abs(Fraction(x)) for x in values)
    assert stored.exponent == max(e for e in range(31) if largest * 2**e <= 32767)
    assert stored.values.tolist() == [floor(Fraction(x) * 2**stored.exponent + HALF) for x in values]


def test_edges_of_a_gain() -> None:
    assert gain([32767.0, -0.5, 0.5]).values.tolist() == [32767, 0, 1]
    assert (gain([0.0]).exponent, gain([32767.0]).exponent, gain([16383.6]).exponent) == (30, 0, 0)
    with pytest.raises(ModelError, match="tensor g: its largest entry, 32768, exceeds 32767"):
        gain([1.0, -32768.0])


@pytest.mark.parametrize(("value", "units"), [(1e-5, 42950), (0.0, 0), (1.0, 2**32), (2.0**-33, 1), (1e-6, 4295)])
def test_epsilon(value: float, units: int) -> None:
    assert quantise_epsilon(value) == units


@pytest.mark.parametrize("value", [-1e-9, 1.1, inf, float("nan")])
def test_no_epsilon(value: float) -> None:
    with pytest.raises(ModelError, match=r"rms_norm_eps .* is outside 0 \.\. 1"):
        quantise_epsilon(value)
