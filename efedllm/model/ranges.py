"""The range of every stored value: what a build refuses to write, and a loader to use."""

import numpy as np

from efedllm.model.errors import ModelError
from efedllm.model.layout import Kind
from efedllm.model.stored import TABLE_EXPONENTS, Integers, Stored
from efedllm.numerics.errors import LimitError
from efedllm.numerics.limits import ROTARY_VALUES, check_gain, check_matrix, check_range
from efedllm.numerics.tables import exp2_table, sigmoid_table


def check_ranges(tensor: Stored) -> None:
    """Raises ModelError, naming the tensor, when a value or the exponent could break a bound of the semantics."""
    spec, values, exponent = tensor.spec, tensor.values, tensor.exponent
    try:
        match spec.kind:
            case Kind.MATRIX:
                assert tensor.scales is not None
                scales = _span(tensor.scales)
                check_matrix(spec.name, columns=spec.columns, exponent=exponent, values=_span(values), scales=scales)
            case Kind.GAIN:
                check_gain(spec.name, hidden=spec.columns, exponent=exponent, values=_span(values))
            case Kind.ROTARY:
                check_range(spec.name, *_span(values), ROTARY_VALUES)
            case Kind.EXP2 | Kind.SIGMOID:
                right = exp2_table() if spec.kind is Kind.EXP2 else sigmoid_table()
                if not np.array_equal(values, np.array(right)):
                    raise LimitError(f"{spec.name}: is not the semantics' table; rebuild the model from its checkpoint")
    except LimitError as error:
        raise ModelError(f"tensor {error}") from error
    if exponent != TABLE_EXPONENTS.get(spec.kind, exponent):
        raise ModelError(f"tensor {spec.name}: its exponent is {exponent}, not {TABLE_EXPONENTS[spec.kind]}")


def _span(values: Integers) -> tuple[int, int]:
    return int(values.min()), int(values.max())
