"""How long a worker keeps what proves its work, and that nothing is ever half deleted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.protocol import eip712
from efedllm.protocol.objects import Hop, Receipt
from efedllm.protocol.receipts import Progress, receipt_for
from tests.support.crashes import recorded, restored
from tests.worker.network import DOMAIN
from tests.worker.payer import SALT, Payer, payment_for
from worker.keeping import Matter, Windows, is_settled, kept_until, may_go, waits_until
from worker.store import Store

WINDOWS = Windows(challenge_window=1000, force_grace=300, margin=10)
DONE = Matter(expiry=5000, has_receipts=True, settled_at=5100, disputed=False)


@pytest.mark.parametrize(
    ("matter", "until"),
    [
        (DONE, 5000 + 300 + 1000 + 10),  # force-drawn in the last moment
        (replace(DONE, settled_at=9000), 9000 + 1000 + 10),  # claimed late
        (replace(DONE, settled_at=None), None),  # may be claimed yet
        (replace(DONE, disputed=True), None),
        (replace(DONE, has_receipts=False, settled_at=None), 0),  # nothing was signed
    ],
)
def test_when_nothing_can_be_opened_any_more(matter: Matter, until: int | None) -> None:
    assert kept_until(WINDOWS, matter) == until
    if until is not None:
        assert not may_go(WINDOWS, matter, until) and may_go(WINDOWS, matter, until + 1)
    else:
        assert not may_go(WINDOWS, matter, 1 << 60)


times = st.integers(0, 10_000)
matters = st.builds(Matter, times, st.booleans(), st.none() | times, st.booleans())


@given(matters, times, times)
def test_nothing_goes_while_it_can_be_opened(matter: Matter, forced_at: int, now: int) -> None:
    """Against the contract's own rules, said the other way round."""
    if not may_go(WINDOWS, matter, now) or not matter.has_receipts:
        return
    assert not matter.disputed and matter.settled_at is not None
    assert now > matter.settled_at + WINDOWS.challenge_window  # the last claim that can carry it was no later
    if forced_at <= matter.expiry + WINDOWS.force_grace:
        assert now > forced_at + WINDOWS.challenge_window


@given(matters, times)
def test_who_is_not_looked_at_could_not_go(matter: Matter, now: int) -> None:
    if matter.has_receipts and matter.expiry >= waits_until(WINDOWS, now):
        assert not may_go(WINDOWS, matter, now)


def test_settled() -> None:
    assert is_settled(last_is_paid=True, reach=50, claimed=50, is_past=False)
    assert not is_settled(last_is_paid=True, reach=50, claimed=49, is_past=False)
    assert not is_settled(last_is_paid=False, reach=50, claimed=80, is_past=False)  # the rest may be paid for yet
    assert is_settled(last_is_paid=False, reach=50, claimed=0, is_past=True)


# ── the store's side ────────────────────────────────────────────────────────

WORKER = "0x" + "aa" * 20


def serve(
    store: Store, payer: Payer, paid: int, state: str = "done", expiry: int = 5000
) -> tuple[bytes, list[Receipt]]:
    """A request with two receipts and rows, of which the first `paid` are paid for."""
    request = payer.request([Hop(WORKER, 0, 3, 3, 10)], [1, 2, 3], 50, expiry=expiry)
    request_id = eip712.digest(DOMAIN, request)
    store.begin_request(request_id, request, bytes(65), SALT, [1, 2, 3], 0, payer.session.address, 1)
    book = store.book(payer.account.address, payer.session.address, WORKER, 1)
    receipts = [
        receipt_for(request, request_id, 0, 1, Progress(2 + count, count, *[bytes([count]) * 32] * 3), bytes(32))
        for count in (1, 2)
    ]
    for at, receipt in enumerate(receipts):
        store.keep_receipt(receipt, eip712.digest(DOMAIN, receipt), bytes(65), [7] * (at + 1), b"rows", None)
        if at < paid:
            payment = payment_for(payer, book, receipt)
            index = len(book.leaves) - 1
            store.keep_voucher(payer.session.address, book.leaves[-1], index, payment.voucher, payment.signature)
    if state != "open":
        store.end_request(request_id, state)
    return request_id, receipts


def rows_file(store: Store, request_id: bytes) -> Path:
    return store.path.with_suffix(".rows") / f"{request_id.hex()}.bin"


def test_what_is_told_of_ended_requests(tmp_path: Path) -> None:
    store, payer = Store(tmp_path / "worker.sqlite"), Payer()
    serve(store, payer, 2, state="open")
    serve(store, payer, 2, expiry=6000)
    half, _ = serve(store, payer, 1, "failed")
    full, receipts = serve(store, payer, 2)
    found = {one.request_id: one for one in store.kept.ended(before=6000)}
    assert found.keys() == {half, full}
    assert (found[half].last_is_paid, found[full].last_is_paid) == (False, True)
    (held,) = store.best_vouchers()
    assert found[full].reach == held.voucher.total > found[half].reach > 0
    assert found[full].last_digest == eip712.digest(DOMAIN, receipts[-1])
    assert (found[full].payer, found[full].session_key, found[full].epoch) == (
        payer.account.address,
        payer.session.address,
        1,
    )
    assert [one.request_id for one in store.kept.ended(6000, after=min(half, full))] == [max(half, full)]
    store.kept.settle([full], 777)
    assert {one.request_id: one.settled_at for one in store.kept.ended(6000)} == {half: None, full: 777}
    store.close()


def test_what_went_is_gone_and_the_rest_is_whole(tmp_path: Path) -> None:
    store, payer = Store(tmp_path / "worker.sqlite"), Payer()
    going, receipts = serve(store, payer, 2)
    staying, others = serve(store, payer, 2)
    store.kept.let_go([going])
    assert not store.kept.is_whole(going)
    assert store.kept.delete() == 1
    assert store.kept.delete() == 0
    assert (rows_file(store, going).exists(), rows_file(store, staying).exists()) == (False, True)
    record = store.record(going)
    assert record is not None and (record.rows, record.generated) == (b"", [7, 7])
    assert store.receipt(eip712.digest(DOMAIN, receipts[0])) == receipts[0]
    inputs = store.kept.inputs(eip712.digest(DOMAIN, others[1]))
    assert inputs is not None and (inputs.row_bytes, inputs.read(2, 4)) == (8, b"wsro")
    assert [one.request_id for one in store.kept.ended(6000)] == [staying]
    assert not store.kept.is_whole(bytes(32)) and store.kept.inputs(bytes(32)) is None
    store.close()


def test_killed_at_any_moment_of_deleting(tmp_path: Path) -> None:
    """Never is a file missing that the database counts on, and the next start deletes what was let go."""
    data = tmp_path / "data"
    data.mkdir()
    payer = Payer()
    with recorded(data, tmp_path / "copies") as crashes:
        store = Store(data / "worker.sqlite")
        ids = [serve(store, payer, 2)[0] for _ in range(3)]
        first = len(crashes.points)
        store.kept.let_go(ids[:2])
        store.kept.delete()
        store.close()
    assert len(crashes.points) > first + 1
    for point in crashes.points[first:]:
        copy = Store(restored(point, tmp_path / f"again-{point.number}") / "worker.sqlite")
        for request_id in ids:
            record = copy.record(request_id)
            assert record is not None
            if copy.kept.is_whole(request_id):
                assert record.rows == b"rowsrows", point
        copy.kept.delete()
        assert rows_file(copy, ids[2]).exists()
        for request_id in ids[:2]:
            assert copy.kept.is_whole(request_id) == rows_file(copy, request_id).exists(), point
        copy.close()


def test_requests_of_an_older_version_are_found(tmp_path: Path) -> None:
    store, payer = Store(tmp_path / "worker.sqlite"), Payer()
    request_id, _ = serve(store, payer, 2)
    with store._db.transaction() as db:
        db.execute("UPDATE requests SET expiry = NULL")
    assert [one.request_id for one in store.kept.ended(5001)] == [request_id]
    row = store._db.row("SELECT request, expiry FROM requests")
    assert msgpack.unpackb(row[0])["expiry"] == row[1] == 5000
    store.close()
