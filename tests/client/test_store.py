"""The store: what was signed is there again, in order; damage and strangers are refused."""

import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from efedllm.client.errors import StoreError
from efedllm.client.store import SentVoucher, Store, store_path
from efedllm.client.trust import FORGIVEN_PART, REQUESTS_PER_BREAK, Breaks, Word
from efedllm.protocol.messages import Signed
from efedllm.protocol.objects import Receipt
from efedllm.protocol.vouchers import Book
from tests.protocol.test_requests import PROMPT, REQUEST, SALT
from tests.protocol.test_vouchers import receipt
from tests.vectors.make_protocol import DOMAIN

KEY = "0x" + "12" * 20
PAYER, WORKER = receipt(1, 1).payer, receipt(1, 1).worker
ALONE = replace(REQUEST, path=(replace(REQUEST.path[0], worker=WORKER),))
"""A request of that worker."""


def pay(store: Store, book: Book, item: Receipt) -> SentVoucher:
    digest = bytes([item.positions]) * 32
    leaf, replaces = book.next_leaf(item.requestId, digest, item.fee)
    sent = SentVoucher(book.voucher_after(leaf, replaces), b"signature", digest)
    store.keep_voucher(KEY, leaf, len(book.leaves) - (1 if replaces else 0), sent, item, b"worker")
    book.add(leaf, replaces)
    return sent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return store_path(tmp_path, DOMAIN.chain_id, DOMAIN.verifying_contract)


def test_path_is_one_per_deployment(tmp_path: Path) -> None:
    assert store_path(tmp_path, 5, "0xAbCdEf0123" + "0" * 30) == tmp_path / "client-5-abcdef01.sqlite"


def test_books_and_vouchers_are_there_again(path: Path) -> None:
    store, book = Store(path), Book(PAYER, WORKER, 1)
    sent = [pay(store, book, receipt(request, fee, at)) for at, (request, fee) in enumerate([(1, 5), (1, 8), (2, 4)])]
    store.close()
    store = Store(path)
    assert store.book(PAYER, WORKER, KEY, 1).leaves == book.leaves
    for total, missing in ((0, sent), (5, sent[1:]), (12, [])):
        kept = store.kept_after(WORKER, KEY, 1, total)
        assert kept is not None and [one.sent for one in kept] == missing
        assert all(one.receipt_signature == b"worker" for one in kept)
    assert store.kept_after(WORKER, KEY, 1, 6) is None
    for other in ((PAYER, KEY, 1), (WORKER, PAYER, 1), (WORKER, KEY, 2)):
        assert store.kept_after(*other, 0) == []
        assert store.book(PAYER, *other).leaves == []
    store.close()


def test_requests_with_their_receipts(path: Path) -> None:
    store, book = Store(path), Book(PAYER, WORKER, 1)
    item = receipt(1, 5)
    assert store.request(item.requestId) is None
    store.begin_request(item.requestId, REQUEST, b"s", SALT, PROMPT)
    pay(store, book, item)
    store.end_request(item.requestId, [7, 8], "done")
    past = store.request(item.requestId)
    assert past is not None
    assert (past.request, past.prompt, past.generated, past.state) == (REQUEST, PROMPT, [7, 8], "done")
    assert past.receipts == [(item, b"worker")]
    store.close()


def test_a_request_is_signed_once(path: Path) -> None:
    store = Store(path)
    store.begin_request(bytes(32), REQUEST, b"s", SALT, PROMPT)
    with pytest.raises(StoreError, match="cannot keep what is signed"):
        store.begin_request(bytes(32), REQUEST, b"s", SALT, PROMPT)
    store.close()


def test_evidence(path: Path) -> None:
    store, item = Store(path), receipt(1, 5)
    store.keep_evidence(bytes(32), WORKER, "it lied", [Signed(bytes(32), item, b"sig")])
    assert store.evidence(bytes(32)) == [(WORKER, "it lied", [(item, b"sig")])]
    assert store.evidence(b"\x01" * 32) == []
    store.close()


def test_every_commit_reaches_the_disk(path: Path) -> None:
    store = Store(path)
    assert store._db.row("PRAGMA synchronous") == (2,)
    assert store._db.row("PRAGMA journal_mode") == ("wal",)
    store.close()


def test_one_program_at_a_time(path: Path) -> None:
    store = Store(path)
    with pytest.raises(StoreError, match=r"another program \(process \d+\) uses"):
        Store(path)
    store.close()
    Store(path).close()


def test_a_store_of_the_future(path: Path) -> None:
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="the store is of version 99, this program knows 4: upgrade it"):
        Store(path)


def test_no_store(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(StoreError, match="cannot open"):
        Store(path)


def test_a_disk_that_refuses(path: Path) -> None:
    store = Store(path)
    store._db._open().execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="cannot keep what is signed"):
        store.begin_request(bytes(32), REQUEST, b"s", SALT, PROMPT)
    store.close()


def test_what_may_be_owed_is_known_until_it_is_settled(path: Path) -> None:
    store, (first, last) = Store(path), (REQUEST.path[0].worker, REQUEST.path[-1].worker)
    ids = [bytes([at]) * 32 for at in range(5)]
    for request_id in ids:
        store.begin_request(request_id, REQUEST, b"s", SALT, PROMPT)
    assert store.unsettled(first, 9) == []  # they run
    store.end_request(ids[0], [1], "done")
    store.end_request(ids[1], [], "failed", {first})
    store.end_request(ids[2], [1], "cancelled", {first, last})
    store.end_request(ids[3], [], "failed", ())
    assert store.unsettled(first, 9) == [ids[2], ids[1]]
    assert store.unsettled(first, 1) == [ids[2]]
    assert store.unsettled(last, 9) == [ids[2]]
    store.settle(ids[2], first)
    store.close()
    store = Store(path)  # after a kill: one ran
    assert store.unsettled(first, 9) == [ids[4], ids[1]]
    assert store.unsettled(last, 9) == [ids[4], ids[2]]
    store.close()


def test_what_was_paid_of_arrears_counts_until_a_request_completes(path: Path) -> None:
    store, worker = Store(path), REQUEST.path[0].worker
    store.note_arrears(worker, KEY, 1, 2**100, 2**90)
    store.note_arrears(worker, KEY, 1, 5, 3)
    store.close()
    store = Store(path)
    assert store.word(worker, KEY, 1) == Word(2**100 + 5, 2**90 + 3)
    assert store.word(worker, KEY, 2) == store.word(worker, PAYER, 1) == Word()
    for at, state in enumerate(("failed", "cancelled", "done")):
        assert store.word(worker, KEY, 1).later == 2**100 + 5
        store.begin_request(bytes([at]) * 32, REQUEST, b"s", SALT, PROMPT)
        store.end_request(bytes([at]) * 32, [], state)
    assert store.word(worker, KEY, 1) == Word(0, 2**90 + 3), "a request that cost nothing wins nothing back"
    store.close()


def test_a_request_that_completes_wins_trust_by_what_it_cost(path: Path) -> None:
    store, request_id = Store(path), receipt(1, 1).requestId
    store.note_arrears(WORKER, KEY, 1, 900, 900)
    store.note_arrears(WORKER, KEY, 2, 900, 900)
    store.begin_request(request_id, ALONE, b"s", SALT, PROMPT)
    book = Book(PAYER, WORKER, 1)
    for at, (number, fee) in enumerate([(1, 320), (1, 640), (2, 5000), (1, 3200)]):
        pay(store, book, receipt(number, fee, at))
    store.end_request(request_id, [], "done")
    assert store.word(WORKER, KEY, 1) == Word(0, 900 - 3200 // FORGIVEN_PART)
    assert store.word(WORKER, KEY, 2) == Word(0, 900)
    store.close()


def test_breaks_are_kept_until_enough_requests_complete(path: Path) -> None:
    store = Store(path)
    for at in range(2):
        store.begin_request(bytes([at]) * 32, ALONE, b"s", SALT, PROMPT)
        store.end_request(bytes([at]) * 32, [], "failed", broken_by=[WORKER])
    store.close()
    store = Store(path)
    assert store.breaks(WORKER).count == 2
    assert abs(store.breaks(WORKER).at - time.time()) < 60
    assert store.breaks(PAYER) == Breaks()
    for at in range(2, 2 + 2 * REQUESTS_PER_BREAK):
        assert store.breaks(WORKER) != Breaks()
        store.begin_request(bytes([at]) * 32, ALONE, b"s", SALT, PROMPT)
        store.end_request(bytes([at]) * 32, [], "done")
    assert store.breaks(WORKER) == Breaks()
    store.close()


def test_who_is_accused(path: Path) -> None:
    store = Store(path)
    store.keep_evidence(bytes(32), WORKER, "it lied", [])
    assert (store.is_accused(WORKER), store.is_accused(PAYER)) == (True, False)
    store.close()
