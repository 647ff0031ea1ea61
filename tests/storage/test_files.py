"""Plain files."""

import os
from pathlib import Path

import pytest

from efedllm.storage import files


def test_extend_adds_behind_what_counts(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert files.extend(path, None, b"one") == 3
    assert files.extend(path, None, b"two") == 6
    assert files.extend(path, 6, b"three") == 11
    assert files.extend(path, 3, b"2") == 4
    assert path.read_bytes() == b"one2"
    with pytest.raises(OSError, match="lost 5 of its 9 bytes"):
        files.extend(path, 9, b"three")
    assert path.read_bytes() == b"one2"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:2]))
    files.extend(tmp_path / "a", None, b"seven!!")
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
