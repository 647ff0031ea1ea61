"""A million inputs and more, guided by coverage: `make test-long`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.test_fuzz import TARGETS

ROOT = Path(__file__).parents[2]
SECONDS = 3000.0

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def fuzzer() -> None:
    pytest.importorskip("atheris", reason="the fuzzer atheris has no wheel for this Python or machine")


def test_a_million_inputs_in_all() -> None:
    assert sum(target.runs for target in TARGETS.values()) >= 1_000_000


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("name", TARGETS)
def test_campaign(name: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", name]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, output[-4000:]
    figures = [line for line in output.splitlines() if line.startswith(f"{name}: ")]
    assert figures, output[-4000:]
    print(figures[0])
