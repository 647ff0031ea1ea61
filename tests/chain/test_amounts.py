"""Whole tokens on the command line, base units inside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.chain.amounts import MAX_AMOUNT, format_amount, parse_amount
from efedllm.chain.errors import AmountError


@pytest.mark.parametrize(
    ("text", "decimals", "amount"),
    [
        ("1", 0, 1),
        ("1000", 18, 1000 * 10**18),
        ("0.25", 2, 25),
        ("0.250", 2, 25),
        ("007.5", 6, 7_500_000),
        (" 3 ", 6, 3_000_000),
        ("0.000000000000000001", 18, 1),
    ],
)
def test_parse_amount(text: str, decimals: int, amount: int) -> None:
    assert parse_amount(text, decimals) == amount


@pytest.mark.parametrize(
    "text", ["", "0", "0.0", "-1", "+1", "1e3", "1,5", "1.", ".5", "0x10", "ten", "1_000", "nan", "٣", "0.001", "1 2"]
)
def test_parse_amount_refuses(text: str) -> None:
    with pytest.raises(AmountError):
        parse_amount(text, 2)


def test_parse_amount_refuses_more_than_the_contracts_hold() -> None:
    assert parse_amount(str(MAX_AMOUNT), 0) == MAX_AMOUNT
    with pytest.raises(AmountError, match="too large"):
        parse_amount(str(MAX_AMOUNT + 1), 0)
    with pytest.raises(AmountError, match="too large"):
        parse_amount("9" * 5000, 0)


@given(st.integers(1, MAX_AMOUNT), st.integers(0, 30))
def test_format_amount_is_exact(amount: int, decimals: int) -> None:
    assert parse_amount(format_amount(amount, decimals), decimals) == amount


def test_format_amount_has_no_trailing_zeros() -> None:
    assert [format_amount(amount, 2) for amount in (0, 100, 150, 5, -125)] == ["0", "1", "1.5", "0.05", "-1.25"]
