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
