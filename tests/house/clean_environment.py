"""A virtual environment with the wheel and what its base install requires, and nothing else.

The requirements are linked from the environment of the tests: the same files as an install would bring, but without a
network and in a second. What is not required, torch above all, cannot be imported there.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.imports import ROOT


def build_wheel(folder: Path) -> Path:
    """Build the wheel of the checkout into `folder` with the pinned build back end."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """Make the environment in `folder`, put the wheel and its base requirements there, and return its bin folder."""
    venv.create(folder, with_pip=False, symlinks=True)
    site_packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True, capture_output=True, text=True)
    [metadata] = site_packages.glob("efedllm-*.dist-info")
    for required in required_distributions(Distribution.at(metadata)):
        link(required, site_packages)
    return folder / "bin"


def required_distributions(root: Distribution) -> list[Distribution]:
    """What `root` requires without extras, transitively, from the environment of the tests."""
    found: dict[tuple[str, str], Distribution] = {}
    waiting = list(requirements(root, ""))
    while waiting:
        requirement = waiting.pop()
        required = distribution(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            key = (canonicalize_name(requirement.name), extra)
            if key not in found:
                found[key] = required
                waiting.extend(requirements(required, extra))
    return list({name: required for (name, _), required in found.items()}.values())


def requirements(of: Distribution, extra: str) -> Iterator[Requirement]:
    for line in of.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def link(installed: Distribution, site_packages: Path) -> None:
    """Link the top-level files and folders of a distribution into another site-packages."""
    tops = {path.parts[0] for path in installed.files or ()} - {"..", "__pycache__"}
    for top in sorted(tops):
        place = site_packages / top
        if not place.exists():
            place.symlink_to(Path(str(installed.locate_file(top))))
