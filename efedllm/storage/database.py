"""One SQLite file of a program: what a call kept is on disk when it returns, and what cannot be read is left as it is.

Write-ahead log with synchronous=FULL, so a commit survives a kill at any moment and a loss of power. Every error of the
disk or of SQLite is raised as the program's own error, with one line that says what to do.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from efedllm.errors import EfedllmError
from efedllm.storage.errors import Held, StorageError
from efedllm.storage.guard import ProgramLock


@dataclass(frozen=True)
class Layout:
    """What kind of database it is: `scripts` of `package` in order, of which version n went through the first n."""

    package: str
    scripts: tuple[str, ...]
    keeps: str
    """What it is there for, as messages call it."""
    error: Callable[[str], EfedllmError]
    """Makes the program's own error of a message."""

    @property
    def version(self) -> int:
        return len(self.scripts)


class Database:
    """Methods may be called from any thread; one lock serialises them. One process writes, others may read beside it.

    Errors of SQLite and the disk are raised as `layout.error`. After one, nothing of the failed transaction is kept,
    what was kept before stays, and the database can be used on.
    """

    def __init__(self, path: Path, layout: Layout, read_only: bool = False) -> None:
        """Opens the file, which is made unless `read_only`. Refused: another process that writes it, damage, a version
        that this program does not know, a folder that cannot be written. A file that is refused is not changed."""
        self.path, self._layout = path, layout
        self._lock = threading.RLock()
        self._guard = None if read_only else self._take_guard()
        self._db: sqlite3.Connection | None = None
        try:
            if not read_only:
                self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            else:
                address = f"file:{quote(str(path))}?mode=ro"
                self._db = sqlite3.connect(address, uri=True, check_same_thread=False, isolation_level=None)
            version = self._check(self._db)
            if read_only and version < layout.version:
                raise self._error(f"{path} was made by an older version: start the program that writes it once")
            if not read_only:
                self._prepare(self._db, version)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self._error(f"cannot open {path}: {_advice(error)}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """May be called twice."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None
            if self._guard is not None:
                self._guard.release()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything inside is kept when it ends, or nothing of it where anything is raised."""
        with self._lock:
            db = self._open()
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except BaseException as error:
                if db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):  # a disk that fails here ends the transaction as well
                        db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    keeps = self._layout.keeps
                    raise self._error(f"cannot keep {keeps} in {self.path}: {_advice(error)}") from error
                raise

    def rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """All rows of a query, as tuples."""
        with self._lock:
            try:
                return self._open().execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._error(f"cannot read {self.path}: {_advice(error)}") from error

    def row(self, query: str, values: Sequence[object] = ()) -> Any:
        """The first row of a query, or None."""
        rows = self.rows(query, values)
        return rows[0] if rows else None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Several queries of which nothing changes the answers in between."""
        with self._lock:
            yield

    # opening

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            raise self._error(f"{self.path} is closed")
        return self._db

    def _error(self, message: str) -> EfedllmError:
        return self._layout.error(message)

    def _take_guard(self) -> ProgramLock:
        try:
            return ProgramLock.take(self.path.with_suffix(".lock"))
        except Held as error:
            raise self._error(f"{error.holder} uses {self.path}: let it end, or pass another --data-dir") from error
        except StorageError as error:
            raise self._error(f"cannot open {self.path}: {error}") from error

    def _check(self, db: sqlite3.Connection) -> int:
        """The version of a sound database, 0 for a new one."""
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > self._layout.version:
            raise self._error(
                f"{self.path}: the store is of version {version}, this program knows {self._layout.version}: upgrade it"
            )
        for (verdict,) in db.execute("PRAGMA quick_check").fetchall():
            # SQLite up to 3.40 sees NULL where a primary key's columns do not come first; no page is damaged by that.
            if verdict != "ok" and not verdict.startswith("NULL value in "):
                raise sqlite3.DatabaseError(verdict)
        return int(version)

    def _prepare(self, db: sqlite3.Connection, version: int) -> None:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA foreign_keys=ON")
        scripts = self._layout.scripts
        for number, name in enumerate(scripts[version:], version + 1):
            script = resources.files(self._layout.package).joinpath(name).read_text()
            db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
        db.execute("BEGIN IMMEDIATE")  # finds out now whether anything can be kept
        db.execute("ROLLBACK")


_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def _advice(error: sqlite3.Error | OSError) -> str:
    """What went wrong and what to do about it."""
    if isinstance(error, OSError):
        return f"{error.strerror}: free or repair the disk, then try again"
    if isinstance(error, sqlite3.IntegrityError):
        return f"something else was kept in its place before ({error})"
    name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")  # ours, of quick_check, has none
    if isinstance(error, sqlite3.DatabaseError) and name.startswith(_DAMAGE):
        return f"it is damaged ({' '.join(str(error).split())}): nothing was changed, put back a backup of the folder"
    return f"{error}: free or repair the disk, then try again"
