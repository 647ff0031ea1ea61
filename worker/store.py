"""What a worker must never lose: requests, receipts it signed or was given, vouchers, rows that entered its shard.

One SQLite file (WAL, synchronous=FULL) per deployment; rows lie in one append-only file per request beside it. A method
returns when its data is on disk; callers acknowledge only after that. Raises StoreError when the disk refuses.
"""

import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgpack

from efedllm.protocol.frames import pack_tokens, unpack_tokens
from efedllm.protocol.objects import Receipt, Request, Voucher
from efedllm.protocol.records import Record
from efedllm.protocol.vouchers import Book, Leaf

from .errors import StoreError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class HeldVoucher:
    """The best voucher of one channel and epoch, ready to claim. Amounts in base units."""

    payer: str
    session_key: str
    voucher: Voucher
    signature: bytes


def store_path(data_dir: Path, chain_id: int, channels: str) -> Path:
    """The worker's store for one deployment."""
    return data_dir / f"worker-{chain_id}-{channels[2:10].lower()}.sqlite"


class Store:
    """All methods are synchronous and may be called from any thread; one lock serialises them."""

    def __init__(self, path: Path) -> None:
        self._rows = path.with_suffix(".rows")
        self._lock = threading.Lock()
        try:
            self._rows.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._migrate()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot open {path}: {error}: free or repair the disk, then start again") from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreError(f"the store is of version {version}, this program knows {SCHEMA_VERSION}: upgrade it")
        if version < SCHEMA_VERSION:
            script = resources.files(__package__).joinpath("schema.sql").read_text()
            self._db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError | OSError):
                    raise StoreError(f"cannot keep what was signed ({error}): free or repair the disk") from error
                raise

    # requests

    def begin_request(
        self,
        request_id: bytes,
        request: Request,
        signature: bytes,
        salt: bytes,
        prompt: list[int],
        shard: int,
        session_key: str,
        epoch: int,
    ) -> bool:
        """Enters a request; False if it was entered before (a replay)."""
        row = (
            request_id,
            msgpack.packb(request.to_wire()),
            signature,
            salt,
            pack_tokens(prompt),
            shard,
            session_key,
            epoch,
            "open",
        )
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO requests (id, request, signature, salt, prompt, shard, session_key, epoch, state) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                row,
            )
            return cursor.rowcount == 1

    def end_request(self, request_id: bytes, state: str) -> None:
        """Marks how a request ended: done, failed or interrupted."""
        with self._transaction() as db:
            db.execute("UPDATE requests SET state = ? WHERE id = ?", (state, request_id))

    def interrupt_open(self) -> int:
        """After a restart: requests that a dead process left open are interrupted. Returns how many."""
        with self._transaction() as db:
            return db.execute("UPDATE requests SET state = 'interrupted' WHERE state = 'open'").rowcount

    # receipts

    def keep_receipt(
        self,
        receipt: Receipt,
        digest: bytes,
        signature: bytes,
        generated: list[int],
        rows: bytes,
        upstream: tuple[Receipt, bytes, bytes] | None,
    ) -> None:
        """A receipt about to be sent, with what proves it: tokens, rows since the receipt before, and the receipt
        (with digest and signature) of the upstream worker that it continues."""
        if rows:
            self._append_rows(receipt.requestId, rows)
        with self._transaction() as db:
            db.execute("UPDATE requests SET generated = ? WHERE id = ?", (pack_tokens(generated), receipt.requestId))
            db.execute(
                "INSERT INTO receipts (digest, request_id, positions, receipt, signature) VALUES (?, ?, ?, ?, ?)",
                (digest, receipt.requestId, receipt.positions, msgpack.packb(receipt.to_wire()), signature),
            )
            if upstream is not None:
                db.execute(
                    "INSERT INTO upstream_receipts (digest, request_id, receipt, signature) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT DO NOTHING",
                    (upstream[1], receipt.requestId, msgpack.packb(upstream[0].to_wire()), upstream[2]),
                )

    def receipt(self, digest: bytes) -> Receipt | None:
        """A receipt that this worker signed."""
        with self._lock:
            row = self._db.execute("SELECT receipt FROM receipts WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else Receipt.from_wire(msgpack.unpackb(row[0]))

    def _append_rows(self, request_id: bytes, rows: bytes) -> None:
        path = self._rows / f"{request_id.hex()}.bin"
        try:
            with path.open("ab") as file:
                file.write(rows)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}: free or repair the disk") from error

    def record(self, request_id: bytes) -> Record | None:
        """Everything kept about a request, as `POST /v1/receipts` hands it out; None if it is unknown."""
        with self._lock:
            row = self._db.execute(
                "SELECT request, signature, salt, prompt, generated FROM requests WHERE id = ?", (request_id,)
            ).fetchone()
            if row is None:
                return None
            pairs = self._db.execute(
                "SELECT receipt, signature FROM receipts WHERE request_id = ? ORDER BY positions", (request_id,)
            ).fetchall()
            upstream = self._db.execute(
                "SELECT receipt, signature FROM upstream_receipts WHERE request_id = ?", (request_id,)
            ).fetchall()
        path = self._rows / f"{request_id.hex()}.bin"
        return Record(
            request=Request.from_wire(msgpack.unpackb(row[0])),
            request_signature=row[1],
            salt=row[2],
            prompt=unpack_tokens(row[3]),
            generated=unpack_tokens(row[4]),
            receipts=[(Receipt.from_wire(msgpack.unpackb(receipt)), signature) for receipt, signature in pairs],
            rows=path.read_bytes() if path.exists() else b"",
            upstream=[(Receipt.from_wire(msgpack.unpackb(receipt)), signature) for receipt, signature in upstream],
        )

    # vouchers

    def keep_voucher(self, session_key: str, leaf: Leaf, index: int, voucher: Voucher, signature: bytes) -> None:
        """A voucher about to be credited. `index` is its leaf's place in the book."""
        key = (voucher.payer, session_key, voucher.epoch)
        with self._transaction() as db:
            (sequence,) = db.execute(
                "SELECT COALESCE(MAX(sequence), 0) + 1 FROM vouchers WHERE payer = ? AND session_key = ? AND epoch = ?",
                key,
            ).fetchone()
            db.execute(
                "INSERT INTO vouchers (payer, session_key, epoch, leaf, leaf_before, total, request_id, "
                "receipt_digest, voucher, signature, root, sequence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *key,
                    index,
                    str(leaf.before),
                    str(leaf.after),
                    leaf.request_id,
                    leaf.receipt_digest,
                    msgpack.packb(voucher.to_wire()),
                    signature,
                    voucher.receiptsRoot,
                    sequence,
                ),
            )

    def leaves_under(self, root: bytes) -> list[Leaf] | None:
        """Leaves under a voucher's `receiptsRoot`; None if no such voucher is held."""
        with self._lock:
            row = self._db.execute(
                "SELECT payer, session_key, epoch, sequence FROM vouchers WHERE root = ?", (root,)
            ).fetchone()
        return None if row is None else self._leaves(*row)

    def _leaves(self, payer: str, session_key: str, epoch: int, up_to: int) -> list[Leaf]:
        """Leaves as they were after the channel's first `up_to` vouchers."""
        with self._lock:
            rows = self._db.execute(
                "SELECT leaf, leaf_before, total, request_id, receipt_digest FROM vouchers "
                "WHERE payer = ? AND session_key = ? AND epoch = ? AND sequence <= ? ORDER BY sequence",
                (payer, session_key, epoch, up_to),
            ).fetchall()
        by_index = {
            index: Leaf(request_id, receipt_digest, int(before), int(after))
            for index, before, after, request_id, receipt_digest in rows
        }
        return [by_index[index] for index in sorted(by_index)]

    def book(self, payer: str, session_key: str, worker: str, epoch: int) -> Book:
        """The channel's book as the vouchers on disk make it."""
        return Book.restore(payer, worker, epoch, self._leaves(payer, session_key, epoch, sys.maxsize))

    def best_vouchers(self) -> list[HeldVoucher]:
        """The latest voucher of every channel and epoch."""
        with self._lock:
            rows = self._db.execute(
                "SELECT payer, session_key, voucher, signature FROM vouchers AS v WHERE sequence = ("
                "SELECT MAX(sequence) FROM vouchers WHERE payer = v.payer AND session_key = v.session_key "
                "AND epoch = v.epoch) ORDER BY payer, session_key, epoch"
            ).fetchall()
        return [
            HeldVoucher(payer, key, Voucher.from_wire(msgpack.unpackb(voucher)), signature)
            for payer, key, voucher, signature in rows
        ]
