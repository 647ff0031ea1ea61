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
    code, output = campaign(name)
    assert code == 0, output[-4000:]
    figures = [line for line in output.splitlines() if line.startswith(f"{name}: ")]
    assert figures, output[-4000:]
    print(figures[0])


@pytest.mark.parametrize(
    ("name", "finding"),
    [("crashes", "IndexError"), ("takes_two_forms", "was read as"), ("grows", "bytes of memory")],
)
def test_a_mistake_is_found(name: str, finding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the input is left
    code, output = campaign(name, "--module", "planted_targets")
    assert code != 0
    assert finding in output
    assert list(tmp_path.glob(f"efedllm-fuzz-{name}-crash-*"))


def campaign(name: str, *options: str) -> tuple[int, str]:
    """Exit code and output."""
    command = [sys.executable, "-m", "tests.fuzz.run", name, *options]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode, output
