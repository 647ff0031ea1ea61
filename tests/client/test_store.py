"""The store: what was signed is there again, in order; damage and strangers are refused."""

import sqlite3
from pathlib import Path

import pytest

from efedllm.client.errors import StoreError
from efedllm.client.store import SentVoucher, Store, store_path
from efedllm.protocol.messages import Signed
from efedllm.protocol.objects import Receipt
from efedllm.protocol.vouchers import Book
from tests.protocol.test_requests import PROMPT, REQUEST, SALT
from tests.protocol.test_vouchers import receipt
from tests.vectors.make_protocol import DOMAIN

KEY = "0x" + "12" * 20
PAYER, WORKER = receipt(1, 1).payer, receipt(1, 1).worker


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
    assert store.vouchers_after(WORKER, KEY, 1, 0) == sent
    assert store.vouchers_after(WORKER, KEY, 1, 5) == sent[1:]
    assert store.vouchers_after(WORKER, KEY, 1, 12) == []
    assert store.vouchers_after(WORKER, KEY, 1, 6) is None
    for other in ((PAYER, KEY, 1), (WORKER, PAYER, 1), (WORKER, KEY, 2)):
        assert store.vouchers_after(*other, 0) == []
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
    with pytest.raises(StoreError, match="the store is of version 99, this program knows 3: upgrade it"):
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
