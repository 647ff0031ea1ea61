"""Child processes of the demo: started in their own groups, ended by process id, none left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from efedllm.errors import EfedllmError

STOP_SECONDS = 15.0


class ProcessError(EfedllmError):
    """A command of the demo failed; the message holds the end of what it printed."""


@dataclass
class Program:
    """A running program whose standard output is one JSON object per line."""

    name: str
    process: "subprocess.Popen[str]"
    log: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, event: str, seconds: float, **fields: object) -> dict[str, Any]:
        """The first event of that name and those fields. Raises ProcessError if the program ends or time is up."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while True:
                for found in self.events:
                    if found.get("event") == event and all(found.get(key) == value for key, value in fields.items()):
                        return found
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    state = "ended" if self.process.poll() is not None else f"did not get there in {seconds:g} s"
                    raise ProcessError(f"{self.name} {state} before '{event}':\n{_tail(self.log)}")
                self.changed.wait(min(left, 0.5))

    def wait_for_count(self, names: tuple[str, ...], count: int, seconds: float) -> None:
        """Until that many events of these names came. Raises ProcessError like `wait_for`."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while sum(event.get("event") in names for event in self.events) < count:
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    raise ProcessError(f"{self.name} told fewer than {count} of {names}:\n{_tail(self.log)}")
                self.changed.wait(min(left, 0.5))

    def read(self) -> None:
        """Collect events until the program closes its output."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError), self.changed:
                self.events.append(json.loads(line))
                self.changed.notify_all()


class Processes:
    """All children of one run. Leaving the `with` block ends them, in the reverse order of their start."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self.programs: list[Program] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in reversed(self.programs):
            self.stop(program)

    def start(self, name: str, arguments: Sequence[str], **environment: str) -> Program:
        """Run `python -m ...` in the background; its errors go to a log file of its name."""
        log = self.folder / f"{name}.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                env={**self.environment, **environment},
                text=True,
                # A group of its own, so that Ctrl-C reaches only the demo, which then ends everything in order.
                start_new_session=True,
            )
        program = Program(name, process, log)
        self.programs.append(program)
        threading.Thread(target=program.read, daemon=True).start()
        return program

    def stop(self, program: Program) -> None:
        """SIGTERM, and SIGKILL if that does not help in time."""
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGTERM)
            try:
                program.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(program.process.pid, signal.SIGKILL)
                program.process.wait()

    def run(self, *arguments: str, check: bool = True, **environment: str) -> dict[str, Any]:
        """`efedllm ARGUMENTS --json` to its end; the object that it printed. Raises ProcessError if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "efedllm.cli", *arguments, "--json"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={**self.environment, **environment},
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise ProcessError(f"efedllm {' '.join(arguments)} failed:\n{done.stderr.strip()[-2000:]}")
        try:
            result: dict[str, Any] = json.loads(done.stdout)
        except ValueError as error:
            raise ProcessError(f"efedllm {' '.join(arguments)} printed no JSON:\n{done.stderr[-2000:]}") from error
        return result

    def stream(self, *arguments: str, **environment: str) -> int:
        """`efedllm ARGUMENTS` with its output on this terminal. Returns the exit code."""
        return subprocess.run(
            [sys.executable, "-m", "efedllm.cli", *arguments],
            stdin=subprocess.DEVNULL,
            env={**self.environment, **environment},
            check=False,
        ).returncode


def _tail(log: Path, characters: int = 2000) -> str:
    return log.read_text(errors="replace")[-characters:].strip()
