"""A tensor as it lies on disk: integers, a matrix's row scales, an exponent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efedllm.model.errors import ModelError
from efedllm.model.layout import Kind, TensorSpec

Integers = NDArray[np.signedinteger[Any]]

VALUE_DTYPES: Mapping[Kind, np.dtype[Any]] = {
    Kind.MATRIX: np.dtype("|i1"),
    Kind.GAIN: np.dtype("<i2"),
    Kind.ROTARY: np.dtype("<i2"),
    Kind.EXP2: np.dtype("<i4"),
    Kind.SIGMOID: np.dtype("<i4"),
}
SCALE_DTYPE = np.dtype("<i4")
TABLE_EXPONENTS: Mapping[Kind, int] = {Kind.ROTARY: 14, Kind.EXP2: 24, Kind.SIGMOID: 24}
"""Fractional bits of the tables: the exponent in their leaves."""


@dataclass(frozen=True)
class Stored:
    """One tensor. values: of its kind's type, [rows, columns], of a gain [columns]; scales: a matrix's, int32 [rows].

    Raises ModelError, naming the tensor, for another type or shape. Ranges are not looked at here.
    """

    spec: TensorSpec
    values: Integers
    scales: Integers | None
    exponent: int

    def __post_init__(self) -> None:
        self._check("values", self.values, VALUE_DTYPES[self.spec.kind], self.spec.shape)
        if self.spec.kind is Kind.MATRIX:
            self._check("scales", self.scales, SCALE_DTYPE, (self.spec.rows,))

    @property
    def parts(self) -> dict[str, Integers]:
        """Arrays by their names in a safetensors file."""
        arrays = (self.values,) if self.scales is None else (self.values, self.scales)
        return dict(zip(self.spec.part_names, arrays, strict=True))

    def _check(self, what: str, array: Integers | None, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        if array is None or array.dtype != dtype or array.shape != shape:
            found = "missing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise ModelError(f"tensor {self.spec.name}: its {what} are {found}, not {dtype} {list(shape)}")
