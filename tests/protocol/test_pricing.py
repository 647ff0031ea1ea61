"""Fees, windows and due counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.protocol.objects import Hop
from efedllm.protocol.pricing import ceiling_of, fee_of, is_due, window_of
from tests.protocol.test_requests import REQUEST

WORKER = "0x" + "ab" * 20
prices = st.integers(0, 10**30)


@pytest.mark.parametrize(
    ("positions", "generated", "fee"), [(0, 0, 0), (64, 0, 192), (100, 0, 300), (100, 1, 310), (115, 16, 460)]
)
def test_fee_counts_prompt_positions_once_and_every_token(positions: int, generated: int, fee: int) -> None:
    assert fee_of(Hop(WORKER, 0, 1, 3, 10), 100, positions, generated) == fee


@pytest.mark.parametrize(
    ("prompt_price", "token_price", "window"), [(0, 10, 320), (3, 10, 352), (100, 1, 6416), (0, 0, 0)]
)
def test_window_covers_the_credit_and_one_chunk(prompt_price: int, token_price: int, window: int) -> None:
    assert window_of(Hop(WORKER, 0, 1, prompt_price, token_price), 32) == window


def test_ceiling() -> None:
    assert ceiling_of(Hop(WORKER, 0, 1, 3, 10), REQUEST) == 3 * 3 + 48 * 10


@pytest.mark.parametrize(
    ("prompt", "due"),
    [
        (1, [(1, 1), (16, 16), (32, 32), (48, 48)]),
        (64, [(64, 1), (79, 16), (95, 32), (111, 48)]),
        (65, [(64, 0), (65, 1), (80, 16), (96, 32), (112, 48)]),
        (130, [(64, 0), (128, 0), (130, 1), (145, 16), (161, 32), (177, 48)]),
    ],
)
def test_due_counts(prompt: int, due: list[tuple[int, int]]) -> None:
    counts = [(at, 0) for at in range(prompt + 1)] + [(prompt + g - 1, g) for g in range(1, 50)]
    assert [count for count in counts if is_due(prompt, *count)] == due


@given(prices, prices, st.integers(1, 500), st.integers(1, 500))
def test_between_two_receipts_never_lies_more_than_a_window(
    prompt_price: int, token_price: int, prompt: int, generated: int
) -> None:
    hop = Hop(WORKER, 0, 1, prompt_price, token_price)
    counts = [(at, 0) for at in range(64, prompt, 64)] + [(prompt + g - 1, g) for g in range(1, generated + 1)]
    paid = 0
    for positions, made in counts:
        fee = fee_of(hop, prompt, positions, made)
        assert fee - paid <= window_of(hop, 32)
        if is_due(prompt, positions, made):
            paid = fee
