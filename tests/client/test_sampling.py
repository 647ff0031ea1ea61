"""Numbers that people write, as they are signed."""

import math

import pytest

from efedllm.client.errors import ClientError
from efedllm.client.sampling import sampling_of, seed_of, stop_ids_of
from efedllm.protocol.objects import Sampling
from efedllm.protocol.requests import check_sampling


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k", "sampling"),
    [
        (0, 1, 0, Sampling(0, 0, 65536)),
        (1.0, 1.0, 0, Sampling(65536, 0, 65536)),
        (0.8, 0.95, 40, Sampling(52429, 40, 62259)),
        (0.01, 1.0, 0, Sampling(656, 0, 65536)),
        (100, 0.5, 1, Sampling(6553600, 1, 32768)),
    ],
)
def test_fixed_point(temperature: float, top_p: float, top_k: int, sampling: Sampling) -> None:
    assert sampling_of(temperature, top_p, top_k) == sampling
    check_sampling(sampling)


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"),
    [(-1, 1, 0), (math.nan, 1, 0), (math.inf, 1, 0), (0.001, 1, 0), (1, math.nan, 0), (1, -0.5, 0), (1, 1, -1)],
)
def test_out_of_range(temperature: float, top_p: float, top_k: int) -> None:
    with pytest.raises(ClientError, match="out of range"):
        sampling_of(temperature, top_p, top_k)


def test_seeds() -> None:
    assert seed_of(0) == bytes(32)
    assert seed_of(258) == bytes(30) + b"\x01\x02"
    assert seed_of((1 << 256) - 1) == b"\xff" * 32
    assert seed_of(b"\x07" * 32) == b"\x07" * 32
    assert len(seed_of(None)) == 32
    assert seed_of(None) != seed_of(None)


@pytest.mark.parametrize("seed", [-1, 1 << 256, b"\x07" * 31, 1.5, "7"])
def test_no_seeds(seed: object) -> None:
    with pytest.raises(ClientError, match="the seed must be"):
        seed_of(seed)  # type: ignore[arg-type]


def test_stop_ids() -> None:
    assert stop_ids_of([5, 1, 5]) == (1, 5)
