"""Every op in torch equals the plain-integer reference, for whatever int32 an adversary feeds it."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from efedllm.numerics import fixed, ops
from efedllm.numerics import reference as ref
from efedllm.numerics.backend import AVAILABLE
from efedllm.numerics.tables import rotary_table
from efedllm.numerics.weights import Gain, Matrix
from tests.numerics.strategies import HIGH, LOW, SIGMOID, SIGMOID_TENSOR, int32, pairs, rows, shaped_rows

ROTARY = rotary_table(32, 8, 10000.0)
ROTARY_TENSOR = torch.tensor(ROTARY, dtype=torch.int16)
BIG = st.integers(0, 2**62 - 1) | st.integers(0, 62).flatmap(
    lambda n: st.sampled_from([max(0, (1 << n) + i) for i in (-2, -1, 0, 1)])
)


@given(st.lists(BIG, min_size=1))
def test_bitlen_is_exact(values: list[int]) -> None:
    assert fixed.bitlen(torch.tensor(values)).tolist() == [x.bit_length() for x in values]


@given(st.lists(BIG.map(lambda x: min(x, 2**53)), min_size=1))
def test_bitlen_of_fp64_is_exact(values: list[int]) -> None:
    assert fixed.bitlen(torch.tensor(values, dtype=torch.float64)).tolist() == [x.bit_length() for x in values]


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1), st.integers(-1, 1))
def test_isqrt_is_exact_around_squares(roots: list[int], offset: int) -> None:
    squares = [max(0, r * r + offset) for r in roots]
    assert fixed.isqrt(torch.tensor(squares)).tolist() == [ref.isqrt(x) for x in squares]


@given(st.lists(st.integers(-(2**62) + 1, 2**62 - 1), min_size=1), st.integers(1, 140))
def test_rounded_shift(values: list[int], shift: int) -> None:
    want = [ref.rr(x, shift) for x in values]
    assert fixed.rounded_shift_(torch.tensor(values), shift).tolist() == want
    assert fixed.rounded_shift_(torch.tensor(values), torch.tensor(shift)).tolist() == want


@given(st.lists(st.integers(1 - 2**48, 2**48 - 1) | st.sampled_from([0, 1 - 2**48, 2**48 - 1]), min_size=1))
def test_quantise_wide(values: list[int]) -> None:
    for limit in (fixed.ACTIVATION, fixed.PROBABILITY):
        q, largest, t = fixed.quantise_wide(torch.tensor(values, dtype=torch.float64), limit)
        assert (q.tolist(), largest.item()) == ref.quantise(values, limit)
        assert t.item() == max(0, largest.item().bit_length() - 32)
        assert q.abs().max() <= limit


@given(st.integers(1, 2**31), st.integers(-(2**31), 2**31), st.sampled_from([127, 16384, 32512]))
def test_a_quotient_next_to_an_integer_is_floored_right(largest: int, near: int, limit: int) -> None:
    """Values whose quotient by M lies as close below or above an integer as it can."""
    n = near % (limit + 1)
    around = [(2 * n - 1) * largest // (2 * limit) + i for i in (-1, 0, 1, 2)]
    values = [max(LOW, min(HIGH, x)) for x in around if abs(x) <= largest] + [max(LOW, -largest)]
    q, m = fixed.quantise(int32(values), limit)
    assert (q.tolist(), m.item()) == ref.quantise(values, limit)


@given(shaped_rows(), st.integers(0, 30), st.sampled_from([0, 1, 42950, 2**32]), st.data())
def test_norm(x: list[list[int]], exponent: int, epsilon: int, data: st.DataObject) -> None:
    width = len(x[0])
    largest = min(32767, (1 << (14 + exponent)) // (ref.isqrt(width - 1) + 1))
    gain = data.draw(st.lists(st.integers(-largest, largest), min_size=width, max_size=width))
    q, scale = ops.norm(int32(x), Gain(torch.tensor(gain, dtype=torch.int16), exponent), epsilon)
    want = [ref.norm(row, gain, exponent, epsilon) for row in x]
    assert list(zip(q.tolist(), pairs(scale), strict=True)) == want
    assert all(e >= 14 for _, e in pairs(scale))


@given(shaped_rows())
def test_quantise_rows(x: list[list[int]]) -> None:
    q, scale = ops.quantise_rows(int32(x))
    assert list(zip(q.tolist(), pairs(scale), strict=True)) == [ref.quantise_row(row) for row in x]
    assert all(e >= 14 for _, e in pairs(scale))


@given(shaped_rows(), st.integers(16, 60), st.integers(0, 2**32), st.sampled_from(AVAILABLE))
def test_linear(x: list[list[int]], exponent: int, seed: int, backend: ops.Backend) -> None:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randint(-127, 128, (5, len(x[0])), generator=generator, dtype=torch.int8)
    w[0] = 127
    scales = torch.randint(1, 2**20 + 1, (5,), generator=generator, dtype=torch.int32)
    scales[0] = 2**20
    q, scale = ops.quantise_rows(int32(x))
    y = ops.linear(q, scale, backend.prepare(Matrix(w, scales, exponent)), backend)
    assert y.tolist() == [
        ref.linear(row, pair, w.tolist(), scales.tolist(), exponent)
        for row, pair in zip(q.tolist(), pairs(scale), strict=True)
    ]


@given(rows(4, 8), st.lists(st.integers(0, 31), min_size=2, max_size=2))
def test_rotary(x: list[list[int]], positions: list[int]) -> None:
    v = int32(x).view(2, 2, 8)
    y = ops.rotary(v, torch.tensor(positions), ROTARY_TENSOR)
    assert y.tolist() == [
        [ref.rotary(head, ROTARY[p]) for head in token] for token, p in zip(v.tolist(), positions, strict=True)
    ]


@given(shaped_rows((2, 8, 64, 256)))
def test_quantise_query(x: list[list[int]]) -> None:
    q, scale = ops.quantise_query(int32(x).unsqueeze(0))
    assert list(zip(q[0].tolist(), pairs(scale), strict=True)) == [ref.quantise_query(row) for row in x]
    assert all(e >= 12 for _, e in pairs(scale))


@given(shaped_rows())
def test_quantise_key_and_value(x: list[list[int]]) -> None:
    for torch_op, reference in ((ops.quantise_key, ref.quantise_key), (ops.quantise_value, ref.quantise_value)):
        q, largest = torch_op(int32(x).unsqueeze(0))
        assert list(zip(q[0].tolist(), largest[0].tolist(), strict=True)) == [reference(row) for row in x]
        assert q.dtype == torch.int8
    assert pairs(fixed.scale_of_maxima(largest, fixed.CACHED)) == [ref.key_scale(m) for m in largest[0].tolist()]


@given(rows(6, 5))
def test_add_and_swiglu(x: list[list[int]]) -> None:
    a, b = int32(x[:3]), int32(x[3:])
    assert ops.add(a, b).tolist() == [ref.add(*pair) for pair in zip(x[:3], x[3:], strict=True)]
    assert ops.swiglu(a, b, SIGMOID_TENSOR).tolist() == [
        ref.swiglu(*pair, SIGMOID) for pair in zip(x[:3], x[3:], strict=True)
    ]


@given(st.integers(0, 4), st.integers(16, 60))
def test_embed(token: int, exponent: int) -> None:
    w = torch.randint(-127, 128, (5, 6), generator=torch.Generator().manual_seed(token), dtype=torch.int8)
    scales = int32([1, 2**20, 12345, 2**20 - 1, 2**19])
    y = ops.embed(torch.tensor([token, 0]), Matrix(w, scales, exponent))
    assert y.tolist() == [ref.embed(t, w.tolist(), scales.tolist(), exponent) for t in (token, 0)]


def test_ops_leave_their_inputs_alone() -> None:
    x, gain = int32([[5, -(2**31), 3, 2**31 - 1]]), Gain(torch.tensor([1, -2, 3, 9], dtype=torch.int16), 2)
    before, sigmoid = x.clone(), SIGMOID_TENSOR.clone()
    for backend in AVAILABLE:
        matrix = backend.prepare(Matrix(torch.ones(3, 4, dtype=torch.int8), int32([1, 2, 3]), 20))
        q, scale = ops.norm(x, gain, 5)
        kept = q.clone(), scale.m.clone(), scale.e.clone(), matrix.weight.clone(), matrix.scale.clone()
        ops.linear(q, scale, matrix, backend)
        assert all(map(torch.equal, kept, (q, scale.m, scale.e, matrix.weight, matrix.scale)))
    ops.add(x, x), ops.swiglu(x, x, SIGMOID_TENSOR), ops.quantise_rows(x)
    ops.rotary(x.unsqueeze(0), torch.tensor([1]), ROTARY_TENSOR[:, :4])
    assert torch.equal(x, before) and torch.equal(SIGMOID_TENSOR, sigmoid)
    assert gain.g.tolist() == [1, -2, 3, 9]
