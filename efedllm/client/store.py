"""What a client must never lose: requests and vouchers it signed, receipts it paid for, evidence against workers.

One SQLite file (WAL, synchronous=FULL) per payer's data directory and deployment. A method returns when its data is on
disk; what was signed is sent only after that. Methods are synchronous and may be called from any thread.
"""

import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgpack

from efedllm.client import trust_rows
from efedllm.client.errors import StoreError
from efedllm.client.trust import Breaks, Word
from efedllm.protocol.frames import pack_tokens, unpack_tokens
from efedllm.protocol.messages import Signed
from efedllm.protocol.objects import Receipt, Request, Voucher
from efedllm.protocol.vouchers import Book, Leaf
from efedllm.storage.database import Database, Layout

SCHEMAS = ("schema.sql", "schema_2.sql", "schema_3.sql", "schema_4.sql")
LAYOUT = Layout("efedllm.client", SCHEMAS, "what is signed", StoreError)


@dataclass(frozen=True)
class SentVoucher:
    """A voucher as it was, or is to be, sent: with the digest of the receipt that it adds."""

    voucher: Voucher
    signature: bytes
    receipt_digest: bytes


@dataclass(frozen=True)
class KeptVoucher:
    """A voucher with the receipt that it adds, as the worker signed it; None where the receipt was lost."""

    sent: SentVoucher
    receipt: Receipt | None
    receipt_signature: bytes


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
        """Raises StoreError if the disk refuses, the file is damaged or newer, or another program has it open."""
        self._db = Database(path, LAYOUT)
        self._running: set[bytes] = set()

    def close(self) -> None:
        self._db.close()

    # requests

    def begin_request(
        self, request_id: bytes, request: Request, signature: bytes, salt: bytes, prompt: list[int]
    ) -> None:
        """A request about to be sent."""
        row = (request_id, msgpack.packb(request.to_wire()), signature, salt, pack_tokens(prompt))
        workers = {hop.worker: None for hop in request.path}
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO requests (id, request, signature, salt, prompt, state) VALUES (?, ?, ?, ?, ?, 'open')", row
            )
            db.executemany(
                "INSERT INTO unsettled (request_id, worker) VALUES (?, ?)",
                [(request_id, worker) for worker in workers],
            )
        self._running.add(request_id)

    def end_request(
        self,
        request_id: bytes,
        generated: list[int],
        state: str,
        accepted: Collection[str] | None = None,
        broken_by: Collection[str] = (),
    ) -> None:
        """How a request ended: done, cancelled or failed. `accepted`: the workers that began it; where it is not done,
        something may be owed to these alone (None: all). `broken_by`: who may have broken it off."""
        now = int(time.time())
        with self._db.transaction() as db:
            db.execute(
                "UPDATE requests SET generated = ?, state = ? WHERE id = ?", (pack_tokens(generated), state, request_id)
            )
            if state == "done":
                trust_rows.win_trust(db, request_id)
                db.execute("DELETE FROM unsettled WHERE request_id = ?", (request_id,))
            elif accepted is not None:
                rows = db.execute("SELECT worker FROM unsettled WHERE request_id = ?", (request_id,)).fetchall()
                db.executemany(
                    "DELETE FROM unsettled WHERE request_id = ? AND worker = ?",
                    [(request_id, worker) for (worker,) in rows if worker not in accepted],
                )
            for worker in broken_by:
                trust_rows.keep_breaks(db, worker, self.breaks(worker).broke(now))
        self._running.discard(request_id)

    def request(self, request_id: bytes) -> PastRequest | None:
        with self._db.together():
            row = self._db.row("SELECT request, prompt, generated, state FROM requests WHERE id = ?", (request_id,))
            pairs = self._db.rows(
                "SELECT receipt, signature FROM receipts WHERE request_id = ? ORDER BY shard, positions", (request_id,)
            )
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
        with self._db.transaction() as db:
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
            _insert_voucher(db, key, _last(db, key) + 1, index, leaf, msgpack.packb(voucher.to_wire()), sent.signature)
            _use(db, *key)

    def adopt(self, session_key: str, voucher: Voucher, signature: bytes, leaves: Sequence[Leaf]) -> None:
        """A voucher that was signed and then lost here, with all leaves under its root; those that are known stay."""
        key = (voucher.worker, session_key, voucher.epoch)
        known = self.book(voucher.payer, *key).leaves
        with self._db.transaction() as db:
            sequence = _last(db, key)
            for index, leaf in enumerate(leaves):
                if index < len(known) and known[index].hash() == leaf.hash():
                    continue
                sequence += 1
                is_last = index == len(leaves) - 1
                packed = msgpack.packb(voucher.to_wire()) if is_last else b""
                _insert_voucher(db, key, sequence, index, leaf, packed, signature if is_last else b"")
            _use(db, *key)

    def book(self, payer: str, worker: str, session_key: str, epoch: int) -> Book:
        """The channel's book as the vouchers on disk make it. Raises VoucherError if they do not lie end to end."""
        rows = self._db.rows(
            "SELECT request_id, receipt_digest, leaf_before, total, MAX(sequence) FROM vouchers "
            "WHERE worker = ? AND session_key = ? AND epoch = ? GROUP BY leaf ORDER BY leaf",
            (worker, session_key, epoch),
        )
        leaves = [Leaf(request_id, digest, int(before), int(after)) for request_id, digest, before, after, _ in rows]
        return Book.restore(payer, worker, epoch, leaves)

    def root_of(self, worker: str, session_key: str, epoch: int, total: int) -> bytes | None:
        """`receiptsRoot` of the voucher of `total`; None if none of that total was signed as far as is known here."""
        row = self._db.row(
            "SELECT voucher FROM vouchers WHERE worker = ? AND session_key = ? AND epoch = ? AND total = ? "
            "ORDER BY sequence DESC",
            (worker, session_key, epoch, str(total)),
        )
        return Voucher.from_wire(msgpack.unpackb(row[0])).receiptsRoot if row and row[0] else None

    def kept_after(self, worker: str, session_key: str, epoch: int, total: int) -> list[KeptVoucher] | None:
        """What was signed after the voucher of `total` (0: after nothing), in order, with the receipts that they pay
        for. None if no voucher of `total` was signed, or one after it is lost."""
        key = (worker, session_key, epoch)
        with self._db.together():
            row = self._db.row(
                "SELECT sequence FROM vouchers WHERE worker = ? AND session_key = ? AND epoch = ? AND total = ? "
                "ORDER BY sequence DESC",
                (*key, str(total)),
            )
            if row is None and total:
                return None
            rows = self._db.rows(
                "SELECT v.voucher, v.signature, v.receipt_digest, r.receipt, r.signature FROM vouchers AS v "
                "LEFT JOIN receipts AS r ON r.digest = v.receipt_digest "
                "WHERE v.worker = ? AND v.session_key = ? AND v.epoch = ? AND v.sequence > ? ORDER BY v.sequence",
                (*key, row[0] if row else 0),
            )
        if not all(voucher for voucher, *_ in rows):
            return None
        return [
            KeptVoucher(
                SentVoucher(Voucher.from_wire(msgpack.unpackb(voucher)), signature, digest),
                None if receipt is None else Receipt.from_wire(msgpack.unpackb(receipt)),
                receipt_signature or b"",
            )
            for voucher, signature, digest, receipt, receipt_signature in rows
        ]

    # channels

    def note_channel(self, worker: str, session_key: str, epoch: int) -> None:
        """A channel that exists; the first time counts as its use."""
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO channels (worker, session_key, epoch, used_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (worker, session_key, epoch, int(time.time())),
            )

    def used_at(self, worker: str, session_key: str, epoch: int) -> int | None:
        """When a channel was last paid in, or first seen, in unix seconds."""
        row = self._db.row(
            "SELECT used_at FROM channels WHERE worker = ? AND session_key = ? AND epoch = ?",
            (worker, session_key, epoch),
        )
        return None if row is None else int(row[0])

    def workers(self, session_key: str) -> list[str]:
        """All with whom there was a channel, in order of addresses."""
        query = "SELECT DISTINCT worker FROM channels WHERE session_key = ? ORDER BY worker"
        rows = self._db.rows(query, (session_key,))
        return [worker for (worker,) in rows]

    # arrears

    def unsettled(self, worker: str, limit: int) -> list[bytes]:
        """Requests that did not complete and may still owe this worker something, the latest first; not those that run
        in this program."""
        rows = self._db.rows("SELECT request_id FROM unsettled WHERE worker = ? ORDER BY id DESC", (worker,))
        return [request_id for (request_id,) in rows if request_id not in self._running][:limit]

    def settle(self, request_id: bytes, worker: str) -> None:
        """Nothing is owed to the worker for this request, or nothing that will be paid."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM unsettled WHERE request_id = ? AND worker = ?", (request_id, worker))

    def word(self, worker: str, session_key: str, epoch: int) -> Word:
        """What was paid so far for requests that did not complete."""
        row = self._db.row(
            "SELECT paid, unseen FROM arrears WHERE worker = ? AND session_key = ? AND epoch = ?",
            (worker, session_key, epoch),
        )
        return Word() if row is None else Word(int(row[0]), int(row[1]))

    def note_arrears(self, worker: str, session_key: str, epoch: int, amount: int, unseen: int) -> None:
        """So many base units more are about to be paid for a request that did not complete; `unseen` of them on the
        worker's word, in one that broke off."""
        key = (worker, session_key, epoch)
        with self._db.transaction() as db:
            trust_rows.keep_word(db, key, self.word(*key).paid(amount, unseen))

    def breaks(self, worker: str) -> Breaks:
        """How often a worker broke requests off."""
        row = self._db.row("SELECT debt, at FROM breaks WHERE worker = ?", (worker,))
        return Breaks() if row is None else Breaks(*row)

    # evidence

    def is_accused(self, worker: str) -> bool:
        """Whether there is evidence against a worker."""
        return self._db.row("SELECT 1 FROM evidence WHERE worker = ?", (worker,)) is not None

    def keep_evidence(self, request_id: bytes, worker: str, reason: str, receipts: Sequence[Signed]) -> None:
        """A violation, with the worker's receipts that show it."""
        packed = msgpack.packb([[signed.receipt.to_wire(), signed.signature] for signed in receipts])
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO evidence (request_id, worker, reason, receipts) VALUES (?, ?, ?, ?)",
                (request_id, worker, reason, packed),
            )

    def evidence(self, request_id: bytes) -> list[tuple[str, str, list[tuple[Receipt, bytes]]]]:
        """(worker, reason, receipts with signatures) of what was found about a request."""
        rows = self._db.rows(
            "SELECT worker, reason, receipts FROM evidence WHERE request_id = ? ORDER BY id", (request_id,)
        )
        return [
            (worker, reason, [(Receipt.from_wire(receipt), bytes(sig)) for receipt, sig in msgpack.unpackb(packed)])
            for worker, reason, packed in rows
        ]


def _use(db: sqlite3.Connection, worker: str, session_key: str, epoch: int) -> None:
    db.execute(
        "INSERT OR REPLACE INTO channels (worker, session_key, epoch, used_at) VALUES (?, ?, ?, ?)",
        (worker, session_key, epoch, int(time.time())),
    )


_Key = tuple[str, str, int]
"""Worker, session key, epoch."""


def _last(db: sqlite3.Connection, key: _Key) -> int:
    """Sequence number of the channel's last voucher, 0 before the first."""
    query = "SELECT COALESCE(MAX(sequence), 0) FROM vouchers WHERE worker = ? AND session_key = ? AND epoch = ?"
    return int(db.execute(query, key).fetchone()[0])


def _insert_voucher(
    db: sqlite3.Connection, key: _Key, sequence: int, index: int, leaf: Leaf, voucher: bytes, signature: bytes
) -> None:
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
            voucher,
            signature,
        ),
    )
