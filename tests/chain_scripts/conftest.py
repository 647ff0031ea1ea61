"""People at the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from efedllm.chain.local import AnvilProcess
from tests.support.cli import PASSWORD, Person


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The password is set; nothing else comes from whoever runs the tests, and nothing goes to their home."""
    for name in ("EFEDLLM_DEPLOYMENT", "EFEDLLM_RPC", "EFEDLLM_DATA_DIR", "EFEDLLM_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EFEDLLM_PASSWORD", PASSWORD)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def person(
    anvil: AnvilProcess, deployment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Person]:
    """Makes people on the session's chain, by name; they have no keys yet."""

    def make(name: str) -> Person:
        return Person(tmp_path / name, capsys, ["--rpc", anvil.url, "--deployment", str(deployment_file)])

    return make


@pytest.fixture
def client(person: Callable[[str], Person]) -> Person:
    """With 100 WORK and no channel."""
    return person("client").with_keys(work="100")


@pytest.fixture
def worker(person: Callable[[str], Person]) -> Person:
    """With a stake of 1,000 WORK, and no service."""
    made = person("worker").with_keys()
    made.json("stake", "1000")
    return made
