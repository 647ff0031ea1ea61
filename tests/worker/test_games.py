"""What is known of games: the same whichever way the chain came to be, and told at least once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from efedllm.chain.event_reader import Cursor, Page
from efedllm.chain.game_events import Demanded, Ended, Opened, Proven
from efedllm.chain.origin import Event, Origin
from efedllm.protocol.game import Phase
from tests.support.crashes import in_memory
from worker.games import GameLedger, Games
from worker.store import Store

WORKER, OTHER, CHALLENGER = ("0x" + one * 20 for one in ("aa", "bb", "cc"))
GAME = 0xAA << 96


def origin(block: int, at: int = 0) -> Origin:
    return Origin(block, at, block.to_bytes(32), bytes(32), "0x" + "dd" * 20)


def opened(block: int, number: int = 1, worker: str = WORKER) -> Opened:
    request = bytes([number]) * 32
    return Opened(origin(block), GAME | number, worker, CHALLENGER, request, request, 5, True, 0, 0, 1, 99)


def demanded(block: int, number: int = 1) -> Demanded:
    request = bytes([number]) * 32
    return Demanded(origin(block), GAME | number, WORKER, CHALLENGER, request, request, 3, 5, 1, True, 0, 0, 1, 99)


def ended(block: int, number: int = 1, outcome: Phase = Phase.WORKER_WON, worker: str = WORKER) -> Ended:
    return Ended(origin(block), GAME | number, worker, CHALLENGER, outcome, 0, 2**80, 1, 0)


def proven(block: int, number: int = 1) -> Proven:
    return Proven(origin(block), WORKER, bytes([number]) * 32, number, 200)


def page(block: int, *events: Event) -> Page:
    return Page(Cursor(block, block.to_bytes(32)), events)


def everything(games: Games) -> list[Any]:
    tables = ("games", "faults", "cursors")
    return [games._db.rows(f"SELECT * FROM {table} ORDER BY 1") for table in tables]


def test_a_game_from_its_opening_to_its_end(tmp_path: Path) -> None:
    store = Store(tmp_path / "worker.sqlite")
    ledger = GameLedger(store.games, WORKER)
    ledger.enter(page(5, opened(5), demanded(5, 2), opened(5, 3, OTHER)))
    first, second = store.games.open_games()
    assert (first.game_id, first.chunk, second.chunk) == (GAME | 1, None, 3)
    assert store.games.disputed(bytes([1]) * 32) and not store.games.disputed(bytes([3]) * 32)
    assert [(one.kind, one.game) for one in store.games.news()] == [("challenged", first), ("challenged", second)]
    store.games.told(store.games.news()[0].sequence)
    assert len(store.games.news()) == 1
    store.games.told(store.games.news()[0].sequence)
    ledger.enter(page(6, ended(6), ended(6, 2, Phase.CHALLENGER_WON), ended(6, 3, worker=OTHER), proven(6, 2)))
    assert store.games.open_games() == []
    told = store.games.news()
    assert [(one.kind, one.game and one.game.outcome, one.fault) for one in told] == [
        ("ended", Phase.WORKER_WON, 0),
        ("ended", Phase.CHALLENGER_WON, 0),
        ("fault", None, 2),
    ]
    assert told[0].game is not None and told[0].game.to_worker == 2**80
    store.close()


def test_rolled_back_it_is_open_again_or_never_was(tmp_path: Path) -> None:
    store = Store(tmp_path / "worker.sqlite")
    ledger = GameLedger(store.games, WORKER)
    ledger.enter(page(5, opened(5)))
    before = everything(store.games)
    ledger.enter(page(6, ended(6), opened(6, 2), proven(6)))
    ledger.roll_back(5)
    assert everything(store.games) == before
    assert [one.game_id for one in store.games.open_games()] == [GAME | 1]
    assert [one.kind for one in store.games.news()] == ["challenged"]
    ledger.roll_back(4)
    assert store.games.open_games() == [] and list(ledger.cursors()) == [] and store.games.news() == []
    store.close()


def make(block: int, kind: str, number: int, before: list[Page]) -> list[Event]:
    """What the contract could tell after these pages: games open once and end once, faults are proven once."""
    games = [event.game_id & 0xFFFF for one in before for event in one.events if isinstance(event, Opened | Demanded)]
    over = [event.game_id & 0xFFFF for one in before for event in one.events if isinstance(event, Ended)]
    faults = [event.number for one in before for event in one.events if isinstance(event, Proven)]
    match kind:
        case "open" | "demand":
            new = 10 * block + number
            return [opened(block, new % 256) if kind == "open" else demanded(block, new % 256)]
        case "end" if going := [one for one in games if one not in over]:
            return [ended(block, going[number % len(going)])]
        case "fault" if number not in faults:
            return [proven(block, number)]
    return []


kinds = st.tuples(st.sampled_from(["open", "demand", "end", "fault"]), st.integers(1, 4))


@settings(max_examples=15)
@given(data=st.data())
def test_after_any_reorganisations_it_is_as_if_there_had_been_none(data: st.DataObject) -> None:
    with in_memory() as folder:
        store, fresh = Store(folder / "worker.sqlite"), Store(folder / "fresh.sqlite")
        ledger = GameLedger(store.games, WORKER)
        history: list[Page] = []
        for _ in range(data.draw(st.integers(1, 4))):
            keep = data.draw(st.integers(0, len(history)))
            history = history[:keep]
            ledger.roll_back(keep)
            for kind, number in data.draw(st.lists(kinds, min_size=1, max_size=6)):
                block = len(history) + 1
                history.append(page(block, *make(block, kind, number, history)))
                ledger.enter(history[-1])
        other = GameLedger(fresh.games, WORKER)
        for one in history:
            other.enter(one)
        assert everything(store.games) == everything(fresh.games)
        store.close()
        fresh.close()
