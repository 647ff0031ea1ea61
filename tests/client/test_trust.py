"""Trust in workers that may cheat without evidence: tables, and that no mix of requests brings more than a window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.client.trust import CAUGHT, FORGIVEN_PART, MOST_BREAKS, REQUESTS_PER_BREAK, Breaks, Word
from efedllm.protocol.requests import MAX_PATH

NOW = 1_000_000


def test_completed_requests_win_trust_back_by_what_they_cost() -> None:
    word = Word().paid(100, 30).paid(50, 20)
    assert word == Word(150, 50)
    assert word.completed(FORGIVEN_PART - 1) == Word(0, 50)
    assert word.completed(10 * FORGIVEN_PART) == Word(0, 40)
    assert word.completed(10**9) == Word()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 500)), max_size=60), st.integers(1, 300))
def test_on_its_word_a_worker_gets_a_window_and_a_part_of_what_it_earned(
    steps: list[tuple[bool, int]], window: int
) -> None:
    """Whatever it completes and breaks off, in whatever order."""
    word, earned, taken = Word(), 0, 0
    for completes, amount in steps:
        if completes:
            word, earned = word.completed(amount), earned + amount
        else:
            part = min(amount, window - word.unseen)
            word, taken = word.paid(part, part), taken + part
        assert taken <= window + earned // FORGIVEN_PART


@pytest.mark.parametrize(
    ("breaks", "seconds"), [(1, 60), (2, 120), (3, 240), (8, 7680), (10, 30720), (30, 30720)], ids=str
)
def test_it_is_avoided_longer_each_time(breaks: int, seconds: int) -> None:
    record = Breaks()
    for _ in range(breaks):
        record = record.broke(NOW)
    assert record.objection(NOW) == record.objection(NOW + seconds - 1) == min(breaks, MOST_BREAKS)
    assert record.objection(NOW + seconds) == 0


def test_a_break_is_forgotten_after_some_completed_requests() -> None:
    record = Breaks().broke(NOW).broke(NOW)
    for left in range(2 * REQUESTS_PER_BREAK, 0, -1):
        assert record.count == -(-left // REQUESTS_PER_BREAK)
        record = record.completed()
    assert record == Breaks(0, NOW)
    assert record.completed() == record
    assert record.objection(NOW) == 0


def test_cheap_requests_in_between_do_not_hide_breaks() -> None:
    record = Breaks()
    for _ in range(10):
        record = record.broke(NOW).completed()
    assert record.count > 8


def test_a_clock_that_was_set_back_makes_nobody_avoided_for_longer() -> None:
    assert Breaks().broke(NOW).objection(NOW - 1) == 0


def test_evidence_weighs_more_than_any_number_of_breaks() -> None:
    record = Breaks()
    for _ in range(1000):
        record = record.broke(NOW)
    assert MAX_PATH * record.objection(NOW) < CAUGHT
