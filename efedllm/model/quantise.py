"""From floats to stored integers: the only float arithmetic on weights, as docs/numerics.md ("Building") words it.

Element by element in fp64 with + - * /, rounding and comparison, and no sum: the same integers on any machine. A matrix
is read twice in blocks of rows, so the memory needed is that of a block and of the stored integers, whatever its size.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efedllm.model.errors import ModelError
from efedllm.model.layout import TensorSpec
from efedllm.model.stored import SCALE_DTYPE, VALUE_DTYPES, Stored
from efedllm.numerics.limits import (
    GAIN_EXPONENTS,
    GAIN_VALUES,
    MATRIX_EXPONENTS,
    MATRIX_SCALES,
    MATRIX_VALUES,
)

Floats = NDArray[np.floating[Any]]

MAX_Q = MATRIX_VALUES[1]
MAX_SCALE = MATRIX_SCALES[1]
MAX_GAIN = GAIN_VALUES[1]
LARGEST_WEIGHT = MAX_Q * MAX_SCALE >> MATRIX_EXPONENTS[0]
BLOCK_VALUES = 1 << 20
"""Weights read at once."""


def quantise_matrix(spec: TensorSpec, read: Callable[[int, int], Floats]) -> Stored:
    """Quantise the matrix that `read(start, end)` gives in rows: float [end - start, columns].

    Raises ModelError, naming the tensor, for NaN, infinity or a weight that is too large.
    """
    step = max(1, BLOCK_VALUES // spec.columns)
    blocks = [(start, min(start + step, spec.rows)) for start in range(0, spec.rows, step)]
    largest = np.empty(spec.rows, np.float64)
    for start, end in blocks:
        largest[start:end] = np.abs(_finite(spec, read(start, end))).max(axis=1)
    exponent = _largest_exponent(float(largest.max()) / MAX_Q, MAX_SCALE, MATRIX_EXPONENTS)
    if exponent is None:
        raise ModelError(f"tensor {spec.name}: its largest weight, {largest.max():g}, exceeds {LARGEST_WEIGHT}")
    scales = np.maximum(1.0, np.floor(largest / MAX_Q * 2.0**exponent + 0.5))
    units = (scales * 2.0**-exponent)[:, None]
    values = np.empty((spec.rows, spec.columns), VALUE_DTYPES[spec.kind])
    for start, end in blocks:
        rounded = np.floor(read(start, end).astype(np.float64) / units[start:end] + 0.5)
        values[start:end] = np.clip(rounded, -MAX_Q, MAX_Q)
    return Stored(spec, values, scales.astype(SCALE_DTYPE), exponent)


def quantise_gain(spec: TensorSpec, gain: Floats) -> Stored:
    """gain: float [columns]. Raises ModelError, naming the tensor, for NaN, infinity or an entry that is too large."""
    gain = _finite(spec, gain)
    largest = float(np.abs(gain).max())
    exponent = _largest_exponent(largest, MAX_GAIN, GAIN_EXPONENTS)
    if exponent is None:
        raise ModelError(f"tensor {spec.name}: its largest entry, {largest:g}, exceeds {MAX_GAIN}")
    values = np.floor(gain * 2.0**exponent + 0.5).astype(VALUE_DTYPES[spec.kind])
    return Stored(spec, values, None, exponent)


def quantise_epsilon(epsilon: float) -> int:
    """A norm's epsilon in units of 2^-32. Raises ModelError for one that is no number from 0 to 1."""
    if not 0 <= epsilon <= 1:
        raise ModelError(f"rms_norm_eps {epsilon!r} is outside 0 .. 1")
    return int(np.floor(np.float64(epsilon) * 2.0**32 + 0.5))


def _finite(spec: TensorSpec, values: Floats) -> NDArray[np.float64]:
    block = values.astype(np.float64)
    if not np.isfinite(block).all():
        raise ModelError(
            f"tensor {spec.name}: holds NaN or infinity; the checkpoint is damaged or was not trained well"
        )
    return block


def _largest_exponent(value: float, limit: int, exponents: tuple[int, int]) -> int | None:
    """The largest exponent in the closed range with `value * 2^exponent <= limit`; None if there is none."""
    low, high = exponents
    return next((e for e in range(high, low - 1, -1) if value * 2.0**e <= limit), None)
