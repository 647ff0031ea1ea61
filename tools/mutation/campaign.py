"""Every fault, and what became of it. Stopped and started again, a campaign goes on where it was.

What a fault comes to depends on the sources, the tests and this tool, so outcomes are kept in a folder named after the
hash of these: build/mutation/<hash>/outcomes.jsonl, a line per fault.
"""

from __future__ import annotations

import json
import queue
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tools.mutation.runner import Outcome, Runner
from tools.mutation.sites import Mutant
from tools.mutation.unit import Build, MutationError, Project, Unit, build, digest
from tools.setup import ROOT

FOLDER = ROOT / "build" / "mutation"
STUCK = "no end"


@dataclass(frozen=True)
class Report:
    """What was run. `killers`: the test that noticed the fault, None if none did. `impossible` do not compile.

    `unfit`: tests that fail without any fault where the contracts carry them all (by gas, say): they judge nothing.
    Tests that do not compile with all faults of a file are among them.
    """

    killers: Mapping[Mutant, str | None]
    impossible: Sequence[Mutant]
    unfit: set[str]

    @property
    def survivors(self) -> list[Mutant]:
        return [mutant for mutant, killer in self.killers.items() if killer is None]

    @property
    def score(self) -> float:
        """Noticed faults in percent of all that were tried."""
        return 100 * (1 - len(self.survivors) / len(self.killers)) if self.killers else 0.0


def sample(mutants: Sequence[Mutant], count: int | None, seed: int) -> frozenset[Mutant]:
    """`count` of the mutants, always the same for one seed; all of them for None."""
    ordered = sorted(mutants, key=lambda mutant: (mutant.file, mutant.name))
    if count is None or count >= len(ordered):
        return frozenset(ordered)
    return frozenset(random.Random(seed).sample(ordered, count))


def order(suites: Mapping[str, int], file: str) -> list[str]:
    """Suites by how soon they are likely to notice: those named after the file first, then the quick ones."""
    stem = Path(file).stem
    return sorted(suites, key=lambda suite: (not suite.startswith(stem), suites[suite], suite))


class Campaign:
    """Runs faults of a project on `jobs` processes. `tell` gets a line now and then."""

    def __init__(self, project: Project, jobs: int, tell: Callable[[str], None]) -> None:
        self._project = project
        self._jobs = jobs
        self._tell = tell

    def run(self, wanted: frozenset[Mutant]) -> Report:
        folder = FOLDER / digest(self._project, _tool())
        built = self._build(folder)
        known = _Outcomes(folder / "outcomes.jsonl")
        faults = {number: fault.mutant for number, fault in self._project.faults.items() if fault.mutant in wanted}
        possible = [number for unit in built.units for number in unit.numbers if number in faults]
        self._tell(f"{len(possible)} faults, {sum(number in known.killers for number in possible)} of them known")
        for unit in built.units:
            missing = [number for number in unit.numbers if number in faults and number not in known.killers]
            if missing:
                self._run_unit(unit, missing, known)
        return Report(
            killers={faults[number]: known.killers[number] for number in possible},
            impossible=[faults[number] for number in built.impossible if number in faults],
            unfit=known.unfit | set(built.left_out),
        )

    def _build(self, folder: Path) -> Build:
        index = folder / "units.json"
        if not index.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            self._tell("compiling")
            made = build(self._project, folder)
            numbers = [[unit.contracts.name, list(unit.numbers)] for unit in made.units]
            content = {"units": numbers, "impossible": made.impossible, "left_out": made.left_out}
            index.write_text(json.dumps(content))
        stored = json.loads(index.read_text())
        units = [Unit(numbers, folder / name) for name, numbers in stored["units"]]
        return Build(units, stored["impossible"], stored["left_out"])

    def _run_unit(self, unit: Unit, missing: Sequence[int], known: _Outcomes) -> None:
        with Runner(unit.contracts) as runner:
            sound = runner.run(0, all_suites=True)
        if not sound.milliseconds:
            raise MutationError("the tests do not end with the faults switched off")
        waiting = queue.SimpleQueue[int]()
        for number in missing:
            waiting.put(number)

        def work() -> None:
            with Runner(unit.contracts) as runner:
                while True:
                    try:
                        number = waiting.get_nowait()
                    except queue.Empty:
                        return
                    suites = order(sound.milliseconds, self._project.faults[number].mutant.file)
                    known.keep(number, killer(runner.run(number, suites, sound.failed)), sound.failed)
                    if len(known.killers) % 100 == 0:
                        self._tell(f"{len(known.killers)} done")

        with ThreadPoolExecutor(self._jobs) as pool:
            for future in [pool.submit(work) for _ in range(self._jobs)]:
                future.result()


class _Outcomes:
    """Fault number -> killer, kept in a file line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.killers: dict[int, str | None] = {}
        self.unfit: set[str] = set()
        if path.is_file():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                self.killers[entry["fault"]] = entry["killer"]
                self.unfit |= set(entry["unfit"])

    def keep(self, number: int, killer: str | None, unfit: Sequence[str]) -> None:
        with self._lock, self._path.open("a") as file:
            self.killers[number] = killer
            self.unfit |= set(unfit)
            file.write(json.dumps({"fault": number, "killer": killer, "unfit": list(unfit)}) + "\n")


def killer(outcome: Outcome) -> str | None:
    """Name of the first test that noticed the fault, STUCK for tests that did not end, None if nothing noticed it."""
    return STUCK if outcome.is_stuck else (outcome.failed[0] if outcome.failed else None)


def _tool() -> bytes:
    """What else decides about outcomes."""
    own = [path for path in sorted(Path(__file__).parent.iterdir()) if path.suffix in {".py", ".mjs"}]
    decisive = [path for path in own if path.stem not in {"__main__", "answers", "campaign"}]
    return b"\0".join(path.read_bytes() for path in [*decisive, ROOT / "package-lock.json"])
