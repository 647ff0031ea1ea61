"""Rewrites constraints.txt: the newest versions that pyproject.toml allows, transitive ones too.

Resolves in a fresh environment, so that nothing already installed has a say. `make setup` then installs them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tools.setup import CONSTRAINTS, requirements

HEADER = "# Every Python package of the checkout, transitive ones too. Written by: make constraints\n"


def pinned(freeze: str) -> list[str]:
    """Lines of `pip freeze`, without pip itself and without local versions such as `+cpu`, which differ per machine."""
    lines = (re.sub(r"\+[A-Za-z0-9.]+$", "", line) for line in freeze.splitlines())
    return sorted((line for line in lines if not line.startswith("pip==")), key=str.lower)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = [str(Path(folder, "bin", "python")), "-m", "pip"]
        wanted = requirements()
        subprocess.run([*pip, "install", "-qq", *(line for line in wanted if line.startswith("torch=="))], check=True)
        subprocess.run([*pip, "install", "-qq", *wanted], check=True)
        freeze = subprocess.run([*pip, "freeze", "--all"], check=True, capture_output=True, text=True).stdout
    CONSTRAINTS.write_text(HEADER + "\n".join(pinned(freeze)) + "\n")
    print(f"wrote {CONSTRAINTS.name}; now run: make setup")
    return 0


if __name__ == "__main__":
    sys.exit(main())
