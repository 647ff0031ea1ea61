"""One process at a time: locks that the system lets go of however their holder ends."""

import fcntl
import os
from pathlib import Path
from typing import Self

from efedllm.storage.errors import Held, StorageError


class ProgramLock:
    """`flock` on a file that holds the process id of its holder. The file stays; the lock goes with the process."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle = path, handle

    @classmethod
    def take(cls, path: Path) -> Self:
        """Raises Held if somebody has it, also within this process; StorageError if the disk refuses."""
        handle = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            pid = _holder(handle)
            os.close(handle)
            raise Held(path, pid) from error
        except OSError as error:
            if handle >= 0:
                os.close(handle)
            raise StorageError(
                f"cannot lock {path}: {error.strerror}: free or repair the disk, then try again"
            ) from error
        return cls(path, handle)

    def release(self) -> None:
        """Lets others take it; may be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _holder(handle: int) -> int | None:
    text = os.pread(handle, 32, 0).strip()
    return int(text) if text.isdigit() else None
