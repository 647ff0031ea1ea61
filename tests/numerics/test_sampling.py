"""Sampling equals the reference whatever the batch; thresholds keep ties; ill-defined requests are refused."""

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efedllm.numerics import reference as ref
from efedllm.numerics.errors import SamplingError
from efedllm.numerics.sampling import sample, threshold
from efedllm.numerics.sampling_parameters import SamplingParameters
from tests.numerics.strategies import EXP2, EXP2_TENSOR, int32, random_rows, rows

PARAMETERS = st.builds(
    SamplingParameters,
    temperature=st.just(0) | st.integers(656, 6553600) | st.sampled_from([656, 65536]),
    top_p=st.integers(1, 65536) | st.sampled_from([1, 65535, 65536]),
    top_k=st.integers(0, 12) | st.just(2**32 - 1),
)
SEEDS = st.binary(min_size=32, max_size=32)


@given(rows(3, 10), st.lists(PARAMETERS, min_size=3, max_size=3), SEEDS, st.integers(0, 2**40))
def test_equals_the_reference(
    logits: list[list[int]], parameters: list[SamplingParameters], seed: bytes, at: int
) -> None:
    positions = [at, at + 1, 2 * at]
    assert sample(int32(logits), parameters, [seed] * 3, positions, EXP2_TENSOR).tolist() == [
        ref.sample(row, seed, position, p.temperature, p.top_k, p.top_p, EXP2)
        for row, position, p in zip(logits, positions, parameters, strict=True)
    ]


@settings(max_examples=10)
@given(st.integers(0, 99), PARAMETERS)
def test_a_large_vocabulary_equals_the_reference(seed: int, parameters: SamplingParameters) -> None:
    logits = random_rows(seed, 1, 3000, bits=18)
    salt = hashlib.sha256(bytes([seed])).digest()
    assert sample(logits, [parameters], [salt], [7], EXP2_TENSOR).tolist() == [
        ref.sample(logits[0].tolist(), salt, 7, parameters.temperature, parameters.top_k, parameters.top_p, EXP2)
    ]


@given(st.data())
def test_threshold_is_the_least(data: st.DataObject) -> None:
    z = data.draw(st.lists(st.integers(0, 2**21 - 1) | st.integers(0, 3) | st.just(2**21 - 1), min_size=1, max_size=9))
    w = data.draw(st.lists(st.integers(0, 5), min_size=len(z), max_size=len(z)))
    target = data.draw(st.integers(0, sum(w)))
    cut = threshold(torch.tensor([z]), torch.tensor([w]), torch.tensor([[target]])).item()

    def kept(most: int) -> int:
        return sum(x for at, x in zip(z, w, strict=True) if at <= most)

    assert kept(cut) >= target and (cut == 0 or kept(cut - 1) < target)


def test_many_rows_equal_one_by_one() -> None:
    logits = random_rows(3, 6, 500, bits=18)
    parameters = [
        SamplingParameters(),
        SamplingParameters(65536),
        SamplingParameters(65536, 60000),
        SamplingParameters(40000, 65536, 40),
        SamplingParameters(90000, 50000, 7),
        SamplingParameters(6553600, 1, 1),
    ]
    seeds = [bytes([i]) * 32 for i in range(6)]
    together = sample(logits, parameters, seeds, range(6), EXP2_TENSOR).tolist()
    assert together == [
        sample(logits[i : i + 1], [parameters[i]], [seeds[i]], [i], EXP2_TENSOR).item() for i in range(6)
    ]


def test_greedy_takes_the_lowest_of_the_largest() -> None:
    logits = int32([[1, 9, 9, -3], [-(2**31)] * 4])
    assert sample(logits, [SamplingParameters()] * 2, [bytes(32)] * 2, [0, 0], EXP2_TENSOR).tolist() == [1, 0]


def test_cuts_keep_ties_and_drop_the_rest() -> None:
    logits = int32([[0, 1 << 20, 1 << 20, 1 << 20, 0]])
    for parameters in (SamplingParameters(65536, 65536, 1), SamplingParameters(65536, 1, 0)):
        drawn = {sample(logits, [parameters], [bytes([i]) * 32], [0], EXP2_TENSOR).item() for i in range(60)}
        assert drawn == {1, 2, 3}


def test_draws_follow_the_weights() -> None:
    """Two tokens, one twice as likely: position and seed both matter, and the share is that of the weights."""
    logits = int32([[0, 1 << 16]] * 600)  # one bit apart at the temperature 1 / ln 2
    parameters = [SamplingParameters(round(65536 / 0.6931471805599453))] * 600
    drawn = sample(logits, parameters, [bytes(32)] * 600, range(600), EXP2_TENSOR)
    assert 350 <= int(drawn.sum()) <= 450
    other = sample(logits, parameters, [bytes([1]) * 32] * 600, range(600), EXP2_TENSOR)
    assert not torch.equal(drawn, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 655}, "temperature 655"),
        ({"temperature": 6553601}, "temperature 6553601"),
        ({"temperature": -1}, "temperature -1"),
        ({"top_p": 0}, "top_p 0"),
        ({"top_p": 65537}, "top_p 65537"),
        ({"top_k": -1}, "top_k -1"),
        ({"top_k": 2**32}, "top_k 4294967296"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(SamplingError, match=message):
        SamplingParameters(**arguments)


def test_wrong_seeds_and_counts_are_refused() -> None:
    logits, warm = int32([[1, 2]]), SamplingParameters(65536)
    with pytest.raises(SamplingError, match="31 bytes"):
        sample(logits, [warm], [bytes(31)], [0], EXP2_TENSOR)
    with pytest.raises(SamplingError, match="1 rows"):
        sample(logits, [warm, warm], [bytes(32)], [0], EXP2_TENSOR)
