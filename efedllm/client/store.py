"""What a client must never lose: requests and vouchers it signed, receipts it paid for, evidence against workers.

One SQLite file (WAL, synchronous=FULL) per payer's data directory and deployment. A method returns when its data is on
disk; what was signed is sent only after that. Methods are synchronous and may be called from any thread.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgpack

from efedllm.client.errors import StoreError
from efedllm.protocol.frames import pack_tokens, unpack_tokens
from efedllm.protocol.messages import Signed
from efedllm.protocol.objects import Receipt, Request, Voucher
from efedllm.protocol.vouchers import Book, Leaf

MIGRATIONS = ("schema.sql",)
"""Scripts in order; the store's version is the number of those that it went through."""


@dataclass(frozen=True)
class SentVoucher:
    """A voucher as it was, or is to be, sent: with the digest of the receipt that it adds."""

    voucher: Voucher
    signature: bytes
    receipt_digest: bytes


@dataclass(frozen=True)
class PastRequest:
    """A request as the store has it; `state` is open, done, cancelled or failed."""

    request: Request
    prompt: list[int]
    generated: list[int]
    state: str
    receipts: list[tuple[Receipt, bytes]]


def store_path(data_dir: Path, chain_id: int, channels: str) -> Path:
    """The client's store for one deployment."""
    return data_dir / f"client-{chain_id}-{channels[2:10].lower()}.sqlite"


class Store:
    """Open in one program at a time: two would sign different vouchers for the same sum."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError if the disk refuses, or another program has it open."""
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._guard = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
            self._take_guard(path)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._migrate()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot open {path}: {error}; free or repair the disk, then try again") from error

    def close(self) -> None:
        with self._lock:
            self._db.close()
            os.close(self._guard)

    def _take_guard(self, path: Path) -> None:
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._guard)
            raise StoreError(
                f"another program pays from {path.parent}: let it end, or pass another --data-dir"
            ) from error

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise StoreError(f"the store is of version {version}, this program knows {len(MIGRATIONS)}: upgrade it")
        for number, name in enumerate(MIGRATIONS[version:], version + 1):
            script = resources.files(__package__).joinpath(name).read_text()
            self._db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")

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
                if isinstance(error, sqlite3.Error):
                    raise StoreError(f"cannot keep what is signed ({error}): free or repair the disk") from error
                raise

    # requests

    def begin_request(
        self, request_id: bytes, request: Request, signature: bytes, salt: bytes, prompt: list[int]
    ) -> None:
        """A request about to be sent."""
        row = (request_id, msgpack.packb(request.to_wire()), signature, salt, pack_tokens(prompt))
        with self._transaction() as db:
            db.execute(
                "INSERT INTO requests (id, request, signature, salt, prompt, state) VALUES (?, ?, ?, ?, ?, 'open')", row
            )

    def end_request(self, request_id: bytes, generated: list[int], state: str) -> None:
        """How a request ended: done, cancelled or failed."""
        with self._transaction() as db:
            db.execute(
                "UPDATE requests SET generated = ?, state = ? WHERE id = ?", (pack_tokens(generated), state, request_id)
            )

    def request(self, request_id: bytes) -> PastRequest | None:
        with self._lock:
            row = self._db.execute(
                "SELECT request, prompt, generated, state FROM requests WHERE id = ?", (request_id,)
            ).fetchone()
            pairs = self._db.execute(
                "SELECT receipt, signature FROM receipts WHERE request_id = ? ORDER BY shard, positions", (request_id,)
            ).fetchall()
        if row is None:
            return None
        return PastRequest(
            Request.from_wire(msgpack.unpackb(row[0])),
            unpack_tokens(row[1]),
            unpack_tokens(row[2]),
            row[3],
            [(Receipt.from_wire(msgpack.unpackb(receipt)), signature) for receipt, signature in pairs],
        )

    # vouchers

    def keep_voucher(
        self,
        session_key: str,
        leaf: Leaf,
        index: int,
        sent: SentVoucher,
        receipt: Receipt,
        receipt_signature: bytes,
    ) -> None:
        """A voucher about to be sent, with the receipt that it adds. `index` is its leaf's place in the book."""
        voucher = sent.voucher
        key = (voucher.worker, session_key, voucher.epoch)
        with self._transaction() as db:
            db.execute(
                "INSERT INTO receipts (digest, request_id, shard, positions, receipt, signature) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    sent.receipt_digest,
                    receipt.requestId,
                    receipt.shard,
                    receipt.positions,
                    msgpack.packb(receipt.to_wire()),
                    receipt_signature,
                ),
            )
            (sequence,) = db.execute(
                "SELECT COALESCE(MAX(sequence), 0) + 1 FROM vouchers "
                "WHERE worker = ? AND session_key = ? AND epoch = ?",
                key,
            ).fetchone()
            db.execute(
                "INSERT INTO vouchers (worker, session_key, epoch, sequence, leaf, leaf_before, total, request_id, "
                "receipt_digest, voucher, signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *key,
                    sequence,
                    index,
                    str(leaf.before),
                    str(leaf.after),
                    leaf.request_id,
                    leaf.receipt_digest,
                    msgpack.packb(voucher.to_wire()),
                    sent.signature,
                ),
            )

    def book(self, payer: str, worker: str, session_key: str, epoch: int) -> Book:
        """The channel's book as the vouchers on disk make it. Raises VoucherError if they do not lie end to end."""
        with self._lock:
            rows = self._db.execute(
                "SELECT request_id, receipt_digest, leaf_before, total, MAX(sequence) FROM vouchers "
                "WHERE worker = ? AND session_key = ? AND epoch = ? GROUP BY leaf ORDER BY leaf",
                (worker, session_key, epoch),
            ).fetchall()
        leaves = [Leaf(request_id, digest, int(before), int(after)) for request_id, digest, before, after, _ in rows]
        return Book.restore(payer, worker, epoch, leaves)

    def vouchers_after(self, worker: str, session_key: str, epoch: int, total: int) -> list[SentVoucher] | None:
        """What was signed after the voucher of `total` (0: after nothing), in order; None if none of that total was."""
        key = (worker, session_key, epoch)
        with self._lock:
            row = self._db.execute(
                "SELECT sequence FROM vouchers WHERE worker = ? AND session_key = ? AND epoch = ? AND total = ?",
                (*key, str(total)),
            ).fetchone()
            if row is None and total:
                return None
            rows = self._db.execute(
                "SELECT voucher, signature, receipt_digest FROM vouchers "
                "WHERE worker = ? AND session_key = ? AND epoch = ? AND sequence > ? ORDER BY sequence",
                (*key, row[0] if row else 0),
            ).fetchall()
        return [
            SentVoucher(Voucher.from_wire(msgpack.unpackb(voucher)), signature, receipt_digest)
            for voucher, signature, receipt_digest in rows
        ]

    # evidence

    def keep_evidence(self, request_id: bytes, worker: str, reason: str, receipts: Sequence[Signed]) -> None:
        """A violation, with the worker's receipts that show it."""
        packed = msgpack.packb([[signed.receipt.to_wire(), signed.signature] for signed in receipts])
        with self._transaction() as db:
            db.execute(
                "INSERT INTO evidence (request_id, worker, reason, receipts) VALUES (?, ?, ?, ?)",
                (request_id, worker, reason, packed),
            )

    def evidence(self, request_id: bytes) -> list[tuple[str, str, list[tuple[Receipt, bytes]]]]:
        """(worker, reason, receipts with signatures) of what was found about a request."""
        with self._lock:
            rows = self._db.execute(
                "SELECT worker, reason, receipts FROM evidence WHERE request_id = ? ORDER BY id", (request_id,)
            ).fetchall()
        return [
            (worker, reason, [(Receipt.from_wire(receipt), bytes(sig)) for receipt, sig in msgpack.unpackb(packed)])
            for worker, reason, packed in rows
        ]
