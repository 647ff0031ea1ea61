"""Exceptions of the storage package.

EfedllmError
└── StorageError     a file of ours that cannot be used; programs turn it into their own StoreError
    └── Held         another process holds a lock; `pid` is its process id where it could be read
"""

from pathlib import Path

from efedllm.errors import EfedllmError


class StorageError(EfedllmError):
    """Base: the message says what to do next."""


class Held(StorageError):
    """One process at a time."""

    def __init__(self, path: Path, pid: int | None) -> None:
        holder = "another program" if pid is None else f"another program (process {pid})"
        super().__init__(f"{holder} holds {path}: let it end first")
        self.path, self.pid, self.holder = path, pid, holder
