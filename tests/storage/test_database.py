"""Databases: whole transactions, migrations in order, and nothing overwritten that cannot be read."""

import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from efedllm.errors import EfedllmError
from efedllm.storage.database import Database, Layout


class OwnError(EfedllmError):
    """As every program has one."""


LAYOUT = Layout("tests.storage", ("one.sql",), "what matters", OwnError)
NEXT = replace(LAYOUT, scripts=("one.sql", "two.sql"))


def keep(database: Database, name: str, size: int = 1) -> None:
    with database.transaction() as db:
        db.execute("INSERT INTO things (name, size) VALUES (?, ?)", (name, size))


def names(database: Database) -> list[str]:
    return [name for (name,) in database.rows("SELECT name FROM things ORDER BY name")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "some.sqlite"


def filled(path: Path, count: int = 2000) -> bytes:
    """Closed, and large enough that damage in the middle is damage."""
    database = Database(path, LAYOUT)
    with database.transaction() as db:
        db.executemany("INSERT INTO things VALUES (?, ?)", [(f"thing {at} " + "x" * 50, at) for at in range(count)])
    database.close()
    return path.read_bytes()


def test_what_was_kept_is_there_again(path: Path) -> None:
    database = Database(path, LAYOUT)
    keep(database, "a")
    assert database.row("SELECT size FROM things WHERE name = ?", ("b",)) is None
    database.close()
    database.close()
    database = Database(path, LAYOUT)
    assert names(database) == ["a"]
    assert database.row("PRAGMA synchronous") == (2,)
    assert database.row("PRAGMA journal_mode") == ("wal",)
    assert database.row("PRAGMA foreign_keys") == (1,)
    database.close()
    with pytest.raises(OwnError, match="is closed"):
        names(database)


def test_a_transaction_is_kept_whole_or_not_at_all(path: Path) -> None:
    database = Database(path, LAYOUT)
    with pytest.raises(ZeroDivisionError), database.transaction() as db:
        db.execute("INSERT INTO things VALUES ('a', 1)")
        raise ZeroDivisionError
    twice = r"cannot keep what matters in .*something else was kept in its place before"
    with pytest.raises(OwnError, match=twice), database.transaction() as db:
        db.execute("INSERT INTO things VALUES ('b', 1)")
        db.execute("INSERT INTO things VALUES ('b', 2)")
    assert names(database) == []
    keep(database, "c")
    assert names(database) == ["c"]
    database.close()


def test_threads_take_turns(path: Path) -> None:
    database = Database(path, LAYOUT)
    threads = [threading.Thread(target=keep, args=(database, f"{at:02}")) for at in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(database)) == 20
    database.close()


def test_migrations_run_once_and_in_order(path: Path) -> None:
    database = Database(path, LAYOUT)
    keep(database, "a")
    database.close()
    for _ in range(2):
        database = Database(path, NEXT)
        assert database.rows("SELECT name, colour FROM things") == [("a", "grey")]
        database.close()


def test_a_migration_that_fails_changes_nothing(path: Path, tmp_path: Path) -> None:
    before = filled(path)
    broken = replace(LAYOUT, scripts=("one.sql", "one.sql"))
    with pytest.raises(OwnError, match=r"cannot open"):
        Database(path, broken)
    database = Database(path, LAYOUT)
    assert database.row("SELECT COUNT(*) FROM things") == (2000,)
    database.close()
    assert path.read_bytes() == before


def test_a_newer_version_is_left_as_it_is(path: Path) -> None:
    Database(path, NEXT).close()
    before = path.read_bytes()
    with pytest.raises(OwnError, match="of version 2, this program knows 1: upgrade it"):
        Database(path, LAYOUT)
    assert path.read_bytes() == before


@pytest.mark.parametrize("at", [0, 30, 4096, 40_000], ids=["magic", "header", "page", "middle"])
def test_damage_is_found_and_left_as_it_is(path: Path, at: int) -> None:
    data = bytearray(filled(path))
    data[at : at + 2000] = bytes(2000)
    path.write_bytes(data)
    with pytest.raises(OwnError, match=r"it is damaged .*nothing was changed") as refused:
        Database(path, LAYOUT)
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == data
    with pytest.raises(OwnError):
        Database(path, LAYOUT)  # the lock was let go of


def test_a_file_cut_short_is_damaged(path: Path) -> None:
    data = filled(path)[:50_000]
    path.write_bytes(data)
    with pytest.raises(OwnError, match="it is damaged"):
        Database(path, LAYOUT)
    assert path.read_bytes() == data


def test_something_else_is_no_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(OwnError, match=r"cannot open .*it is damaged"):
        Database(path, LAYOUT)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OwnError, match=r"cannot open .*free or repair the disk"):
        Database(tmp_path / "file" / "some.sqlite", LAYOUT)


def test_one_process_writes_and_others_read(path: Path) -> None:
    database = Database(path, LAYOUT)
    keep(database, "a")
    with pytest.raises(OwnError, match=rf"another program \(process {os.getpid()}\) uses .*some\.sqlite"):
        Database(path, LAYOUT)
    reader = Database(path, LAYOUT, read_only=True)
    keep(database, "b")
    assert names(reader) == ["a", "b"]
    with pytest.raises(OwnError, match=r"cannot keep what matters"):
        keep(reader, "c")
    database.close()
    assert names(reader) == ["a", "b"]
    reader.close()


def test_a_reader_neither_makes_nor_migrates(path: Path) -> None:
    with pytest.raises(OwnError, match=r"cannot open"):
        Database(path, LAYOUT, read_only=True)
    assert not path.exists()
    Database(path, LAYOUT).close()
    with pytest.raises(OwnError, match="older version"):
        Database(path, NEXT, read_only=True)


def test_a_full_disk_loses_nothing_and_is_used_on_when_there_is_room(path: Path) -> None:
    database = Database(path, LAYOUT)
    keep(database, "a")
    (pages,) = database.row("PRAGMA page_count")
    database.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OwnError, match=r"cannot keep what matters in .*full: free or repair the disk"):
        for at in range(1000):
            keep(database, f"b{at:04}" + "x" * 1000)
    kept = names(database)
    database.rows("PRAGMA max_page_count = 100000")
    keep(database, "c")
    assert names(database) == [*kept, "c"]
    database.close()


LIMITED = """
import resource, signal, sys
from pathlib import Path
from efedllm.storage.database import Database
from tests.storage.test_database import LAYOUT, OwnError, keep, names
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
database = Database(Path(sys.argv[1]), LAYOUT)
room = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, room[1]))
kept = []
try:
    for at in range(1000):
        name = f"{at:04}" + "x" * 5000
        keep(database, name)
        kept.append(name)
except OwnError as error:
    print(error)
assert 1 < len(kept) < 100
assert names(database) == kept
resource.setrlimit(resource.RLIMIT_FSIZE, room)
keep(database, "then")
print(len(names(database)))
"""


def test_writes_that_the_system_refuses(path: Path) -> None:
    """A process that may not write more, as on a full disk: what was kept can be read, and then it goes on."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    message, count = done.stdout.splitlines()
    assert message.startswith(f"cannot keep what matters in {path}: ")
    database = Database(path, LAYOUT)
    assert len(names(database)) == int(count)
    database.close()


READ_ONLY = """
import os, sys
from pathlib import Path
from efedllm.storage.database import Database
from tests.storage.test_database import LAYOUT, OwnError
if os.geteuid() == 0:  # who may write everywhere
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    Database(Path(sys.argv[1]), LAYOUT)
except OwnError as error:
    print(error)
"""


@pytest.mark.parametrize("existing", [True, False])
def test_a_folder_that_cannot_be_written(public_path: Path, existing: bool) -> None:
    path = public_path / "some.sqlite"
    if existing:
        filled(path)
        path.with_suffix(".lock").unlink()
        path.chmod(0o444)
    public_path.chmod(0o555)
    before = sorted(public_path.iterdir())
    done = subprocess.run([sys.executable, "-c", READ_ONLY, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot open" in done.stdout
    assert "Permission denied: free or repair the disk" in done.stdout
    assert sorted(public_path.iterdir()) == before
    public_path.chmod(0o755)


def test_an_index_that_points_nowhere_is_damage(path: Path) -> None:
    Database(path, LAYOUT).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET rootpage = 77")
    with pytest.raises(OwnError, match="it is damaged"):
        Database(path, LAYOUT)
