"""What every test run shares: one torch thread, examples that may take their time, and a state directory of its own."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from efedllm.storage.state import STATE_VARIABLE

# Before anything imports torch: tests run next to the processes they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A slow machine is not a wrong answer.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")

pytest_plugins = ["tests.support.chain"]


@pytest.fixture(scope="session", autouse=True)
def _state_dir_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For what fixtures of longer lives start; a person's own state directory is never touched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STATE_VARIABLE, str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _state_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks and witnesses of a test, and of the processes that it starts, are its own."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that other users may enter. pytest closes its own ones to them, whenever another run of it begins."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
