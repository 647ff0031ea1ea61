"""The wheel: one import name, its data with it, a client without torch, and every help text from anywhere."""

from __future__ import annotations

import os
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.clean_environment import build_wheel, install
from tests.house.imports import COMPUTE, PROGRAMS, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(wheel, tmp_path_factory.mktemp("clean"))


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run with an environment that knows nothing of the checkout."""
    environment = {"PATH": os.defpath, "HOME": str(cwd), "COLUMNS": "100"}
    return subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)


def commands(help_text: str) -> list[str]:
    """Subcommands that a help text of argparse lists, one per line indented by four; empty if there are none."""
    _, _, after = help_text.partition("\npositional arguments:\n")
    section, _, _ = after.partition("\n\n")
    return re.findall(r"^ {4}([a-z][a-z0-9-]*)(?= |$)", section, re.MULTILINE)


def help_failures(efedllm: Path, cwd: Path, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """(command, what went wrong or "") of a command's help and of those of all its subcommands."""
    result = run(efedllm, *path, "--help", cwd=cwd)
    is_good = result.returncode == 0 and not result.stderr and result.stdout.startswith("usage: efedllm")
    yield path, "" if is_good else f"exit {result.returncode}: {result.stdout}{result.stderr}"
    for name in commands(result.stdout):
        yield from help_failures(efedllm, cwd, (*path, name))


def test_the_wheel_has_one_top_level_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"efedllm", "efedllm-0.1.0.dist-info"}
    assert {f"efedllm/{program}/__init__.py" for program in PROGRAMS} <= set(names)
    assert [name for name in names if "__pycache__" in name] == []


def test_the_wheel_has_every_module_and_artifact(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = ["efedllm", *PROGRAMS]
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    artifacts = list((ROOT / "efedllm" / "chain" / "artifacts").glob("*.json"))
    expected = {str(path.relative_to(ROOT)) for path in [*sources, *artifacts, ROOT / "efedllm" / "py.typed"]}
    installed = {name if name.startswith("efedllm/") else f"efedllm/{name}" for name in expected}
    assert artifacts != []
    assert installed - names == set()


def test_the_clean_environment_has_no_compute_packages_and_no_loose_programs(bin_folder: Path, tmp_path: Path) -> None:
    names = sorted(COMPUTE | PROGRAMS)
    script = f"from importlib.util import find_spec; print([name for name in {names} if find_spec(name)])"
    result = run(bin_folder / "python", "-c", script, cwd=tmp_path)
    assert result.stdout.strip() == "[]", result.stderr


def test_every_help_works_from_an_empty_folder(bin_folder: Path, tmp_path: Path) -> None:
    results = dict(help_failures(bin_folder / "efedllm", tmp_path))
    assert {path: words for path, words in results.items() if words} == {}
    assert {("worker",), ("verifier",), ("ask",), ("audit",), ("model", "build")} <= results.keys()
    assert list(tmp_path.iterdir()) == []
