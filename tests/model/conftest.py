"""Built tiny models, made once per session; tests that alter one take a copy."""

from pathlib import Path

import pytest

from efedllm.model.build import build
from efedllm.model.load import load
from efedllm.model.shard import Shard
from efedllm.numerics.backend import Backend, select
from tests.model.checkpoints import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float checkpoint with a tied head."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tied")


@pytest.fixture(scope="session")
def built(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its integer form. Not to be altered."""
    folder = tmp_path_factory.mktemp("models") / "tied"
    build(str(checkpoint), folder)
    return folder


@pytest.fixture(scope="session")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The integer form of a checkpoint with a head of its own. Not to be altered."""
    folder = tmp_path_factory.mktemp("models") / "untied"
    source = write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "untied", tie_word_embeddings=False)
    build(str(source), folder)
    return folder


@pytest.fixture(scope="session")
def backend() -> Backend:
    return select("exact")


@pytest.fixture(scope="session")
def model(built: Path, backend: Backend) -> Shard:
    """The whole tiny model."""
    return Shard(load(built), backend)
