"""What kill -9 leaves, at every moment at which it could make a difference; for tests only, without hooks in programs.

`recorded` wraps what keeps data (commits, writes, fsync, replacements) and what sends it (websocket messages, HTTP
requests and answers, raw transactions) in this process. At each such point the watched folder is copied as it is on
disk: right after data was kept, half way through a write, and right before something is sent. A copy is what a process
that was killed there would find when it starts again. Reopen it and judge:

    with recorded(tmp_path / "data", tmp_path / "copies") as crashes:
        ...                                    # one run, undisturbed
    for point in crashes.points:
        store = Store(point.copy / "store.sqlite")
        assert everything in crashes.sent_before(point) is in the store

A point's copy is shared with the point before it where nothing was kept in between: work on `restored(point, folder)`.
"""

import itertools
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from efedllm.chain.rpc import Rpc
from efedllm.storage import files

ROOT = Path(__file__).parents[2]
COMMIT, WRITE, FSYNC, REPLACE, SEND, REQUEST, ANSWER, TRANSACTION = (
    "commit", "write", "fsync", "replace", "send", "request", "answer", "transaction",
)  # fmt: skip
_BELOW = ("tests/support/crashes.py", "efedllm/storage/")
"""Not the site of anything: what calls them is."""


@dataclass(frozen=True)
class Sent:
    """Something that left the process. `data`: a websocket message, an HTTP body, or a signed transaction."""

    kind: str
    site: str
    data: bytes


@dataclass(frozen=True)
class Point:
    """A moment to be killed at. `sent`: how much had left by then; what is about to be sent counts as gone."""

    number: int
    kind: str
    site: str
    """Who kept or sends: path of the module and the function's name, as "worker/store.py keep_receipt"."""
    copy: Path
    sent: int

    def __str__(self) -> str:
        return f"point {self.number}: {self.kind} in {self.site}"


@dataclass
class Crashes:
    """What was recorded, in order."""

    watched: Path
    copies: Path
    points: list[Point] = field(default_factory=list)
    messages: list[Sent] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Held while anything is written and while it is copied, so that a copy is of one moment."""
    changed: bool = True

    def sent_before(self, point: Point, *sites: str) -> list[Sent]:
        """What had left when the process was killed there; with `sites`, only from modules that begin so."""
        return [one for one in self.messages[: point.sent] if not sites or one.site.startswith(sites)]

    def kept(self, kind: str) -> None:
        with self.lock:
            self.changed = True
            self._record(kind, _site())

    def sends(self, kind: str, data: bytes, site: str = "") -> None:
        with self.lock:
            site = site or _site()
            self.messages.append(Sent(kind, site, data))
            self._record(kind, site)

    def _record(self, kind: str, site: str) -> None:
        number = len(self.points)
        if self.changed:
            copy = self.copies / f"{number:04}"
            shutil.copytree(self.watched, copy)
            self.changed = False
        else:
            copy = self.points[-1].copy
        self.points.append(Point(number, kind, site, copy, len(self.messages)))


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder for thousands of commits, where there is one that no disk slows down: to a process that is only killed
    they are the same."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def restored(point: Point, folder: Path) -> Path:
    """The copy of a point in a folder of its own, to start programs on."""
    shutil.copytree(point.copy, folder)
    return folder


def some(points: Sequence[Point], each_site: int) -> list[Point]:
    """At most `each_site` points of every kind and site, spread over the run: for judges that take long."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.kind, point.site), []).append(point)
    chosen = []
    for group in groups.values():
        step = max(1, -(-len(group) // each_site))
        chosen += [*itertools.islice(group, 0, None, step)]
    return sorted(chosen, key=lambda point: point.number)


@contextmanager
def recorded(watched: Path, copies: Path) -> Iterator[Crashes]:
    """Records everything that this process keeps and sends meanwhile. `watched` exists; databases opened before are not
    seen. Put the state directory (EFEDLLM_STATE_DIR) below `watched` where the witness belongs to the run."""
    crashes = Crashes(watched, copies)
    copies.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        _wrap_databases(crashes, patch)
        patch.setattr(files, "os", _RecordedOs(crashes))
        _wrap_sends(crashes, patch)
        yield crashes


def _wrap_databases(crashes: Crashes, patch: pytest.MonkeyPatch) -> None:
    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            with crashes.lock:
                cursor = super().execute(sql, *values)
                if sql == "COMMIT":
                    crashes.kept(COMMIT)
                return cursor

        def executescript(self, script: str) -> sqlite3.Cursor:
            with crashes.lock:
                cursor = super().executescript(script)
                crashes.kept(COMMIT)
                return cursor

        def close(self) -> None:
            with crashes.lock:
                crashes.changed = True
                super().close()

    connect = sqlite3.connect

    def recorded_connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        with crashes.lock:
            return connect(*arguments, **options, factory=Connection)

    patch.setattr(sqlite3, "connect", recorded_connect)


class _RecordedOs:
    """Stands for `os` in `efedllm.storage.files`: writes come in two parts, and every step is a point."""

    def __init__(self, crashes: Crashes) -> None:
        self._crashes = crashes

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, handle: int, data: memoryview) -> int:
        with self._crashes.lock:
            written = os.write(handle, data[: max(1, len(data) // 2)])
            self._crashes.kept(WRITE)
            return written

    def fsync(self, handle: int) -> None:
        with self._crashes.lock:
            os.fsync(handle)
            self._crashes.kept(FSYNC)

    def replace(self, source: Path, target: Path) -> None:
        with self._crashes.lock:
            os.replace(source, target)
            self._crashes.kept(REPLACE)


def _wrap_sends(crashes: Crashes, patch: pytest.MonkeyPatch) -> None:
    def before(owner: type, name: str, kind: str, data: Callable[..., bytes | None]) -> None:
        original = getattr(owner, name)

        def wrapper(self: Any, *arguments: Any, **options: Any) -> Any:
            if (sent := data(self, *arguments, **options)) is not None:
                crashes.sends(kind, sent, _handler(*arguments) if kind == ANSWER else "")
            return original(self, *arguments, **options)

        patch.setattr(owner, name, wrapper)

    def message(_: object, data: bytes, *__: object, **___: object) -> bytes:
        return bytes(data)

    before(aiohttp.ClientWebSocketResponse, "send_bytes", SEND, message)
    before(web.WebSocketResponse, "send_bytes", SEND, message)

    def posted(*_: object, data: object = None, **__: object) -> bytes | None:
        return data if isinstance(data, bytes) else None  # what only asks commits to nothing

    def answer(response: web.Response, *_: object) -> bytes | None:
        return response.body if isinstance(response.body, bytes) else None

    before(aiohttp.ClientSession, "_request", REQUEST, posted)
    before(web.Response, "prepare", ANSWER, answer)
    before(Rpc, "send_raw", TRANSACTION, message)


def _handler(request: web.Request) -> str:
    """Who answers: the server sends it when the handler has returned."""
    code = getattr(request.match_info.handler, "__code__", None)
    return "elsewhere" if code is None else f"{code.co_filename.removeprefix(f'{ROOT}/')} {code.co_name}"


def _site() -> str:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(f"{ROOT}/") and "/.venv/" not in path:
            name = path.removeprefix(f"{ROOT}/")
            if not name.startswith(_BELOW):
                return f"{name} {frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"
