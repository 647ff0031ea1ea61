"""Import direction: read from every file, and, for the client's half, seen when it is really imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.house.imports import COMPUTE, ROOT, WITHOUT_COMPUTE, project_modules, room, violations


def test_every_module_keeps_the_import_direction() -> None:
    modules = list(project_modules())
    found = [line for path, name, is_package in modules for line in violations(path.read_text(), name, is_package)]
    assert len(modules) > 10
    assert found == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("efedllm.protocol.merkle", "from efedllm.numerics import ops"),
        ("efedllm.protocol.merkle", "from ..numerics import ops"),
        ("efedllm.protocol.merkle", "from .. import chain"),
        ("efedllm.protocol.merkle", "import numpy"),
        ("efedllm.numerics.ops", "import efedllm.protocol.merkle"),
        ("efedllm.numerics.ops", "import worker"),
        ("efedllm.model.load", "def f():\n    from efedllm.chain import events"),
        ("efedllm.chain.events", "from efedllm.client import Client"),
        ("efedllm.chain.events", "import torch.nn"),
        ("efedllm.client.gateway", "from efedllm.model import load"),
        ("efedllm.client.gateway", "import transformers"),
        ("efedllm.client.gateway", "import importlib\nimportlib.import_module('efedllm.model.load')"),
        ("efedllm.client.gateway", "from efedllm import cli"),
        ("efedllm.errors", "from efedllm.protocol import errors"),
        ("efedllm.cli", "import torch"),
        ("worker.session", "from verifier import draw"),
        ("worker.session", "from efedllm.cli import main"),
        ("worker.session", "from worker.ledger import Ledger"),
        ("verifier.draw", "import chain_scripts.deploy"),
        ("chain_scripts.demo", "import worker"),
        ("benchmarks.gas", "from tools.mutation import unit"),
        ("tools.setup", "from efedllm.client import Client"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("efedllm.protocol.merkle", "from .errors import MerkleError\nfrom efedllm.errors import EfedllmError"),
        ("efedllm.model.load", "import torch\nfrom efedllm.numerics import ops\nfrom ..protocol.merkle import root"),
        ("efedllm.client.sdk", "from efedllm.chain.events import Event\nfrom efedllm import __version__"),
        ("efedllm.cli", "import worker\nfrom chain_scripts import deploy"),
        ("worker.__main__", "from efedllm.cli import main"),
        ("worker.session", "from .ledger import Ledger\nfrom . import claims\nfrom efedllm.model import load"),
    ],
)
def test_an_allowed_import_is_not_found(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_a_package_resolves_relative_imports_from_itself() -> None:
    assert violations("from .merkle import root", "efedllm.protocol", is_package=True) == []
    assert violations("from ..chain import events", "efedllm.protocol", is_package=True) != []


def test_the_client_half_loads_without_what_computes() -> None:
    """Direction by text misses what third parties pull in; this imports all of it where compute cannot be imported."""
    names = [name for _, name, _ in project_modules() if room(name) in WITHOUT_COMPUTE]
    script = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(COMPUTE)}))\n"
        f"for name in {names}: importlib.import_module(name)"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
