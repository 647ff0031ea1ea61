"""The judge of what was signed finds what is lost and what was signed twice."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from efedllm.protocol.objects import Receipt, Voucher
from tests.end_to_end.signed import Stores

PAYER, FIRST, SECOND, KEY = ("0x" + byte * 20 for byte in ("aA", "b1", "c2", "d3"))
RECEIPT = Receipt(
    requestId=b"\x01" * 32,
    shard=0,
    worker=FIRST,
    payer=PAYER,
    epoch=0,
    positions=8,
    promptCount=8,
    generated=1,
    tokenRoot=b"\x02" * 32,
    inputRoot=b"\x03" * 32,
    outputRoot=b"\x04" * 32,
    upstream=bytes(32),
    fee=12,
)
VOUCHERS = [Voucher(PAYER, FIRST, 0, total, 1, bytes([total]) * 32) for total in (5, 12)]
SCHEMA = """
CREATE TABLE requests (id BLOB, request BLOB, signature BLOB);
CREATE TABLE receipts (receipt BLOB, signature BLOB);
CREATE TABLE upstream_receipts (receipt BLOB, signature BLOB);
CREATE TABLE vouchers (worker TEXT, session_key TEXT, epoch INTEGER, sequence INTEGER, total TEXT, voucher BLOB,
    signature BLOB);
"""


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute(statement, values).rowcount == 1
        db.commit()


def wire(value: Receipt | Voucher) -> bytes:
    packed: bytes = msgpack.packb(value.to_wire())
    return packed


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    """A receipt of the first worker at everybody, and two vouchers for it at it and at the client."""
    paths = {name: tmp_path / name for name in ("client", FIRST, SECOND)}
    for name, path in paths.items():
        with closing(sqlite3.connect(path)) as db:
            db.executescript(SCHEMA)
            db.execute("INSERT INTO requests VALUES (?, 'asked', 'signed')", (RECEIPT.requestId,))
            table = "upstream_receipts" if name == SECOND else "receipts"
            db.execute(f"INSERT INTO {table} VALUES (?, 'signed')", (wire(RECEIPT),))
            for sequence, voucher in enumerate([] if name == SECOND else VOUCHERS):
                row = (FIRST, KEY, 0, sequence, str(voucher.total), wire(voucher), b"signed")
                db.execute("INSERT INTO vouchers VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            db.commit()
    return Stores(paths["client"], {name: paths[name] for name in (FIRST, SECOND)})


def test_sound_books(stores: Stores) -> None:
    stores.check()
    stores.check()
    assert stores.totals() == {FIRST: (12, 12), SECOND: (0, 0)}
    assert stores.session_keys() == {KEY}


def test_a_receipt_that_its_signer_lost(stores: Stores, tmp_path: Path) -> None:
    change(tmp_path / FIRST, "DELETE FROM receipts")
    with pytest.raises(AssertionError, match="is lost"):
        stores.check()


@pytest.mark.parametrize("holder", ["client", FIRST, SECOND])
def test_a_receipt_that_was_signed_twice(stores: Stores, tmp_path: Path, holder: str) -> None:
    table = "upstream_receipts" if holder == SECOND else "receipts"
    change(tmp_path / holder, f"UPDATE {table} SET receipt = ?", wire(replace(RECEIPT, outputRoot=b"\x05" * 32)))
    with pytest.raises(AssertionError, match="signed twice with different content"):
        stores.check()


def test_a_voucher_that_was_signed_twice(stores: Stores, tmp_path: Path) -> None:
    other = replace(VOUCHERS[1], receiptsRoot=b"\x09" * 32)
    change(tmp_path / FIRST, "UPDATE vouchers SET voucher = ? WHERE total = '12'", wire(other))
    with pytest.raises(AssertionError, match="signed twice with different content"):
        stores.check()


def test_a_voucher_that_the_client_lost(stores: Stores, tmp_path: Path) -> None:
    change(tmp_path / "client", "DELETE FROM vouchers WHERE total = '12'")
    with pytest.raises(AssertionError, match=r"vouchers at .* is lost"):
        stores.check()


def test_vouchers_that_fall(stores: Stores, tmp_path: Path) -> None:
    change(tmp_path / "client", "UPDATE vouchers SET sequence = 7 WHERE total = '5'")
    with pytest.raises(AssertionError, match="do not rise"):
        stores.check()


def test_what_was_there_before_and_is_lost_everywhere(stores: Stores, tmp_path: Path) -> None:
    stores.check()
    for name in (FIRST, "client"):
        change(tmp_path / name, "DELETE FROM vouchers WHERE total = '12'")
    with pytest.raises(AssertionError, match="values seen before"):
        stores.check()


def test_a_request_that_the_client_does_not_know(stores: Stores, tmp_path: Path) -> None:
    change(tmp_path / SECOND, "UPDATE requests SET id = 'another'")
    with pytest.raises(AssertionError, match="requests at"):
        stores.check()
