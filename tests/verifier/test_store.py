"""Nothing that was kept is lost or doubled: stores are opened again after every write."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from efedllm.chain.event_reader import Cursor
from efedllm.protocol.claims import Entry
from efedllm.protocol.vouchers import Leaf
from verifier.errors import StoreError
from verifier.findings import About, Claim, Draw, Evidence
from verifier.store import LAYOUT, Store, store_path
from verifier.verdict import Fault, Missing, Outcome, Verdict

WORKER, OTHER = "0x" + "11" * 20, "0x" + "22" * 20
HASH = b"\x01" * 32


def claim(index: int = 0, block: int = 10, worker: str = WORKER, entries: int = 2) -> Claim:
    made = tuple(Entry(bytes([at]) * 20, 10 * at, 10 * at + 10, bytes([index]) * 32) for at in range(entries))
    return Claim(worker, index, block, bytes([block]) * 32, made)


def leaves(count: int) -> list[Leaf]:
    return [Leaf(bytes([at]) * 32, bytes([at, 1]) * 16, at << 70, (at + 1) << 70) for at in range(count)]


class Reopened:
    """A store that is killed and opened again before every use."""

    def __init__(self, path: Path) -> None:
        self._path, self._store = path, Store(path)

    def __call__(self) -> Store:
        self._store.close()
        self._store = Store(self._path)
        return self._store


@pytest.fixture
def store(tmp_path: Path) -> Reopened:
    return Reopened(tmp_path / "verifier.sqlite")


def test_advance_keeps_claims_and_cursor_together(store: Reopened) -> None:
    assert store().cursors() == []
    store().advance(9, b"\x09" * 32, [])
    store().advance(12, HASH, [claim(), claim(1, 11)])
    store().advance(12, HASH, [claim()])  # the same page once more
    assert store().cursors() == [Cursor(12, HASH), Cursor(9, b"\x09" * 32)]
    assert store().seedless() == [claim(), claim(1, 11)]
    assert store().undrawn(0) == []


def test_advance_keeps_nothing_of_a_page_that_fails(store: Reopened) -> None:
    store().advance(9, HASH, [])
    with pytest.raises(AttributeError):
        store().advance(12, HASH, [claim(), None])  # type: ignore[list-item]
    assert store().cursors() == [Cursor(9, HASH)]
    assert store().seedless() == []


def test_roll_back_forgets_what_came_of_blocks_above(store: Reopened) -> None:
    for block in (10, 12, 13):
        store().advance(block, HASH, [claim(block, block)])
    store().roll_back(12)
    assert store().cursors() == [Cursor(12, HASH), Cursor(10, HASH)]
    assert store().seedless() == [claim(10, 10), claim(12, 12)]
    store().roll_back(9)
    assert store().cursors() == []
    assert store().seedless() == []


def test_roll_back_takes_seeds_and_draws_along(store: Reopened) -> None:
    """The claim stays, and is drawn again with the seed of the blocks that are there."""
    store().advance(10, HASH, [claim(0, 10, entries=1), claim(1, 10, entries=1)])
    store().advance(20, HASH, [])
    store().set_seed(claim(0, 10), b"\x05" * 32, 15)
    store().set_seed(claim(1, 10), b"\x06" * 32, 16)
    for index in (0, 1):
        store().set_drawn(claim(index, 10, entries=1), 0, leaves(2), [0, 1])
    store().roll_back(15)
    assert store().seedless() == [claim(1, 10, entries=1)]
    assert [draw.claim for draw, _ in store().unchecked(0)] == [0, 0]
    assert store().undrawn(0) == []
    store().set_seed(claim(1, 10), b"\x07" * 32, 20)
    assert [(found.index, found.seed) for found, _ in store().undrawn(0)] == [(1, b"\x07" * 32)]


def test_draws_follow_seeds(store: Reopened) -> None:
    store().advance(12, HASH, [claim()])
    store().set_seed(claim(), b"\x05" * 32, 12)
    seeded = Claim(*[*vars(claim()).values()][:5], seed=b"\x05" * 32)
    assert store().seedless() == []
    assert store().undrawn(0) == [(seeded, 0), (seeded, 1)]
    verdict = Verdict(Outcome.UNAVAILABLE, WORKER, Missing.ANSWER, "asleep")
    store().set_undrawn(seeded, 0, verdict, due=50.0)
    assert store().attempts(seeded, 0) == 1
    assert store().undrawn(49.0) == [(seeded, 1)]
    assert [one.verdict for one in store().waiting()] == [verdict]
    store().set_drawn(seeded, 0, leaves(3), [0, 2])
    store().set_drawn(seeded, 0, leaves(3), [0, 2])
    assert store().undrawn(99.0) == [(seeded, 1)]
    assert store().waiting() == []
    assert [draw for draw, _ in store().unchecked(0)] == [
        Draw(WORKER, 0, 0, 0, leaves(3)[0]), Draw(WORKER, 0, 0, 2, leaves(3)[2])
    ]  # fmt: skip


def drawn(store: Reopened) -> tuple[Draw, Draw]:
    store().advance(12, HASH, [claim(entries=1)])
    store().set_seed(claim(entries=1), HASH, 12)
    store().set_drawn(claim(entries=1), 0, leaves(2), [0, 1])
    (first, _), (second, _) = store().unchecked(0)
    return first, second


def test_verdicts_that_are_unavailable_come_up_again(store: Reopened) -> None:
    first, second = drawn(store)
    asleep = Verdict(Outcome.UNAVAILABLE, OTHER, Missing.UPSTREAM, "asleep")
    store().set_verdict(first, asleep, About(1, "1:2", 70), 100.0, None)
    assert [draw for draw, _ in store().unchecked(99.0)] == [second]
    assert store().unchecked(100.0) == [(first, 1), (second, 0)]
    assert [(one.draw, one.about, one.verdict) for one in store().checked()] == [(first, About(1, "1:2", 70), asleep)]
    right = Verdict(Outcome.OK, WORKER)
    store().set_verdict(first, right, About(1, "1:2", 70), 0.0, None)
    assert [draw for draw, _ in store().unchecked(1e9)] == [second]
    assert [one.verdict for one in store().checked()] == [right]


def test_leaves_are_kept_until_all_that_were_drawn_are_checked(store: Reopened) -> None:
    first, second = drawn(store)
    store().set_verdict(first, Verdict(Outcome.OK, WORKER), None, 0.0, None)
    assert store().leaves_of(second) == leaves(2)
    store().set_verdict(second, Verdict(Outcome.OK, WORKER), None, 0.0, None)
    assert store().undrawn(1e9) == []  # given up, not forgotten


def test_a_fault_and_its_evidence_are_kept_together(store: Reopened) -> None:
    first, _ = drawn(store)
    fault = Verdict(Outcome.FAULT, WORKER, Fault.OUTPUT, "wrong", 17)
    evidence = Evidence("e.msgpack", HASH, WORKER, HASH, HASH, 0, 12, Fault.OUTPUT, "wrong")
    for _ in range(2):
        store().set_verdict(first, fault, About(0, "0:1", 80), 0.0, evidence)
    assert store().evidence() == [evidence]
    (one,) = store().checked()
    assert (one.verdict, one.evidence) == (fault, "e.msgpack")


def test_a_store_of_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "verifier.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {LAYOUT.version + 1}")
    with pytest.raises(StoreError, match="upgrade"):
        Store(path)


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="free or repair the disk"):
        Store(tmp_path / "file" / "verifier.sqlite")
    (tmp_path / "garbage.sqlite").write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match=r"garbage\.sqlite"):
        Store(tmp_path / "garbage.sqlite")


def test_each_deployment_has_a_store_of_its_own(tmp_path: Path) -> None:
    paths = {store_path(tmp_path, chain, address) for chain in (1, 2) for address in (WORKER, OTHER)}
    assert len(paths) == 4
