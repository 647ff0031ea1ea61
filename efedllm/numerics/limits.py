"""The bounds under which no intermediate leaves int64 and no shift is negative, for every int32 residual.

One check per row of the "Bounds" table of docs/numerics.md, and one per stored tensor. Each takes plain integers and
raises LimitError naming the tensor or field. A build checks them, and a loader checks them again.
"""

from collections.abc import Sequence
from math import isqrt

from .errors import LimitError
from .tables import exp2_table, sigmoid_table

SEMANTICS = 1
"""Version of docs/numerics.md that this package implements."""

MAX_HIDDEN = 2**14
MAX_COLUMNS = 2**16
MAX_HEAD_DIM = 256
MAX_CONTEXT = 2**17
MAX_VOCAB = 2**18
MAX_EPSILON = 2**32

MATRIX_VALUES = (-127, 127)
MATRIX_SCALES = (1, 2**20)
MATRIX_EXPONENTS = (16, 60)
GAIN_VALUES = (-32767, 32767)
GAIN_EXPONENTS = (0, 30)
ROTARY_VALUES = (-(2**14), 2**14)

MIN_ACTIVATION_EXPONENT = 14
"""Least exponent of an activation's scale: with a matrix exponent of 16 a linear's last shift is 1."""


def check_range(name: str, low: int, high: int, limits: tuple[int, int]) -> None:
    """Refuses values `low .. high` of `name` that leave `limits`, both inclusive."""
    if low < limits[0] or high > limits[1]:
        raise LimitError(
            f"{name}: {low} .. {high} leaves {limits[0]} .. {limits[1]}; rebuild the model from its checkpoint"
        )


def check_dimensions(
    *, hidden: int, heads: int, kv_heads: int, head_dim: int, intermediate: int, vocab: int, context: int
) -> None:
    """Refuses dimensions that the semantics does not define or that break a bound."""
    for name, value, limit in (
        ("hidden", hidden, MAX_HIDDEN),
        ("heads", heads, MAX_COLUMNS),
        ("kv_heads", kv_heads, heads),
        ("head_dim", head_dim, MAX_HEAD_DIM),
        ("heads * head_dim", heads * head_dim, MAX_COLUMNS),
        ("intermediate", intermediate, MAX_COLUMNS),
        ("vocab", vocab, MAX_VOCAB),
        ("context", context, MAX_CONTEXT),
    ):
        if not 1 <= value <= limit:
            raise LimitError(f"{name} = {value} is not in 1 .. {limit}; exact inference does not cover this model")
    if head_dim % 2:
        raise LimitError(f"head_dim = {head_dim} is odd; rotary needs pairs")
    if heads % kv_heads:
        raise LimitError(
            f"kv_heads = {kv_heads} does not divide heads = {heads}; exact inference does not cover this model"
        )


def check_epsilon(epsilon: int) -> None:
    """epsilon: Q32."""
    check_range("epsilon", epsilon, epsilon, (0, MAX_EPSILON))


def check_matrix(name: str, *, columns: int, exponent: int, values: tuple[int, int], scales: tuple[int, int]) -> None:
    """Refuses a stored matrix [N, columns]; values, scales: (least, largest) of its q and of its row scales."""
    if not 1 <= columns <= MAX_COLUMNS:
        raise LimitError(
            f"{name}: {columns} columns are not in 1 .. {MAX_COLUMNS}; exact inference does not cover this model"
        )
    check_range(f"{name}: exponent", exponent, exponent, MATRIX_EXPONENTS)
    check_range(f"{name}: values", *values, MATRIX_VALUES)
    check_range(f"{name}: scales", *scales, MATRIX_SCALES)


def check_gain(name: str, *, hidden: int, exponent: int, values: tuple[int, int]) -> None:
    """Refuses a gain [hidden] whose norm could have a scale exponent below 14; values: (least, largest) of its g."""
    check_range(f"{name}: exponent", exponent, exponent, GAIN_EXPONENTS)
    check_range(f"{name}: values", *values, GAIN_VALUES)
    largest = max(abs(value) for value in values)
    if (isqrt(hidden - 1) + 1) * largest > 1 << (14 + exponent):
        raise LimitError(
            f"{name}: a gain of {largest} * 2^-{exponent} is too large for hidden = {hidden}; it cannot be served"
        )


def check_tables(rotary: tuple[int, int], exp2: Sequence[Sequence[int]], sigmoid: Sequence[Sequence[int]]) -> None:
    """Refuses tables. rotary: (least, largest) entry; exp2, sigmoid: whole, as they are the same for every model."""
    check_range("rotary table", *rotary, ROTARY_VALUES)
    for name, given, right in (("exp2", exp2, exp2_table()), ("sigmoid", sigmoid, sigmoid_table())):
        if [tuple(entry) for entry in given] != right:
            raise LimitError(
                f"{name} table differs from semantics version {SEMANTICS}; rebuild the model from its checkpoint"
            )
