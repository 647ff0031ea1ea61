"""The rows that entered a shard, one file per request. A file may hold more than counts: its caller knows how much.

Raises StoreError when the disk refuses.
"""

from pathlib import Path

from efedllm.storage import files

from .errors import StoreError


class RowFiles:
    """`folder` is made unless `read_only`."""

    def __init__(self, folder: Path, read_only: bool) -> None:
        self._folder = folder
        if not read_only:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _refused("make", folder, error) from error

    def extend(self, request_id: bytes, size: int | None, rows: bytes) -> int:
        """Put `rows` behind the first `size` bytes (None: behind all); they are on disk when this returns. What lay
        there came from a write that nobody was told of. Returns the new size."""
        path = self._path(request_id)
        try:
            return files.extend(path, size, rows)
        except OSError as error:
            raise _refused("write", path, error) from error

    def read(self, request_id: bytes, size: int | None) -> bytes:
        """The first `size` bytes (None: all); empty if there are none."""
        path = self._path(request_id)
        try:
            return path.read_bytes()[:size]
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise _refused("read", path, error) from error

    def size(self, request_id: bytes) -> int:
        """Bytes in the file; 0 if there is none."""
        path = self._path(request_id)
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise _refused("read", path, error) from error

    def part(self, request_id: bytes, first: int, size: int) -> bytes:
        """`size` bytes from byte `first` on, or fewer where the file ends."""
        path = self._path(request_id)
        try:
            with path.open("rb") as file:
                file.seek(first)
                return file.read(size)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise _refused("read", path, error) from error

    def remove(self, request_id: bytes) -> None:
        """Harmless where there is no file. Gone for good when this returns, also after a loss of power."""
        path = self._path(request_id)
        try:
            path.unlink(missing_ok=True)
            files.sync_folder(self._folder)
        except OSError as error:
            raise _refused("delete", path, error) from error

    def _path(self, request_id: bytes) -> Path:
        return self._folder / f"{request_id.hex()}.bin"


def _refused(verb: str, path: Path, error: OSError) -> StoreError:
    return StoreError(f"cannot {verb} {path}: {error.strerror}: free or repair the disk, then try again")
