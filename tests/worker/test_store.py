"""The worker's store: nothing twice, nothing half, every voucher's leaves for ever."""

import sqlite3
from pathlib import Path

import pytest
from eth_account import Account

from efedllm.protocol import eip712
from efedllm.protocol.objects import Hop, Receipt
from efedllm.protocol.receipts import Progress, receipt_for
from efedllm.protocol.vouchers import Book
from tests.worker.network import DOMAIN, PROMPT_PRICE, TOKEN_PRICE
from tests.worker.payer import SALT, Payer, payment_for
from worker.errors import StoreError
from worker.ledger import best_vouchers
from worker.store import Store, store_path

WORKER = Account.create().address


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "worker.sqlite")


def receipts(payer: Payer, *generated: int) -> list[Receipt]:
    """Cumulative receipts of one request with a prompt of 5."""

    request = payer.request([Hop(WORKER, 0, 3, PROMPT_PRICE, TOKEN_PRICE)], [1, 2, 3, 4, 5], 50)
    request_id = eip712.digest(DOMAIN, request)
    root = bytes([len(generated)]) * 32
    return [
        receipt_for(request, request_id, 0, 1, Progress(4 + count, count, root, root, root), bytes(32))
        for count in generated
    ]


def pay(store: Store, payer: Payer, book: Book, receipt: Receipt) -> None:
    """Keep the voucher for one more receipt, as a session does."""
    before = len(book.leaves)
    payment = payment_for(payer, book, receipt)
    index = len(book.leaves) - 1
    assert index in (before - 1, before)
    store.keep_voucher(payer.session.address, book.leaves[-1], index, payment.voucher, payment.signature)


def test_request_is_entered_once(store: Store) -> None:
    payer = Payer()

    request = payer.request([Hop(WORKER, 0, 3, 1, 1)], [1], 5)
    entry = (b"\x01" * 32, request, bytes(65), SALT, [1], 0, payer.session.address, 1)
    assert store.begin_request(*entry) is True
    assert store.begin_request(*entry) is False
    assert store.interrupt_open() == 1
    assert store.interrupt_open() == 0


def test_leaves_of_every_voucher_stay_available(store: Store) -> None:
    """A claim may carry any voucher; later ones replace its last leaf, and must not change what it stood for."""
    payer = Payer()
    book = Book(payer.account.address, WORKER, 1)
    seen = {}
    first, second = receipts(payer, 1, 16, 20), receipts(payer, 1, 3)
    for receipt in [*first[:2], *second, first[2]]:
        pay(store, payer, book, receipt)
        (held,) = store.best_vouchers()
        seen[held.voucher.receiptsRoot] = list(book.leaves)
    assert [len(leaves) for leaves in seen.values()] == [1, 1, 2, 2, 3]
    for root, leaves in seen.items():
        assert store.leaves_under(root) == leaves
    assert store.leaves_under(bytes(32)) is None
    assert store.book(payer.account.address, payer.session.address, WORKER, 1).leaves == book.leaves
    (held,) = store.best_vouchers()
    assert held.voucher.total == book.total


def test_receipt_is_signed_once_per_count(store: Store) -> None:
    payer = Payer()
    (receipt,) = receipts(payer, 1)
    store.keep_receipt(receipt, b"\x01" * 32, bytes(65), [9], b"", None)
    with pytest.raises(StoreError, match="something else was kept in its place before"):
        store.keep_receipt(receipt, b"\x02" * 32, bytes(65), [9], b"", None)


def test_the_same_receipt_may_be_kept_again(store: Store) -> None:
    """A request that is served again from an older copy of the store gives the same receipts."""
    payer = Payer()
    (receipt,) = receipts(payer, 1)
    store.keep_receipt(receipt, b"\x01" * 32, bytes(65), [9], b"", None)
    store.keep_receipt(receipt, b"\x01" * 32, bytes(65), [9], b"", None)
    assert store.receipt(b"\x01" * 32) == receipt


def test_rows_without_a_receipt_do_not_count(tmp_path: Path) -> None:
    """A crash between the rows and their receipt leaves rows that no receipt stands on."""
    store, payer = Store(tmp_path / "worker.sqlite"), Payer()
    request = payer.request([Hop(WORKER, 0, 3, PROMPT_PRICE, TOKEN_PRICE)], [1, 2, 3, 4, 5], 50)
    request_id = eip712.digest(DOMAIN, request)
    store.begin_request(request_id, request, bytes(65), SALT, [1, 2, 3, 4, 5], 0, payer.session.address, 1)
    root = bytes(32)
    first, second = (
        receipt_for(request, request_id, 0, 1, Progress(4 + n, n, root, root, root), bytes(32)) for n in (1, 16)
    )
    store.keep_receipt(first, b"\x01" * 32, bytes(65), [9], b"first", None)
    file = tmp_path / "worker.rows" / f"{request_id.hex()}.bin"
    file.write_bytes(file.read_bytes() + b"from a dead process")
    record = store.record(request_id)
    assert record is not None and record.rows == b"first"
    store.keep_receipt(second, b"\x02" * 32, bytes(65), [9] * 16, b"second", None)
    record = store.record(request_id)
    assert record is not None and record.rows == b"firstsecond"
    file.write_bytes(b"first")
    with pytest.raises(StoreError, match="lost 6 of its 11 bytes"):
        store.keep_receipt(second, b"\x02" * 32, bytes(65), [9] * 16, b"third", None)


def test_a_store_of_the_first_version_goes_on(tmp_path: Path) -> None:
    """Its channels have their latest vouchers, its rows count as they are, its vouchers are as old as can be."""
    path, payer = tmp_path / "worker.sqlite", Payer()
    book = Book(payer.account.address, WORKER, 1)
    store = Store(path)
    for receipt in receipts(payer, 1, 16):
        pay(store, payer, book, receipt)
    store.close()
    with sqlite3.connect(path) as database:
        for index in ("requests_failed", "requests_by_expiry", "requests_going", "vouchers_by_request"):
            database.execute(f"DROP INDEX {index}")
        for table in ("best_vouchers", "cursors", "games", "faults", "untold"):
            database.execute(f"DROP TABLE {table}")
        for column in ("expiry", "settled_at", "rows_state"):
            database.execute(f"ALTER TABLE requests DROP COLUMN {column}")
        database.execute("ALTER TABLE requests DROP COLUMN row_bytes")
        database.execute("ALTER TABLE vouchers DROP COLUMN kept_at")
        database.execute("PRAGMA user_version = 1")
    database.close()
    store = Store(path)
    (held,) = store.best_vouchers()
    assert held.voucher.total == book.total
    assert store.waiting_since(held, 0) == 0
    (later,) = receipts(payer, 3)
    pay(store, payer, book, later)
    (held,) = store.best_vouchers()
    assert held.voucher.total == book.total
    store.close()


def test_the_oldest_voucher_that_is_not_claimed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    payer = Payer()
    book = Book(payer.account.address, WORKER, 1)
    totals = []
    for at, receipt in enumerate(receipts(payer, 1, 16, 32, 48)):
        monkeypatch.setattr("worker.store.time.time", lambda at=at: 1000.5 + at)
        pay(store, payer, book, receipt)
        totals.append(book.total)
    (held,) = store.best_vouchers()
    assert totals[0] < 100 <= totals[1]  # another number of digits
    assert store.waiting_since(held, 0) == 1000
    assert store.waiting_since(held, totals[0] - 1) == 1000
    assert store.waiting_since(held, totals[0]) == 1001
    assert store.waiting_since(held, totals[2]) == 1003
    assert store.waiting_since(held, totals[3]) == 0


def test_vouchers_are_found_by_channel(store: Store) -> None:
    payer, other = Payer(), Payer()
    for one in (payer, other):
        book = Book(one.account.address, WORKER, 1)
        for receipt in receipts(one, 1, 16):
            pay(store, one, book, receipt)
    held = store.best_voucher(payer.account.address, payer.session.address, 1)
    assert held is not None
    assert held in store.best_vouchers()
    assert store.best_voucher(payer.account.address, payer.session.address, 2) is None
    assert store.holds_voucher(payer.session.address, held.voucher)
    assert not store.holds_voucher(other.session.address, held.voucher)


def test_store_survives_reopening_and_claims_read_it(tmp_path: Path) -> None:
    payer = Payer()
    path = store_path(tmp_path, 31337, DOMAIN.verifying_contract)
    store = Store(path)
    pay(store, payer, Book(payer.account.address, WORKER, 1), receipts(payer, 1)[0])
    # No close: what was kept is on disk, whatever becomes of the process.
    (held,) = best_vouchers(tmp_path, 31337, DOMAIN.verifying_contract)
    assert held.payer == payer.account.address
    assert eip712.recover(DOMAIN, held.voucher, held.signature) == payer.session.address
    store.close()


def test_claim_without_a_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no worker has served"):
        best_vouchers(tmp_path, 1, DOMAIN.verifying_contract)


def test_store_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "worker.sqlite"
    Store(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="version 99"):
        Store(path)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open"):
        Store(tmp_path / "file" / "worker.sqlite")


def test_rows_that_cannot_be_written_leave_no_receipt(store: Store, tmp_path: Path) -> None:
    payer = Payer()
    (receipt,) = receipts(payer, 1)
    (tmp_path / "worker.rows" / f"{receipt.requestId.hex()}.bin").mkdir()
    with pytest.raises(StoreError, match="free or repair the disk"):
        store.keep_receipt(receipt, b"\x01" * 32, bytes(65), [9], b"rows", None)
    store.keep_receipt(receipt, b"\x01" * 32, bytes(65), [9], b"", None)
