"""A tiny built model, and what it takes to check receipts over it."""

from pathlib import Path

import pytest

from efedllm.model.build import build
from efedllm.model.load import read_manifest
from efedllm.numerics.backend import select
from tests.model.checkpoints import write_checkpoint
from verifier.recompute import Recomputer, Shelf


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers, 300 tokens, 200 positions. Not to be altered."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    build(str(write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")), folder)
    return folder


@pytest.fixture(scope="session")
def shelf(model: Path) -> Shelf:
    manifest = read_manifest(model)
    return Shelf(model, manifest.weights_root, select("exact"), 3 * manifest.dimensions.layers)


@pytest.fixture(scope="session")
def recomputer(shelf: Shelf) -> Recomputer:
    return Recomputer(shelf)
