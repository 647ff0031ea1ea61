"""Locks between processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from efedllm.storage.errors import Held, StorageError
from efedllm.storage.guard import ProgramLock

HOLD = """
import sys, time
from pathlib import Path
from efedllm.storage.guard import ProgramLock
lock = ProgramLock.take(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_one_at_a_time_within_a_process(tmp_path: Path) -> None:
    lock = ProgramLock.take(tmp_path / "deep" / "a.lock")
    with pytest.raises(Held) as refused:
        ProgramLock.take(lock.path)
    assert refused.value.pid == os.getpid()
    assert str(os.getpid()) in str(refused.value)
    lock.release()
    lock.release()
    ProgramLock.take(lock.path).release()


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Held) as refused:
            ProgramLock.take(path)
        assert refused.value.pid == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    ProgramLock.take(path).release()


def test_a_lock_that_names_nobody(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    lock = ProgramLock.take(path)
    path.write_text("")
    with pytest.raises(Held, match="another program holds") as refused:
        ProgramLock.take(path)
    assert refused.value.pid is None
    lock.release()


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="free or repair the disk"):
        ProgramLock.take(tmp_path / "file" / "a.lock")
