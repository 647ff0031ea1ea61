"""A process that runs test suites with one fault switched on."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.setup import ROOT, VENV

# Far longer than all tests take together.
PATIENCE_SECONDS = 90.0
# Several times what all tests take while they pass. Each process of a campaign may take so much.
MEMORY_MIB = 1024


@dataclass(frozen=True)
class Outcome:
    """Failed tests of the suites that were run, and `milliseconds` of each of these suites.

    is_stuck: they did not end, within the time and the memory that there is.
    """

    failed: tuple[str, ...]
    milliseconds: dict[str, int]
    is_stuck: bool = False


class Runner:
    """Runs jobs one after the other; a job that gets stuck costs a new process."""

    def __init__(
        self, contracts: Path, memory_mib: int = MEMORY_MIB, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._contracts = contracts
        self._memory_mib = memory_mib
        self._patience_seconds = patience_seconds
        self._process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def run(
        self, fault: int, suites: Sequence[str] | None = None, ignored: Sequence[str] = (), all_suites: bool = False
    ) -> Outcome:
        """Suites in order (default: all that there are) without the `ignored` tests, up to the first failure.
        Fault 0: none at all."""
        job = {"fault": fault, "suites": suites, "ignored": list(ignored), "all": all_suites}
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps(job) + "\n")
        stdin.flush()
        ready, _, _ = select.select([stdout], [], [], self._patience_seconds)
        line = stdout.readline() if ready else ""
        if not line:
            self._stop()
            self._process = self._start()
            return Outcome((), {}, is_stuck=True)
        answer = json.loads(line)
        return Outcome(tuple(answer["failed"]), answer["milliseconds"])

    def _start(self) -> subprocess.Popen[str]:
        command = [
            str(VENV / "bin" / "node"),
            str(Path(__file__).with_name("runner.mjs")),
            str(self._contracts),
            str(ROOT),
            str(self._memory_mib),
        ]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"RAYON_NUM_THREADS": "1"},
            process_group=0,
        )

    def _stop(self) -> None:
        # The wrapper around Node and Node itself.
        os.killpg(self._process.pid, 9)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
