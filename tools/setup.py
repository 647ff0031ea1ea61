"""Makes the checkout ready to run: a virtual environment in .venv and the npm packages in node_modules.

Standard library only, since it runs before anything is installed. Doing it twice costs nothing: each half leaves a
stamp that holds the hash of what it was made from, and is made again only when that hash changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
VENV_STAMP = VENV / ".ready"
NODE_MODULES = ROOT / "node_modules"
NODE_STAMP = NODE_MODULES / ".ready"
CONSTRAINTS = ROOT / "constraints.txt"

# A shell line that Python reads as a string: a plain "#!" line breaks on blanks and on long paths.
COMMAND = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys

from efedllm.cli import main

sys.exit(main())
"""


def requirements() -> list[str]:
    """Direct requirements of the checkout: the base ones and those of every extra, each once, in file order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return list(dict.fromkeys(line for group in groups for line in group))


def digest(*parts: bytes) -> str:
    """Hash of what a half of the set-up is made from, and of where: .venv holds absolute paths."""
    return hashlib.sha256(b"\0".join((str(ROOT).encode(), *parts))).hexdigest()


def is_current(stamp: Path, wanted: str) -> bool:
    return stamp.is_file() and stamp.read_text().strip() == wanted


def run(*command: str | Path) -> None:
    """Run from the checkout with .venv/bin first on PATH, so that `node` is the pinned one."""
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([str(part) for part in command], cwd=ROOT, check=True, env=os.environ | {"PATH": path})


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold a lock for the checkout: two `make` at once must not install into one folder."""
    lock = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def is_usable() -> bool:
    """Whether .venv runs, and was made where it is now: its commands hold its path, so a moved one is of no use."""
    if not PYTHON.exists() or subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode:
        return False
    return any(line.endswith(f" {VENV}") for line in (VENV / "pyvenv.cfg").read_text().splitlines())


def install_python(wanted: str) -> None:
    """Create .venv when it is missing, broken or moved, and install exactly what constraints.txt says."""
    VENV_STAMP.unlink(missing_ok=True)
    if not is_usable():
        print("setup: creating .venv", flush=True)
        venv.create(VENV, clear=True, with_pip=True, symlinks=True)
    print("setup: installing Python packages", flush=True)
    pip = (PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--constraint", CONSTRAINTS)
    wanted_packages = requirements()
    # First and by itself: nothing else may choose which build of torch comes.
    run(*pip, *(line for line in wanted_packages if line.startswith("torch==")))
    run(*pip, *wanted_packages)
    link_checkout()
    VENV_STAMP.write_text(wanted + "\n")


def link_checkout() -> None:
    """Let .venv import the packages from the checkout, and give it the command `efedllm`."""
    site_packages = subprocess.run(
        [PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    (Path(site_packages) / "efedllm-checkout.pth").write_text(f"{ROOT}\n")
    command = VENV / "bin" / "efedllm"
    command.write_text(COMMAND.format(python=PYTHON))
    command.chmod(0o755)


def install_node(wanted: str) -> None:
    """Install the npm packages of package-lock.json with the Node from .venv."""
    NODE_STAMP.unlink(missing_ok=True)
    print("setup: installing npm packages", flush=True)
    run(VENV / "bin" / "npm", "ci", "--silent")
    NODE_STAMP.write_text(wanted + "\n")


def main() -> int:
    own = Path(__file__).read_bytes()
    python_wanted = digest("\n".join(requirements()).encode(), CONSTRAINTS.read_bytes(), own)
    node_wanted = digest(*((ROOT / name).read_bytes() for name in (".npmrc", "package.json", "package-lock.json")))
    for folder in (VENV, NODE_MODULES):
        if folder.is_symlink():  # what it leads to belongs to another checkout, and would be emptied
            print(f"setup: {folder} is a link: remove it, then run `make setup` again", file=sys.stderr)
            return 1
    with one_at_a_time():
        try:
            if not is_current(VENV_STAMP, python_wanted) or not PYTHON.exists():
                install_python(python_wanted)
            if not is_current(NODE_STAMP, node_wanted):
                install_node(node_wanted)
        except subprocess.CalledProcessError as error:
            print(f"setup: failed ({error}); see the lines above, then run `make setup` again", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
