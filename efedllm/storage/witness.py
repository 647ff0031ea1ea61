"""A second record of what a session key signed, outside of the data directory.

Whoever puts back a backup of a data directory puts back an older book, and would sign other vouchers for sums that were
signed before. The witness lies in the state directory, which is not put back with it, and remembers how far every
channel had come. It also keeps two copies of one data directory from being used at the same time on one machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from efedllm.errors import EfedllmError
from efedllm.storage.database import Database, Layout
from efedllm.storage.state import state_dir


@dataclass(frozen=True)
class Highest:
    """A voucher's amounts and root: `total` in base units for `count` leaves."""

    total: int
    count: int
    root: bytes


class Witness:
    """Of one session key on one deployment; one process at a time. Methods raise what `error` makes."""

    def __init__(
        self,
        chain_id: int,
        channels: str,
        session_key: str,
        error: Callable[[str], EfedllmError],
        folder: Path | None = None,
    ) -> None:
        name = f"signed-{chain_id}-{channels[2:10].lower()}-{session_key[2:].lower()}.sqlite"
        layout = Layout("efedllm.storage", ("witness.sql",), "how far was signed", error)
        self._error = error
        self._db = Database((folder or state_dir()) / name, layout)

    def close(self) -> None:
        self._db.close()

    def highest(self, worker: str, epoch: int) -> Highest | None:
        """None: nothing was signed here."""
        row = self._db.row("SELECT total, count, root FROM highest WHERE worker = ? AND epoch = ?", (worker, epoch))
        return None if row is None else Highest(int(row[0]), int(row[1]), row[2])

    def note(self, worker: str, epoch: int, signed: Highest) -> None:
        """On disk when it returns. A voucher that was noted before may be noted again; a lower one, or another one for
        the same sum, is refused."""
        known = self.highest(worker, epoch)
        if known == signed:
            return
        if known is not None and (signed.total <= known.total or signed.count < known.count):
            raise self._error(
                f"vouchers of {known.total} base units were signed for worker {worker} before, this one of "
                f"{signed.total} would be another: the data directory is an older copy, close the channel"
            )
        with self._db.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO highest (worker, epoch, total, count, root) VALUES (?, ?, ?, ?, ?)",
                (worker, epoch, str(signed.total), str(signed.count), signed.root),
            )
