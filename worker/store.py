"""What a worker must never lose: requests, receipts it signed or was given, vouchers, rows that entered its shard.

One SQLite file (WAL, synchronous=FULL) per deployment; rows lie in one append-only file per request beside it. A method
returns when its data is on disk; callers acknowledge only after that. Raises StoreError when the disk refuses.
"""

import sqlite3
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgpack

from efedllm.protocol.frames import pack_tokens, unpack_tokens
from efedllm.protocol.objects import Receipt, Request, Voucher
from efedllm.protocol.records import Record
from efedllm.protocol.vouchers import Book, Leaf
from efedllm.storage.database import Database, Layout

from .errors import StoreError
from .games import Games
from .kept import Kept
from .rows import RowFiles

assert __package__ is not None
LAYOUT = Layout(
    __package__, ("schema.sql", "schema_2.sql", "schema_3.sql", "schema_4.sql"), "what was signed", StoreError
)


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
    """All methods are synchronous and may be called from any thread; one lock serialises them. `games` holds disputes,
    `kept` says what may be deleted.

    Open in one program at a time, which serves; `read_only` may be opened beside it, as `efedllm claim` does.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        """Raises StoreError if the disk refuses, the file is damaged or newer, or another program serves from it."""
        self.path = path
        self._db = Database(path, LAYOUT, read_only)
        try:
            self._rows = RowFiles(path.with_suffix(".rows"), read_only)
        except StoreError:
            self._db.close()
            raise
        self.games = Games(self._db)
        self.kept = Kept(self._db, self._rows)

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
            request.expiry,
        )
        with self._db.transaction() as db:
            cursor = db.execute(
                "INSERT INTO requests (id, request, signature, salt, prompt, shard, session_key, epoch, state, "
                "expiry, row_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING",
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

    def failed_fees(self, payer: str, session_key: str, epoch: int) -> dict[bytes, int]:
        """The fee of the last receipt of each failed request in one channel and epoch, paid or not."""
        rows = self._db.rows(
            "SELECT receipts.request_id, receipt FROM requests JOIN receipts ON receipts.request_id = requests.id "
            "WHERE session_key = ? AND epoch = ? AND state = 'failed' ORDER BY positions",
            (session_key, epoch),
        )
        receipts = [(request_id, Receipt.from_wire(msgpack.unpackb(packed))) for request_id, packed in rows]
        return {request_id: receipt.fee for request_id, receipt in receipts if receipt.payer == payer}

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
        request_id = receipt.requestId
        row_bytes = self._rows.extend(request_id, self._row_bytes(request_id), rows) if rows else None
        with self._db.transaction() as db:
            db.execute(
                "UPDATE requests SET generated = ?, row_bytes = COALESCE(?, row_bytes) WHERE id = ?",
                (pack_tokens(generated), row_bytes, request_id),
            )
            _insert_receipt(db, receipt, digest, signature)
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

    def payer_key(self, request_id: bytes) -> str | None:
        """The session key that signed a request; None if the request is not known here."""
        row = self._db.row("SELECT session_key FROM requests WHERE id = ?", (request_id,))
        return None if row is None else row[0]

    def _row_bytes(self, request_id: bytes) -> int | None:
        """Length of the rows that receipts on disk stand on; None if it is not known: everything in the file."""
        row = self._db.row("SELECT row_bytes FROM requests WHERE id = ?", (request_id,))
        return None if row is None else row[0]

    def record(self, request_id: bytes) -> Record | None:
        """Everything kept about a request, as `POST /v1/receipts` hands it out; None if it is unknown."""
        with self._db.together():
            row = self._db.row(
                "SELECT request, signature, salt, prompt, generated, row_bytes FROM requests WHERE id = ?",
                (request_id,),
            )
            if row is None:
                return None
            pairs = self._db.rows(
                "SELECT receipt, signature FROM receipts WHERE request_id = ? ORDER BY positions", (request_id,)
            )
            upstream = self._db.rows(
                "SELECT receipt, signature FROM upstream_receipts WHERE request_id = ?", (request_id,)
            )
        return Record(
            request=Request.from_wire(msgpack.unpackb(row[0])),
            request_signature=row[1],
            salt=row[2],
            prompt=unpack_tokens(row[3]),
            generated=unpack_tokens(row[4]),
            receipts=[(Receipt.from_wire(msgpack.unpackb(receipt)), signature) for receipt, signature in pairs],
            rows=self._rows.read(request_id, row[5]),
            upstream=[(Receipt.from_wire(msgpack.unpackb(receipt)), signature) for receipt, signature in upstream],
        )

    # vouchers

    def keep_voucher(
        self,
        session_key: str,
        leaf: Leaf,
        index: int,
        voucher: Voucher,
        signature: bytes,
        receipt: tuple[Receipt, bytes, bytes] | None = None,
    ) -> None:
        """A voucher about to be credited. `index` is its leaf's place in the book. `receipt`: the one that it pays for,
        with digest and signature, where that may not be here any more."""
        key = (voucher.payer, session_key, voucher.epoch)
        with self._db.transaction() as db:
            found = db.execute(
                "SELECT sequence FROM best_vouchers WHERE payer = ? AND session_key = ? AND epoch = ?", key
            ).fetchone()
            sequence = found[0] + 1 if found else 1
            db.execute(
                "INSERT INTO vouchers (payer, session_key, epoch, leaf, leaf_before, total, request_id, "
                "receipt_digest, voucher, signature, root, sequence, kept_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                    int(time.time()),
                ),
            )
            db.execute("INSERT OR REPLACE INTO best_vouchers VALUES (?, ?, ?, ?)", (*key, sequence))
            if receipt is not None:
                _insert_receipt(db, *receipt, or_other=True)

    def holds_voucher(self, session_key: str, voucher: Voucher) -> bool:
        """Whether this voucher was kept for the channel, be it the latest or an earlier one."""
        key = (voucher.payer, session_key, voucher.epoch)
        rows = self._db.rows(
            "SELECT payer, session_key, epoch FROM vouchers WHERE root = ? AND total = ?",
            (voucher.receiptsRoot, str(voucher.total)),
        )
        return key in rows

    def waiting_since(self, held: HeldVoucher, claimed: int) -> int:
        """When the oldest voucher of a channel was kept whose value is not all claimed, in unix seconds."""
        voucher, text = held.voucher, str(claimed)
        row = self._db.row(
            "SELECT kept_at FROM vouchers WHERE payer = ? AND session_key = ? AND epoch = ? "
            # Amounts may exceed SQLite's integers; as decimals without leading zeros they compare by length first.
            "AND (LENGTH(total), total) > (LENGTH(?), ?) ORDER BY sequence LIMIT 1",
            (held.payer, held.session_key, voucher.epoch, text, text),
        )
        return int(row[0]) if row else 0

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
        return self._best("ORDER BY payer, session_key, epoch", ())

    def best_voucher(self, payer: str, session_key: str, epoch: int) -> HeldVoucher | None:
        """The latest voucher of one channel in one epoch; None if there is none."""
        found = self._best("WHERE payer = ? AND session_key = ? AND epoch = ?", (payer, session_key, epoch))
        return found[0] if found else None

    def _best(self, which: str, values: tuple[object, ...]) -> list[HeldVoucher]:
        rows = self._db.rows(
            f"SELECT payer, session_key, voucher, signature FROM best_vouchers NATURAL JOIN vouchers {which}",
            values,
        )
        return [
            HeldVoucher(payer, key, Voucher.from_wire(msgpack.unpackb(voucher)), signature)
            for payer, key, voucher, signature in rows
        ]


def _insert_receipt(
    db: sqlite3.Connection, receipt: Receipt, digest: bytes, signature: bytes, or_other: bool = False
) -> None:
    """The same receipt may come again: inference is exact, so a request that is served again from an old copy of the
    store gives it again. Another one at the same counts raises IntegrityError, unless `or_other` lets it stay."""
    db.execute(
        "INSERT INTO receipts (digest, request_id, positions, receipt, signature) VALUES (?, ?, ?, ?, ?) "
        f"ON CONFLICT {'' if or_other else '(digest)'} DO NOTHING",
        (digest, receipt.requestId, receipt.positions, msgpack.packb(receipt.to_wire()), signature),
    )
