"""What is offered for gas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.chain.fees import Fees, Price, first_fees, replacement_fees

GWEI = 10**9

wei = st.integers(0, 10**15)
prices = st.builds(Price, wei, wei)
caps = st.integers(1, 10**16)


@pytest.mark.parametrize(
    ("price", "cap", "fees"),
    [
        (Price(10, 2), 1000, Fees(22, 2)),  # twice the base fee outlasts six full blocks
        (Price(10, 2), 22, Fees(22, 2)),
        (Price(10, 2), 21, Fees(21, 2)),  # as much as is allowed
        (Price(10, 2), 12, Fees(12, 2)),
        (Price(10, 2), 11, None),
        (Price(0, 7), 7, Fees(7, 7)),  # a chain without base fee
        (Price(0, 8), 7, None),
        (Price(7, 0), 100, Fees(14, 0)),
    ],
)
def test_first_offer(price: Price, cap: int, fees: Fees | None) -> None:
    assert first_fees(price, cap) == fees


@pytest.mark.parametrize(
    ("offered", "price", "cap", "fees"),
    [
        (Fees(800, 80), Price(10, 2), 1000, Fees(900, 90)),  # an eighth more of both
        (Fees(801, 81), Price(10, 2), 1000, Fees(902, 92)),  # rounded up
        (Fees(800, 80), Price(600, 100), 2000, Fees(1300, 100)),  # the price rose by more
        (Fees(800, 80), Price(600, 100), 1000, Fees(1000, 100)),  # as much as is allowed
        (Fees(800, 80), Price(600, 100), 900, Fees(900, 100)),
        (Fees(800, 80), Price(600, 100), 899, None),  # no node would take it for the other
        (Fees(800, 80), Price(950, 100), 1000, None),  # nobody would mine it
        (Fees(8, 0), Price(4, 0), 1000, Fees(9, 1)),  # both have to rise
    ],
)
def test_replacement(offered: Fees, price: Price, cap: int, fees: Fees | None) -> None:
    assert replacement_fees(offered, price, cap) == fees


@given(prices, caps)
def test_first_offer_is_within_the_cap_and_can_be_mined(price: Price, cap: int) -> None:
    fees = first_fees(price, cap)
    if fees is None:
        assert price.total > cap
    else:
        assert fees.tip <= fees.max_fee <= cap
        assert fees.max_fee >= price.total


@given(prices, st.lists(prices, max_size=60), caps)
def test_every_replacement_is_one_for_any_node(first: Price, later: list[Price], cap: int) -> None:
    """Whatever the price does: never above the cap, and an eighth more of both each time."""
    fees = first_fees(first, cap)
    for price in later:
        if fees is None:
            return
        replaced = replacement_fees(fees, price, cap)
        if replaced is None:
            assert price.total > cap or fees.max_fee * 9 > 8 * (cap - 1)
            continue
        assert 8 * replaced.max_fee >= 9 * fees.max_fee
        assert 8 * replaced.tip >= 9 * fees.tip
        assert replaced.max_fee > fees.max_fee
        assert replaced.tip > fees.tip
        assert replaced.tip <= replaced.max_fee <= cap
        assert replaced.max_fee >= price.total
        fees = replaced


@given(prices, st.integers(1, 500 * GWEI))
def test_replacing_ends(price: Price, cap: int) -> None:
    """At one price the cap is reached in a few dozen steps: nobody's node is flooded."""
    fees, steps = first_fees(price, cap), 0
    while fees is not None:
        fees, steps = replacement_fees(fees, price, cap), steps + 1
    assert steps <= 300
