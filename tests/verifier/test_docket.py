"""What is kept of challenges: nothing is lost or doubled, and what replaced blocks told is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from enum import IntEnum
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from efedllm.chain.dispute_game import BookLeaf, Part
from efedllm.chain.dispute_game import Draw as DrawProof
from efedllm.chain.event_reader import Cursor
from efedllm.chain.game_events import GAME_EVENTS, Opened, Proven, Revealed
from efedllm.chain.origin import Event, Origin
from efedllm.protocol.vouchers import Leaf
from verifier.docket import Docket, enter_dossier
from verifier.dossier import Dossier, pack_draw, unpack_draw
from verifier.findings import Claim, Draw
from verifier.game_log import pack_event, unpack_event
from verifier.store import Store
from verifier.verdict import Fault, Missing, Outcome, Verdict

OWN, WORKER = "0x" + "0a" * 20, "0x" + "0b" * 20
WORD = bytes(range(32))
PROOF = DrawProof(
    Part(3, 9, b"\1" * 152, (WORD, WORD), BookLeaf(WORD, 1 << 90, 1 << 91, 5, (WORD,))),
    (BookLeaf(WORD, 0, 1, 0, ()), BookLeaf(WORD, 1, 2, 1, (WORD, WORD))),
    7,
    1 << 200,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "verifier.sqlite")
    yield opened
    opened.close()


def origin(block: int, index: int = 0) -> Origin:
    return Origin(block, index, bytes([block]) * 32, bytes([block, index]) * 16, "0x" + "cc" * 20)


def some(kind: type[Event]) -> Event:
    """Any event of its kind, with numbers that fit no 64 bits."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {"origin": origin(4)}
    for item in fields(kind):
        hint = hints[item.name]
        if item.name == "origin":
            continue
        if isinstance(hint, type) and issubclass(hint, IntEnum):
            values[item.name] = hint(2)
        elif hint is bool:
            values[item.name] = True
        else:
            values[item.name] = {int: 1 << 250, bytes: WORD, str: OWN}.get(hint, (WORD, WORD[::-1]))
    return kind(**values)


def opened(game: int, block: int, challenger: str = OWN) -> Opened:
    return Opened(origin(block), game, WORKER, challenger, WORD, WORD, 5, True, 1, 0, 5, 100)


def dossier(number: int = 0, outcome: Outcome = Outcome.FAULT, draw: DrawProof | None = PROOF) -> Dossier:
    kind = Fault.OUTPUT if outcome is Outcome.FAULT else Missing.TOKENS
    leaf = Leaf(WORD, bytes([number]) * 32, 1 << 80, 1 << 81)
    return Dossier(Draw(WORKER, 2, 0, number, leaf), Verdict(outcome, WORKER, kind, "why"), 10 - number, "file", draw)


def enter(store: Store, *dossiers: Dossier) -> None:
    with store._db.transaction() as db:
        for one in dossiers:
            enter_dossier(db, one)


@pytest.mark.parametrize("kind", GAME_EVENTS)
def test_events_come_back_as_they_were(kind: type[Event]) -> None:
    event = some(kind)
    assert unpack_event(pack_event(event)) == event


def test_draws_come_back_as_they_were() -> None:
    assert unpack_draw(pack_draw(PROOF)) == PROOF


def test_dossiers_are_entered_once_and_the_shortest_comes_first(store: Store) -> None:
    enter(store, dossier(0), dossier(1), dossier(2, Outcome.UNAVAILABLE, None))
    enter(store, dossier(0))
    docket = store.docket(OWN)
    assert docket.open_dossiers() == [dossier(2, Outcome.UNAVAILABLE, None), dossier(1), dossier(0)]
    docket.close(dossier(1), "proven", 9)
    assert [one.positions for one in docket.open_dossiers()] == [8, 10]
    enter(store, dossier(2))  # what was demanded was published, and is a fault
    assert dossier(2) in docket.open_dossiers()


def test_only_own_games_and_all_faults_are_kept(store: Store) -> None:
    docket = store.docket(OWN)
    others = opened(8, 5, WORKER)
    proven = Proven(origin(6, 3), WORKER, WORD, 1, 50)
    revealed = [Revealed(origin(6, at), game, (WORD,), 9) for at, game in enumerate((7, 8))]
    docket.advance(Cursor(5, WORD), [opened(7, 5), others])
    docket.advance(Cursor(6, WORD), [*revealed, proven])
    docket.advance(Cursor(6, WORD), [*revealed, proven])
    assert docket.events() == [opened(7, 5), revealed[0], proven]
    assert docket.games() == [7]
    assert docket.of_mine([*revealed, opened(9, 7), Revealed(origin(7, 1), 9, (WORD,), 9)])[0] == revealed[0]
    assert [docket.untold()[0], len(docket.untold())] == [opened(7, 5), 3]
    docket.set_told(opened(7, 5))
    assert docket.untold() == [revealed[0], proven]


def test_replaced_blocks_take_along_what_they_told(store: Store) -> None:
    docket = store.docket(OWN)
    enter(store, dossier(0), dossier(1))
    docket.advance(Cursor(5, WORD), [opened(7, 5)])
    docket.advance(Cursor(9, WORD), [opened(3, 9)])
    docket.close(dossier(0), "proven", 9)
    docket.close(dossier(1), "too late", 5)
    docket.roll_back(8)
    assert docket.cursors() == [Cursor(5, WORD)]
    assert docket.events() == [opened(7, 5)]
    assert docket.open_dossiers() == [dossier(0)]


def test_replaced_claim_takes_its_draw_along(store: Store) -> None:
    docket: Docket = store.docket(OWN)
    store.advance(10, WORD, [Claim(WORKER, 2, 10, WORD, ())])
    enter(store, dossier(0))
    store.roll_back(9)
    (kept,) = docket.open_dossiers()
    assert kept.draw_proof is None
    enter(store, dossier(0))
    assert docket.open_dossiers() == [dossier(0)]
