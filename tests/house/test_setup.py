"""Setting up a checkout."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("pyproject.toml", "constraints.txt", "package.json", "package-lock.json", ".npmrc", "tools/setup.py")


@pytest.mark.parametrize("name", [".venv", "node_modules"])
def test_a_folder_of_another_checkout_is_left_alone(name: str, tmp_path: Path) -> None:
    """Creating an environment empties its folder first, through links too."""
    checkout, other = tmp_path / "checkout", tmp_path / "other"
    other.mkdir()
    (other / "kept").touch()
    for needed in NEEDED:
        target = checkout / needed
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / needed, target)
    (checkout / name).symlink_to(other)
    done = subprocess.run([sys.executable, checkout / "tools/setup.py"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"setup: {checkout / name} is a link: remove it, then run `make setup` again\n"
    assert [path.name for path in other.iterdir()] == ["kept"]
