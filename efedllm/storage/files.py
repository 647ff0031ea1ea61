"""Plain files that are on disk when a call returns. Raises OSError."""

import errno
import os
from pathlib import Path


def extend(path: Path, size: int | None, data: bytes) -> int:
    """Puts `data` behind the first `size` bytes of a file (None: behind all of it), and nothing behind `data`. The file
    is made if it is not there. Returns its new size."""
    is_new = not path.exists()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        present = os.fstat(handle).st_size
        if size is not None and size < present:
            os.ftruncate(handle, size)
        elif size is not None and size > present:
            raise OSError(errno.EIO, f"it has lost {size - present} of its {size} bytes")
        _write(handle, data)
        os.fsync(handle)
        end = os.fstat(handle).st_size
    finally:
        os.close(handle)
    if is_new:
        sync_folder(path.parent)
    return end


def replace(path: Path, data: bytes) -> None:
    """The file as a whole: whoever looks sees what was there before or `data`, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        _write(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(part, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Names of new files in `folder` survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]
