"""What a worker must never lose: requests, receipts it signed or was given, vouchers, rows that entered its shard.

One SQLite file (WAL, synchronous=FULL) per deployment; rows lie in one append-only file per request beside it. A method
returns when its data is on disk; callers acknowledge only after that. Raises StoreError when the disk refuses.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import msgpack

from efedllm.protocol.frames import pack_tokens, unpack_tokens
from efedllm.protocol.objects import Receipt, Request, Voucher
from efedllm.protocol.records import Record
from efedllm.protocol.vouchers import Book, Leaf
from efedllm.storage import files
from efedllm.storage.database import Database, Layout

from .errors import StoreError

assert __package__ is not None
LAYOUT = Layout(__package__, ("schema.sql",), "what was signed", StoreError)


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
    """All methods are synchronous and may be called from any thread; one lock serialises them.

    Open in one program at a time, which serves; `read_only` may be opened beside it, as `efedllm claim` does.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        """Raises StoreError if the disk refuses, the file is damaged or newer, or another program serves from it."""
        self._rows = path.with_suffix(".rows")
        self._db = Database(path, LAYOUT, read_only)
        if not read_only:
            self._make_rows()

    def close(self) -> None:
        self._db.close()

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
        with self._db.transaction() as db:
            cursor = db.execute(
                "INSERT INTO requests (id, request, signature, salt, prompt, shard, session_key, epoch, state) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                row,
            )
            return cursor.rowcount == 1

    def end_request(self, request_id: bytes, state: str) -> None:
        """Marks how a request ended: done, failed or interrupted."""
        with self._db.transaction() as db:
            db.execute("UPDATE requests SET state = ? WHERE id = ?", (state, request_id))

    def interrupt_open(self) -> int:
        """After a restart: requests that a dead process left open are interrupted. Returns how many."""
        with self._db.transaction() as db:
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
        with self._db.transaction() as db:
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
        row = self._db.row("SELECT receipt FROM receipts WHERE digest = ?", (digest,))
        return None if row is None else Receipt.from_wire(msgpack.unpackb(row[0]))

    def _make_rows(self) -> None:
        try:
            self._rows.mkdir(exist_ok=True)
        except OSError as error:
            self._db.close()
            raise StoreError(f"cannot make {self._rows}: {error.strerror}: free or repair the disk") from error

    def _append_rows(self, request_id: bytes, rows: bytes) -> None:
        path = self._rows / f"{request_id.hex()}.bin"
        try:
            files.append(path, rows)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}: free or repair the disk") from error

    def record(self, request_id: bytes) -> Record | None:
        """Everything kept about a request, as `POST /v1/receipts` hands it out; None if it is unknown."""
        with self._db.together():
            row = self._db.row(
                "SELECT request, signature, salt, prompt, generated FROM requests WHERE id = ?", (request_id,)
            )
            if row is None:
                return None
            pairs = self._db.rows(
                "SELECT receipt, signature FROM receipts WHERE request_id = ? ORDER BY positions", (request_id,)
            )
            upstream = self._db.rows(
                "SELECT receipt, signature FROM upstream_receipts WHERE request_id = ?", (request_id,)
            )
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
        with self._db.transaction() as db:
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
        row = self._db.row("SELECT payer, session_key, epoch, sequence FROM vouchers WHERE root = ?", (root,))
        return None if row is None else self._leaves(*row)

    def _leaves(self, payer: str, session_key: str, epoch: int, up_to: int) -> list[Leaf]:
        """Leaves as they were after the channel's first `up_to` vouchers."""
        rows = self._db.rows(
            "SELECT leaf, leaf_before, total, request_id, receipt_digest FROM vouchers "
            "WHERE payer = ? AND session_key = ? AND epoch = ? AND sequence <= ? ORDER BY sequence",
            (payer, session_key, epoch, up_to),
        )
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
        rows = self._db.rows(
            "SELECT payer, session_key, voucher, signature FROM vouchers AS v WHERE sequence = ("
            "SELECT MAX(sequence) FROM vouchers WHERE payer = v.payer AND session_key = v.session_key "
            "AND epoch = v.epoch) ORDER BY payer, session_key, epoch"
        )
        return [
            HeldVoucher(payer, key, Voucher.from_wire(msgpack.unpackb(voucher)), signature)
            for payer, key, voucher, signature in rows
        ]
