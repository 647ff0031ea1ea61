"""Bounds: refused beyond, and at the limits nothing leaves int64 (the reference asserts it) and torch still agrees."""

from typing import Any

import pytest
import torch

from efedllm.numerics import fixed, limits, ops
from efedllm.numerics import reference as ref
from efedllm.numerics.backend import AVAILABLE, Backend
from efedllm.numerics.errors import LimitError
from efedllm.numerics.fixed import Scale
from efedllm.numerics.sampling import sample
from efedllm.numerics.sampling_parameters import SamplingParameters
from efedllm.numerics.tables import exp2_table, sigmoid_table
from efedllm.numerics.weights import Gain, Matrix
from tests.numerics.strategies import EXP2, EXP2_TENSOR, HIGH, LOW, int32, pairs

LARGEST = {
    "hidden": 2**14,
    "heads": 256,
    "kv_heads": 256,
    "head_dim": 256,
    "intermediate": 2**16,
    "vocab": 2**18,
    "context": 2**17,
}
EACH = pytest.mark.parametrize("backend", AVAILABLE, ids=lambda backend: backend.name)


def signs(count: int) -> list[int]:
    return [HIGH if i % 3 else LOW for i in range(count)]


@pytest.mark.parametrize("width", [1, 2, 16, 2**14])
@pytest.mark.parametrize("exponent", [0, 14, 30])
def test_norm_at_the_largest_gain(width: int, exponent: int) -> None:
    largest = min(32767, (1 << (14 + exponent)) // (ref.isqrt(width - 1) + 1))
    limits.check_gain("gain", hidden=width, exponent=exponent, values=(-largest, largest))
    gain = [-largest if i % 5 == 4 else largest for i in range(width)]
    spike = [HIGH] + [0] * (width - 1)
    for x in (signs(width), [LOW] * width, spike, [0] * width, [1] + [0] * (width - 1)):
        for epsilon in (0, limits.MAX_EPSILON):
            q, (m, e) = ref.norm(x, gain, exponent, epsilon)
            assert e >= limits.MIN_ACTIVATION_EXPONENT
            result, scale = ops.norm(int32([x]), Gain(torch.tensor(gain, dtype=torch.int16), exponent), epsilon)
            assert (result[0].tolist(), pairs(scale)) == (q, [(m, e)])


@EACH
def test_linear_at_the_longest_row(backend: Backend) -> None:
    columns = limits.MAX_COLUMNS
    for x in ([LOW] * columns, [HIGH] * columns):
        q, scale = ref.quantise_row(x)
        assert scale[1] >= limits.MIN_ACTIVATION_EXPONENT
        for exponent in limits.MATRIX_EXPONENTS:
            w, mw = [[127] * columns, [-127] * columns], [2**20, 1]
            want = ref.linear(q, scale, w, mw, exponent)
            matrix = backend.prepare(Matrix(torch.tensor(w, dtype=torch.int8), int32(mw), exponent))
            rows = torch.tensor([q], dtype=torch.int16)
            got = ops.linear(rows, Scale(torch.tensor([scale[0]]), torch.tensor([scale[1]])), matrix, backend)
            assert got.tolist() == [want]


def test_scores_at_the_largest_and_smallest_shift() -> None:
    for head_dim in (2, limits.MAX_HEAD_DIM):
        for v, k in ((LOW, LOW), (LOW, HIGH), (1, 1), (1, -1), (LOW, 1)):
            q, scale = ref.quantise_query([v] * head_dim)
            key, largest = ref.quantise_key([k] * head_dim)
            assert scale[1] >= 12 and ref.key_scale(largest)[1] >= 6
            value, value_maximum = ref.quantise_value([k] * head_dim)
            want = ref.attention(q, scale, [key], [largest], [value], [value_maximum], EXP2)
            queries, query_scale = ops.quantise_query(int32([[[v] * head_dim]]))
            keys, values = ops.quantise_key(int32([[[k] * head_dim]])), ops.quantise_value(int32([[[k] * head_dim]]))
            assert ops.attention(queries, query_scale, *keys, *values, 0, EXP2_TENSOR).tolist() == [[want]]


@pytest.mark.parametrize("value", [LOW, 1])
def test_values_at_the_longest_context(value: int) -> None:
    """All weights equal: the largest sum, under the largest and the smallest value maxima."""
    count = limits.MAX_CONTEXT
    head, largest = ref.quantise_value([value, 0])
    w, total = ref.softmax([0] * count, EXP2)
    assert total == 2**41
    want = ref.values(w, total, [head] * count, [largest] * count)
    query, scale = ops.quantise_query(torch.zeros(1, 1, 2, dtype=torch.int32))
    keys, key_maxima = ops.quantise_key(torch.zeros(count, 1, 2, dtype=torch.int32))
    values, maxima = ops.quantise_value(int32([[value, 0]]).expand(count, 1, 2))
    got = ops.attention(query, scale, keys, key_maxima, values, maxima, count - 1, EXP2_TENSOR)
    assert got.tolist() == [[want]]


def test_sampling_at_the_largest_vocabulary() -> None:
    count = limits.MAX_VOCAB
    seed = bytes(range(32))
    for temperature, top_k, top_p in ((656, 0, 65536), (6553600, count - 1, 65535)):
        want = ref.sample([7] * count, seed, 9, temperature, top_k, top_p, EXP2)
        parameters = SamplingParameters(temperature, top_p, top_k)
        assert sample(int32([[7] * count]), [parameters], [seed], [9], EXP2_TENSOR).tolist() == [want]


def test_the_least_temperature_with_the_widest_logits() -> None:
    logits = [LOW, HIGH, 0]
    for temperature in (656, 6553600):
        want = ref.sample(logits, bytes(32), 1, temperature, 0, 65536, EXP2)
        assert sample(int32([logits]), [SamplingParameters(temperature)], [bytes(32)], [1], EXP2_TENSOR).item() == want


def test_the_largest_dimensions_pass() -> None:
    limits.check_dimensions(**LARGEST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 2**14 + 1}, "hidden = 16385"),
        ({"hidden": 0}, "hidden = 0"),
        ({"head_dim": 258}, "head_dim = 258"),
        ({"head_dim": 7}, "head_dim = 7"),
        ({"heads": 257, "kv_heads": 1}, r"heads \* head_dim = 65792"),
        ({"kv_heads": 3}, "kv_heads = 3"),
        ({"kv_heads": 257}, "kv_heads = 257"),
        ({"intermediate": 2**16 + 1}, "intermediate = 65537"),
        ({"vocab": 2**18 + 1}, "vocab = 262145"),
        ({"context": 2**17 + 1}, "context = 131073"),
    ],
)
def test_dimensions_out_of_bounds_are_named(change: dict[str, int], message: str) -> None:
    with pytest.raises(LimitError, match=message):
        limits.check_dimensions(**(LARGEST | change))


MATRIX: dict[str, Any] = {"columns": 2**16, "exponent": 16, "values": (-127, 127), "scales": (1, 2**20)}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"columns": 2**16 + 1},
        {"columns": 0},
        {"exponent": 15},
        {"exponent": 61},
        {"values": (-128, 127)},
        {"scales": (0, 5)},
        {"scales": (1, 2**20 + 1)},
    ],
    ids=str,
)
def test_a_matrix_out_of_bounds_is_named(change: dict[str, Any]) -> None:
    if not change:
        limits.check_matrix("layer 3 q", **MATRIX)
        return
    with pytest.raises(LimitError, match="layer 3 q"):
        limits.check_matrix("layer 3 q", **(MATRIX | change))


@pytest.mark.parametrize(
    ("hidden", "exponent", "values"),
    [
        (2**14, 0, (-128, 129)),
        (2**14, 0, (-129, 5)),
        (16, 31, (0, 1)),
        (16, -1, (0, 1)),
        (1, 0, (0, 16385)),
        (1, 9, (-32768, 0)),
    ],
)
def test_a_gain_out_of_bounds_is_named(hidden: int, exponent: int, values: tuple[int, int]) -> None:
    with pytest.raises(LimitError, match="final norm"):
        limits.check_gain("final norm", hidden=hidden, exponent=exponent, values=values)


def test_epsilon_out_of_bounds_is_named() -> None:
    limits.check_epsilon(2**32)
    for epsilon in (-1, 2**32 + 1):
        with pytest.raises(LimitError, match="epsilon"):
            limits.check_epsilon(epsilon)


def test_tables_other_than_the_right_ones_are_named() -> None:
    limits.check_tables((-(2**14), 2**14), exp2_table(), sigmoid_table())
    limits.check_tables((0, 1), EXP2_TENSOR.tolist(), sigmoid_table())
    with pytest.raises(LimitError, match="rotary"):
        limits.check_tables((0, 2**14 + 1), exp2_table(), sigmoid_table())
    for name in ("exp2", "sigmoid"):
        given = {"exp2": exp2_table(), "sigmoid": sigmoid_table()}
        given[name][100] = (given[name][100][0], given[name][100][1] + 1)
        with pytest.raises(LimitError, match=name):
            limits.check_tables((0, 1), **given)


def test_the_query_constant_is_the_references() -> None:
    for head_dim in range(2, limits.MAX_HEAD_DIM + 1, 2):
        m, e = ref.scale_of(ref.LOG2_E, ref.isqrt(head_dim << 32))
        assert ops.query_constant(head_dim) == (m, e + 16)
        assert fixed.scale_mul(Scale(torch.tensor([2**15]), torch.tensor([14])), m, e + 16).e.item() >= 12
