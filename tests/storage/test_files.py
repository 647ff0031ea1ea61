"""Plain files."""

import os
from pathlib import Path

import pytest

from efedllm.storage import files


def test_append_adds_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.append(path, b"one")
    files.append(path, b"two")
    assert path.read_bytes() == b"onetwo"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:2]))
    files.append(tmp_path / "a", b"seven!!")
    files.replace(tmp_path / "b", b"seven!!")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"seven!!"


def test_a_replacement_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "a.bin"
    files.replace(path, b"old")

    def refuse(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        files.replace(path, b"new")
    assert path.read_bytes() == b"old"
