"""The environment of Slither. It wants an older web3 than the project has, so it cannot live in .venv."""

from __future__ import annotations

import hashlib
import subprocess
import venv
from pathlib import Path

from tools.setup import ROOT

WANTED = "slither-analyzer==0.11.6"
# Every package of it, transitive ones too. Written by: make constraints
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
FOLDER = ROOT / "build" / "slither" / "venv"


def environment_python() -> Path:
    """Python of the environment, which is made when it is missing or made from other requirements.

    Raises subprocess.CalledProcessError if the packages cannot be installed.
    """
    python, stamp = FOLDER / "bin" / "python", FOLDER / ".ready"
    wanted = hashlib.sha256(f"{FOLDER}\0{REQUIREMENTS.read_text()}".encode()).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == wanted):
        venv.create(FOLDER, clear=True, with_pip=True, symlinks=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
        stamp.write_text(wanted)
    return python
