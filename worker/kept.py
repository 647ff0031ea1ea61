"""What is still kept of ended requests, and letting go of it: the store's side of `keeping.py`.

A file is deleted in three steps: the database says that it goes, the file is deleted, the database says that it is
gone. Killed in between, the next start deletes it; never is a file missing that the database counts on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgpack

from efedllm.protocol.frames import unpack_tokens
from efedllm.protocol.game import Paper
from efedllm.protocol.objects import Receipt, Request
from efedllm.storage.database import Database

from .rows import RowFiles


@dataclass(frozen=True)
class Ended:
    """A request that has ended, with the channel that pays for it. last_digest: of its last receipt, None for none;
    reach: the highest total up to which a voucher speaks of it."""

    request_id: bytes
    expiry: int
    payer: str
    session_key: str
    epoch: int
    settled_at: int | None
    last_digest: bytes | None
    last_is_paid: bool
    reach: int


@dataclass(frozen=True)
class Inputs:
    """What a receipt of this worker was computed from. tokens: prompt and answer, as far as the receipt goes;
    row_bytes: how many bytes of rows are kept; read: `size` of them from byte `first` on."""

    paper: Paper
    tokens: tuple[int, ...]
    row_bytes: int
    read: Callable[[int, int], bytes]


class Kept:
    """Works on the worker's database and its row files. Raises StoreError when the disk refuses."""

    def __init__(self, db: Database, rows: RowFiles) -> None:
        self._db, self._rows = db, rows

    def inputs(self, digest: bytes) -> Inputs | None:
        """None for a receipt that is not known here."""
        row = self._db.row(
            "SELECT request, receipt, receipts.signature, prompt, generated, row_bytes, requests.id FROM receipts "
            "JOIN requests ON requests.id = receipts.request_id WHERE digest = ?",
            (digest,),
        )
        if row is None:
            return None
        request, receipt = Request.from_wire(msgpack.unpackb(row[0])), Receipt.from_wire(msgpack.unpackb(row[1]))
        tokens = unpack_tokens(row[3]) + unpack_tokens(row[4])
        return Inputs(
            Paper(request, receipt, row[2]),
            tuple(tokens[: receipt.promptCount + receipt.generated]),
            self._rows.size(row[6]) if row[5] is None else row[5],
            partial(self._rows.part, row[6]),
        )

    def ended(self, before: int, after: bytes = b"", limit: int = 256) -> list[Ended]:
        """Requests that expired before then, have ended and are kept: those with the lowest ids above `after`."""
        self._fill_expiries()
        rows = self._db.rows(
            "SELECT id, expiry, request, session_key, epoch, settled_at FROM requests "
            "WHERE rows_state = 'kept' AND expiry < ? AND state != 'open' AND id > ? ORDER BY id LIMIT ?",
            (before, after, limit),
        )
        return [self._ended(*row) for row in rows]

    def _ended(
        self, request_id: bytes, expiry: int, request: bytes, session_key: str, epoch: int, settled_at: int | None
    ) -> Ended:
        with self._db.together():
            last = self._db.row(
                "SELECT digest FROM receipts WHERE request_id = ? ORDER BY positions DESC LIMIT 1", (request_id,)
            )
            leaves = self._db.rows("SELECT total, receipt_digest FROM vouchers WHERE request_id = ?", (request_id,))
        return Ended(
            request_id,
            expiry,
            Request.from_wire(msgpack.unpackb(request)).payer,
            session_key,
            epoch,
            settled_at,
            last[0] if last else None,
            last is not None and any(digest == last[0] for _, digest in leaves),
            max((int(total) for total, _ in leaves), default=0),
        )

    def settle(self, request_ids: list[bytes], at: int) -> None:
        """No claim after this time can pay for them."""
        with self._db.transaction() as db:
            db.executemany("UPDATE requests SET settled_at = ? WHERE id = ?", [(at, one) for one in request_ids])

    def let_go(self, request_ids: list[bytes]) -> None:
        """Their rows may be deleted; `delete` does."""
        with self._db.transaction() as db:
            db.executemany(
                "UPDATE requests SET rows_state = 'going', row_bytes = 0 WHERE id = ? AND rows_state = 'kept'",
                [(one,) for one in request_ids],
            )

    def delete(self) -> int:
        """Deletes the rows of all requests that were let go. Returns how many."""
        going = [row[0] for row in self._db.rows("SELECT id FROM requests WHERE rows_state = 'going'")]
        for request_id in going:
            self._rows.remove(request_id)
        if going:
            with self._db.transaction() as db:
                db.executemany("UPDATE requests SET rows_state = 'gone' WHERE id = ?", [(one,) for one in going])
        return len(going)

    def is_whole(self, request_id: bytes) -> bool:
        """Whether everything about a request is kept that can prove its work; False for one that is not known."""
        row = self._db.row("SELECT rows_state FROM requests WHERE id = ?", (request_id,))
        return row is not None and row[0] == "kept"

    def _fill_expiries(self) -> None:
        """For requests that an older version entered."""
        rows = self._db.rows("SELECT id, request FROM requests WHERE expiry IS NULL LIMIT 1000")
        if rows:
            expiries = [(Request.from_wire(msgpack.unpackb(packed)).expiry, key) for key, packed in rows]
            with self._db.transaction() as db:
                db.executemany("UPDATE requests SET expiry = ? WHERE id = ?", expiries)
