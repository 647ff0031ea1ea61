"""When beacons are recorded and when silent workers are asked again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.plan import HASH_HISTORY_BLOCKS, candidate, retry_delay


@pytest.mark.parametrize(
    ("first", "head", "block"),
    [
        (100, 99, None),
        (100, 100, 100),
        (100, 347, 100),
        (100, 348, None),  # too close to being forgotten
        (100, 355, None),
        (100, 356, 356),
        (100, 100 + 256 * 9 + 3, 100 + 256 * 9),
    ],
)
def test_candidate(first: int, head: int, block: int | None) -> None:
    assert candidate(first, head) == block


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_candidate_is_mined_known_and_of_the_claim(first: int, head: int) -> None:
    block = candidate(first, head)
    if block is not None:
        assert first <= block <= head
        assert head + 1 - block <= HASH_HISTORY_BLOCKS
        assert (block - first) % HASH_HISTORY_BLOCKS == 0


def test_retry_delay_grows_to_a_limit() -> None:
    delays = [retry_delay(attempts) for attempts in range(12)]
    assert delays[:4] == [5.0, 10.0, 20.0, 40.0]
    assert delays == sorted(delays)
    assert delays[-1] == 900.0 == retry_delay(10**6)
