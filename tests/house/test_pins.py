"""Everything is pinned, and the pins agree with what is asked for."""

from __future__ import annotations

import json
import re

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.pin import pinned
from tools.setup import CONSTRAINTS, ROOT, requirements


def constraints() -> dict[str, str]:
    """Canonical package name -> pinned version."""
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    assert [pair for pair in pairs if len(pair) != 2] == []
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_requirement_has_a_pin_that_it_allows() -> None:
    pins = constraints()
    wanted = [Requirement(line) for line in requirements()]
    assert [str(item) for item in wanted if pins.get(canonicalize_name(item.name), "") not in item.specifier] == []


def test_torch_is_pinned_without_a_build() -> None:
    assert "torch==2.13.0" in CONSTRAINTS.read_text().splitlines()
    assert pinned("torch==2.13.0+cpu\npip==26.0\nAbc==1\n") == ["Abc==1", "torch==2.13.0"]


def test_npm_packages_are_pinned_and_locked_for_every_platform() -> None:
    wanted = json.loads((ROOT / "package.json").read_text())["devDependencies"]
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    # npm refuses a lock that lacks an optional package of another platform.
    optional = {name for package in packages.values() for name in package.get("optionalDependencies", {})}
    assert {name for name in optional if f"node_modules/{name}" not in packages} == set()


def test_locks_name_no_registry() -> None:
    texts = [(ROOT / name).read_text() for name in (".npmrc", "package.json", "package-lock.json", "constraints.txt")]
    assert [
        match for text in texts for match in re.findall(r"https?://[^\"\s]*(?:registry|pypi|simple)[^\"\s]*", text)
    ] == []
