"""When a worker claims and releases: a table of moments, and what holds for every situation."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.collecting import (
    BATCH,
    PAYS,
    RESERVE,
    SLOTS,
    VOUCHER_GAS,
    Claim,
    Credit,
    Decision,
    Pending,
    Release,
    Rules,
    Situation,
    Wait,
    claim_cost,
    decide,
    gas_cost,
)

FOREVER = (1 << 256) - 1
NOW = 1_000_000
# A coin is worth as many base units as it has wei, so at one wei a unit of gas costs one base unit.
RULES = Rules(coin_value=10**18, claim_within=86_400, close_margin=1_000, spacing=600, look_every=60)
PRICE = 1
COST = claim_cost(RULES, PRICE, 1)


def credit(number: int, value: int, closing_in: int | None = None, age: int = 0) -> Credit:
    return Credit(number, value, 0 if closing_in is None else NOW + closing_in, NOW - age)


def situation(*credits: Credit, used: int = 0, last_claim: int = 10**6, price: int = PRICE) -> Situation:
    pending = [Pending(index, 1, FOREVER) for index in range(used)]
    return Situation(credits, pending, NOW - last_claim, price, NOW)


def test_the_numbers_are_what_they_look_like() -> None:
    assert gas_cost(RULES, 1, 1) == 1
    assert gas_cost(replace(RULES, coin_value=10**17), 1, 1) == 1  # rounded up
    assert COST == 80_000 + 55_000 + 12_000


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        # What pays well is claimed at once; one base unit less is not.
        (situation(credit(0, PAYS * COST)), Claim((0,), PAYS * COST)),
        (situation(credit(0, PAYS * COST - 1)), Wait(NOW + 60)),
        # Gas that got twice as dear.
        (situation(credit(0, PAYS * COST), price=2), Wait(NOW + 60)),
        # Several channels pay for one claim together; the largest comes first.
        (
            situation(credit(0, 10 * COST), credit(1, 12 * COST)),
            Claim((1, 0), 22 * COST),
        ),
        # Dust does not come along, and is never claimed.
        (situation(credit(0, PAYS * COST), credit(1, VOUCHER_GAS)), Claim((0,), PAYS * COST)),
        (situation(credit(0, VOUCHER_GAS, age=10**6, closing_in=1)), Wait(NOW + 60)),
        # An old voucher has to be worth its gas only.
        (situation(credit(0, 2 * COST, age=86_400)), Claim((0,), 2 * COST)),
        (situation(credit(0, 2 * COST, age=86_399)), Wait(NOW + 1)),
        (situation(credit(0, COST, age=86_400)), Wait(NOW + 60)),
        # So has one of a channel that is about to be emptied, but not before.
        (situation(credit(0, 2 * COST, closing_in=1_000)), Claim((0,), 2 * COST)),
        (situation(credit(0, 2 * COST, closing_in=1_001)), Wait(NOW + 1)),
        (situation(credit(0, PAYS * COST, closing_in=50_000)), Claim((0,), PAYS * COST)),
        # Too late is not: as long as the payer did not take it, it may be had.
        (situation(credit(0, 2 * COST, closing_in=-5)), Claim((0,), 2 * COST)),
        # What can wait keeps its distance from the last claim; a closing channel does not.
        (situation(credit(0, PAYS * COST), last_claim=599), Wait(NOW + 1)),
        (situation(credit(0, 2 * COST, age=86_400), last_claim=599), Wait(NOW + 1)),
        (situation(credit(0, PAYS * COST, closing_in=9_999), last_claim=1), Claim((0,), PAYS * COST)),
        (situation(credit(0, 2 * COST, closing_in=9), last_claim=1), Claim((0,), 2 * COST)),
        # The last slots are for closing channels, and not for small ones.
        (situation(credit(0, PAYS * COST), used=SLOTS - RESERVE), Wait(NOW + 60)),
        (situation(credit(0, 2 * COST, age=86_400), used=SLOTS - RESERVE), Wait(NOW + 60)),
        (situation(credit(0, 2 * COST, closing_in=9), used=SLOTS - RESERVE), Wait(NOW + 60)),
        (situation(credit(0, PAYS * COST, closing_in=9), used=SLOTS - RESERVE), Claim((0,), PAYS * COST)),
        (situation(credit(0, PAYS * COST, closing_in=9), used=SLOTS - 1), Claim((0,), PAYS * COST)),
        (situation(credit(0, 99 * COST, closing_in=9), used=SLOTS), Wait(NOW + 60)),
        # A closing channel takes others along that pay for the gas.
        (
            situation(credit(0, 13_000, closing_in=9), credit(1, PAYS * VOUCHER_GAS)),
            Claim((0, 1), 13_000 + PAYS * VOUCHER_GAS),
        ),
        (situation(), Wait(NOW + 60)),
    ],
)
def test_claims(moment: Situation, expected: Decision) -> None:
    assert decide(RULES, moment) == expected


def test_a_batch_is_bounded_and_the_rest_follows() -> None:
    many = [credit(number, PAYS * COST + number) for number in range(BATCH + 30)]
    first = decide(RULES, situation(*many))
    assert isinstance(first, Claim)
    assert first.numbers == tuple(range(BATCH + 29, 29, -1))
    rest = [one for one in many if one.number not in first.numbers]
    assert decide(RULES, situation(*rest)) == Claim(tuple(range(29, -1, -1)), sum(one.value for one in rest))


def releases(*claims: tuple[int, int, int], credits: tuple[Credit, ...] = ()) -> Decision:
    """Claims as (index, amount, seconds until their release)."""
    pending = [Pending(index, amount, NOW + seconds) for index, amount, seconds in claims]
    return decide(RULES, Situation(credits, pending, NOW - 10**6, PRICE, NOW))


def test_what_can_be_released_is() -> None:
    assert releases((7, 10**6, 0), (3, 10**6, -5), (4, 10**6, 30)) == Release((3, 7))
    assert releases((4, 10**6, 30)) == Wait(NOW + 30)
    assert releases((4, 55_000, 0)) == Wait(NOW + 60)
    assert releases((4, 55_001, 0)) == Release((4,))


def test_dust_is_released_where_slots_are_short_and_vouchers_wait() -> None:
    dust = [(index, 1, 0 if index < 2 else 9_999) for index in range(SLOTS - RESERVE)]
    assert releases(*dust) == Wait(NOW + 60)
    assert releases(*dust, credits=(credit(0, PAYS * COST),)) == Release((0, 1))
    assert isinstance(releases(*dust[1:], credits=(credit(0, PAYS * COST),)), Claim)


def test_a_claim_comes_before_a_release() -> None:
    assert isinstance(releases((1, 10**6, 0), credits=(credit(0, PAYS * COST),)), Claim)


amounts = st.one_of(st.integers(1, 10**6), st.integers(1, 10**9), st.just((1 << 96) - 1))
credit_lists = st.lists(
    st.tuples(amounts, st.one_of(st.none(), st.integers(-2_000, 5_000)), st.integers(0, 200_000)), max_size=130
).map(lambda found: [credit(number, *values) for number, values in enumerate(found)])
situations = st.builds(
    Situation,
    credits=credit_lists,
    pending=st.lists(
        st.tuples(amounts, st.one_of(st.just(FOREVER), st.integers(NOW - 100, NOW + 10_000))), max_size=SLOTS
    ).map(lambda found: [Pending(index, *values) for index, values in enumerate(found)]),
    last_claim_at=st.integers(0, NOW),
    gas_price_wei=st.sampled_from([0, 1, 2, 100, 10**6]),
    now=st.just(NOW),
)


@given(situations)
def test_every_decision_is_worth_it(moment: Situation) -> None:
    room = SLOTS - len(moment.pending)
    by_number = {one.number: one for one in moment.credits}
    by_index = {claim.index: claim for claim in moment.pending}
    match decide(RULES, moment):
        case Claim(numbers, amount):
            assert room > 0
            assert 0 < len(numbers) == len(set(numbers)) <= BATCH
            assert amount == sum(by_number[number].value for number in numbers)
            cost = claim_cost(RULES, moment.gas_price_wei, len(numbers))
            assert amount > cost
            dust = gas_cost(RULES, moment.gas_price_wei, VOUCHER_GAS)
            assert all(by_number[number].value > dust for number in numbers)
            if room <= RESERVE:
                assert amount >= PAYS * cost
                assert any(by_number[number].closing_at for number in numbers)
        case Release(indices):
            assert 0 < len(indices) == len(set(indices))
            cost = gas_cost(RULES, moment.gas_price_wei, 55_000)
            for index in indices:
                assert by_index[index].releasable_at <= NOW
                assert by_index[index].amount > cost or room <= RESERVE
        case Wait(until):
            assert NOW < until <= NOW + RULES.look_every


@given(situations)
def test_nothing_worth_it_is_left_until_too_late(moment: Situation) -> None:
    """While slots are free, a closing channel that is worth a claim of its own is in the next one, or that is full."""
    decision = decide(RULES, moment)
    if SLOTS - len(moment.pending) <= RESERVE:
        return
    for one in moment.credits:
        last_call = one.closing_at and one.closing_at - RULES.close_margin <= NOW
        if last_call and one.value > claim_cost(RULES, moment.gas_price_wei, 1):
            assert isinstance(decision, Claim)
            assert one.number in decision.numbers or len(decision.numbers) == BATCH


@given(situations, st.randoms())
def test_order_does_not_matter(moment: Situation, random: Random) -> None:
    credits, pending = list(moment.credits), list(moment.pending)
    random.shuffle(credits)
    random.shuffle(pending)
    assert decide(RULES, replace(moment, credits=credits, pending=pending)) == decide(RULES, moment)


@given(situations)
def test_what_is_released_or_claimed_is_not_decided_again(moment: Situation) -> None:
    """Performing decisions ends: each takes away what it was about."""
    for _ in range(200):
        match decide(RULES, moment):
            case Claim(numbers):
                moment = replace(
                    moment,
                    credits=[one for one in moment.credits if one.number not in numbers],
                    pending=[*moment.pending, Pending(10**6 + len(moment.pending), 1, FOREVER)],
                )
            case Release(indices):
                moment = replace(moment, pending=[one for one in moment.pending if one.index not in indices])
            case Wait():
                return
    raise AssertionError("it never waits")
