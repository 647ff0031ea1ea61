"""What to do next: tables of what the chain says, and that every state of a game has exactly one answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.chain.dispute_game import Fault
from efedllm.protocol.game import CHALLENGER_MOVES, OVER, WORKER_MOVES, Game, Phase, Side
from verifier.challenge import Action, Move, Over, Standing, Wait, decide
from verifier.remedy import Demand, PlayGame, ProveShape, Remedy

NOW, DEADLINE = 1000, 1100
NOTHING = Fault(0, 0, 0, 0)
PROVEN = Fault(900, 1500, 1, 40)


def game(phase: Phase, deadline: int = DEADLINE) -> Game:
    word = bytes(32)
    return Game("w", "v", word, phase, Side.BODY, deadline, 5, True, 1, 0, word, word, 4, False, 0, 0)


def standing(**changes: object) -> Standing:
    usual = Standing(NOW, NOW, NOTHING, 0, (), 2000, True, 5, 100, fee=7)
    return replace(usual, **changes)  # type: ignore[arg-type]


TURNS = [
    (Phase.TRACE, Wait),
    (Phase.REVEAL, Wait),
    (Phase.LEAF, Wait),
    (Phase.DEMAND, Wait),
    (Phase.SIDE, Move.CHOOSE_SIDE),
    (Phase.PICK, Move.PICK),
    (Phase.PROOF, Move.PROVE),
    (Phase.LOST, Move.TIMEOUT),
]


@pytest.mark.parametrize(("phase", "expected"), TURNS)
@pytest.mark.parametrize("fault", [NOTHING, PROVEN])
def test_games_are_played_to_their_end(phase: Phase, expected: object, fault: Fault) -> None:
    """Also where the fault is proven already: the bond lies in them, and a share of the pot."""
    found = decide(PlayGame(), standing(games=(game(phase),), fault=fault))
    if expected is Wait:
        assert isinstance(found, Wait) and found.until == DEADLINE
    else:
        assert found is expected


@pytest.mark.parametrize("phase", sorted(WORKER_MOVES))
def test_a_worker_that_is_late_has_lost(phase: Phase) -> None:
    at = game(phase)
    assert isinstance(decide(PlayGame(), standing(games=(at,), now=DEADLINE, clock=DEADLINE)), Wait)
    assert decide(PlayGame(), standing(games=(at,), now=DEADLINE + 1)) is Move.TIMEOUT
    assert decide(PlayGame(), standing(games=(at,), clock=DEADLINE + 1)) is Move.TIMEOUT


@pytest.mark.parametrize("phase", sorted(CHALLENGER_MOVES))
def test_a_move_that_comes_too_late_is_not_sent(phase: Phase) -> None:
    assert isinstance(decide(PlayGame(), standing(games=(game(phase),), now=DEADLINE + 1)), Wait)
    assert isinstance(decide(PlayGame(), standing(games=(game(phase),), clock=DEADLINE + 9)), Move)


@pytest.mark.parametrize(
    ("remedy", "changes", "expected"),
    [
        (PlayGame(), {}, Move.OPEN),
        (PlayGame(), {"games": (game(Phase.CHALLENGER_WON),)}, Move.OPEN),
        (PlayGame(), {"now": 2001}, Over),
        (PlayGame(), {"open_until": 0}, Wait),
        (PlayGame(), {"is_drawn": False}, Wait),
        (PlayGame(), {"bond": 101}, Wait),
        (PlayGame(), {"bond": 100}, Move.OPEN),
        (PlayGame(), {"has_lost": True, "games": (game(Phase.WORKER_WON),)}, Over),
        (Demand(1), {}, Move.DEMAND),
        (Demand(1), {"bond": 94}, Wait),
        (Demand(1), {"next_chunk": 1, "games": (game(Phase.ANSWERED),)}, Wait),
        (Demand(2), {"next_chunk": 1, "games": (game(Phase.ANSWERED),)}, Move.DEMAND),
        (PlayGame(), {"games": (game(Phase.ANSWERED),)}, Move.OPEN),
        (PlayGame(), {"games": (game(Phase.ANSWERED),), "now": DEADLINE + 1}, Move.TIMEOUT),
        (ProveShape(), {}, Move.STATE),
        (ProveShape(), {"bond": 1000, "now": 2001, "open_until": 0}, Move.STATE),
        (None, {}, Over),
        (PlayGame(), {"fault": PROVEN}, Move.REFUND),
        (PlayGame(), {"fault": PROVEN, "is_refundable": False}, Over),
        (PlayGame(), {"fault": PROVEN, "is_refundable": False, "shares": 1}, Wait),
        (PlayGame(), {"fault": PROVEN, "is_refundable": False, "shares": 1, "now": 1500}, Move.COLLECT),
        (PlayGame(), {"fault": PROVEN, "is_refundable": False, "shares": 1, "clock": 1500}, Move.COLLECT),
        (None, {"fault": PROVEN}, Move.REFUND),
    ],
)
def test_between_games(remedy: Remedy | None, changes: dict[str, object], expected: object) -> None:
    found = decide(remedy, standing(**changes))
    assert found is expected if isinstance(expected, Move) else isinstance(found, expected)  # type: ignore[arg-type]


@given(
    st.sampled_from([None, PlayGame(), Demand(1), Demand(3), ProveShape()]),
    st.sampled_from([NOTHING, PROVEN]),
    st.lists(st.sampled_from(sorted(set(Phase) - {Phase.NONE})), max_size=3),
    st.integers(0, 3000),
    st.booleans(),
    st.integers(0, 2),
)
def test_whatever_the_chain_says_there_is_an_answer(
    remedy: Remedy | None, fault: Fault, phases: list[Phase], now: int, is_refundable: bool, shares: int
) -> None:
    games = tuple(game(phase) for phase in phases)
    found: Action = decide(
        remedy, standing(fault=fault, games=games, now=now, clock=0, is_refundable=is_refundable, shares=shares)
    )
    if any(phase not in OVER | {Phase.ANSWERED} for phase in phases):
        assert found not in (Move.OPEN, Move.DEMAND, Move.STATE, Move.REFUND, Move.COLLECT)
        assert not isinstance(found, Over)
    if found in (Move.OPEN, Move.DEMAND, Move.STATE):
        assert fault is NOTHING
