"""How much goes into which channel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.client.errors import FundingError
from efedllm.client.funding import MAX_DEPOSIT, REQUESTS_AHEAD, Need, plan
from efedllm.client.network import Top

needs = st.lists(st.tuples(st.integers(0, 1000), st.integers(-50, 1500)), max_size=6).map(
    lambda rows: [Need(f"0x{at:040x}", *row) for at, row in enumerate(rows)]
)


@given(needs, st.one_of(st.none(), st.integers(1, 3000)), st.integers(0, 20_000))
def test_every_channel_carries_the_request_within_the_budget(
    items: list[Need], deposit: int | None, budget: int
) -> None:
    missing = sum(max(0, need.ceiling - need.free) for need in items)
    try:
        tops = plan(items, deposit, budget)
    except FundingError:
        assert missing > budget
        return
    added = {top.worker: top.amount for top in tops}
    assert sum(added.values()) <= budget
    assert all(amount > 0 for amount in added.values())
    for need in items:
        assert need.free + added.get(need.worker, 0) >= need.ceiling
        assert (need.worker in added) == (need.free < need.ceiling)


@pytest.mark.parametrize(
    ("deposit", "budget", "amount"),
    [
        (None, 10_000, 100 * REQUESTS_AHEAD),
        (500, 10_000, 500),
        (10, 10_000, 90),
        (500, 499, 90),
        (None, 90, 90),
    ],
)
def test_amounts(deposit: int | None, budget: int, amount: int) -> None:
    assert plan([Need("0x1", 100, 10)], deposit, budget) == [Top("0x1", amount)]


def test_too_little_money() -> None:
    with pytest.raises(FundingError, match="need 90 base units for this request, and 89 can be spent: get more WORK"):
        plan([Need("0x1", 100, 10)], None, 89, "WORK")


def test_a_price_that_no_channel_holds() -> None:
    with pytest.raises(FundingError, match="asks more than any channel can hold"):
        plan([Need("0x1", MAX_DEPOSIT + 1, 0)], None, 1 << 128)
