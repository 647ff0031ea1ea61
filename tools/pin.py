"""Rewrites constraints.txt: the newest versions that pyproject.toml allows, transitive ones too; and those of Slither.

Resolves in fresh environments, so that nothing already installed has a say. `make setup` then installs them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

from tools.setup import CONSTRAINTS, requirements
from tools.slither.environment import REQUIREMENTS, WANTED

HEADER = "# Every Python package of {}, transitive ones too. Written by: make constraints\n"


def pinned(freeze: str) -> list[str]:
    """Lines of `pip freeze`, without pip itself and without local versions such as `+cpu`, which differ per machine."""
    lines = (re.sub(r"\+[A-Za-z0-9.]+$", "", line) for line in freeze.splitlines())
    return sorted((line for line in lines if not line.startswith("pip==")), key=str.lower)


def resolved(wanted: Sequence[str], whose: str) -> str:
    """Text of a file of pins that satisfies `wanted`."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = [str(Path(folder, "bin", "python")), "-m", "pip"]
        first = [line for line in wanted if line.startswith("torch==")]
        for lines in (first, list(wanted)):
            if lines:
                subprocess.run([*pip, "install", "-qq", *lines], check=True)
        freeze = subprocess.run([*pip, "freeze", "--all"], check=True, capture_output=True, text=True).stdout
    return HEADER.format(whose) + "\n".join(pinned(freeze)) + "\n"


def main() -> int:
    CONSTRAINTS.write_text(resolved(requirements(), "the checkout"))
    REQUIREMENTS.write_text(resolved([WANTED], "Slither's own environment"))
    print(f"wrote {CONSTRAINTS.name} and Slither's {REQUIREMENTS.name}; now run: make setup")
    return 0


if __name__ == "__main__":
    sys.exit(main())
