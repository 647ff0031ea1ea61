"""Every fault of every file, and what became of it. Stopped and started again, a campaign goes on where it was.

What a fault comes to depends on the sources, the tests and this tool, so outcomes are kept in a folder named after the
hash of these: build/mutation/<hash>/outcomes.jsonl, a line per fault.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tools.mutation.runner import Outcome, Runner
from tools.mutation.sites import Mutant
from tools.mutation.unit import Build, Project, Unit, build, digest
from tools.setup import ROOT

FOLDER = ROOT / "build" / "mutation"
STUCK = "no end"


@dataclass
class Report:
    """What was run. `killers`: the test that noticed the fault, None if none did. `impossible` do not compile.

    `unfit`: tests that fail without any fault where the contracts carry them all (by gas, say): they judge nothing.
    Tests that do not compile with all faults of a file are among them.
    """

    killers: dict[Mutant, str | None] = field(default_factory=dict)
    impossible: list[Mutant] = field(default_factory=list)
    unfit: set[str] = field(default_factory=set)

    def add(self, other: Report) -> None:
        self.killers |= other.killers
        self.impossible += other.impossible
        self.unfit |= other.unfit

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
    """Runs the chosen faults of some files on `jobs` processes. `tell` gets a line now and then."""

    def __init__(self, project: Project, jobs: int, tell: Callable[[str], None]) -> None:
        self._project = project
        self._jobs = jobs
        self._tell = tell

    def run(self, files: Sequence[str], wanted: frozenset[Mutant]) -> Report:
        report, lock = Report(), threading.Lock()

        def one(file: str) -> None:
            found = self._run_file(file, wanted)
            with lock:
                report.add(found)
            killed = len(found.killers) - len(found.survivors)
            self._tell(f"{file}: {killed} of {len(found.killers)} faults noticed")

        # The longest first, so that no process is left alone with it in the end.
        by_size = sorted(files, key=lambda file: -sum(mutant.file == file for mutant in wanted))
        with ThreadPoolExecutor(self._jobs) as pool:
            for future in [pool.submit(one, file) for file in by_size]:
                future.result()
        return report

    def _run_file(self, file: str, wanted: frozenset[Mutant]) -> Report:
        if not any(mutant.file == file for mutant in wanted):
            return Report()
        folder = FOLDER / digest(self._project, file, _tool())
        built = self._build(file, folder)
        report = Report(impossible=[mutant for mutant in built.impossible if mutant in wanted])
        known = _Outcomes(folder / "outcomes.jsonl")
        for unit in built.units:
            missing = {n: mutant for n, mutant in unit.faults.items() if mutant in wanted and n not in known.killers}
            if missing:
                self._run_unit(unit, missing, known)
            report.killers |= {m: known.killers[n] for n, m in unit.faults.items() if m in wanted}
        report.unfit = known.unfit | {f"{test} with {file}" for test in built.left_out}
        return report

    def _build(self, file: str, folder: Path) -> Build:
        faults = {number: fault[2] for number, fault in enumerate(self._project.faults(file), start=1)}
        index = folder / "units.json"
        if not index.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            made = build(self._project, file, folder)
            numbers = {mutant: number for number, mutant in faults.items()}
            content = {
                "units": [[unit.contracts.name, sorted(unit.faults)] for unit in made.units],
                "impossible": sorted(numbers[mutant] for mutant in made.impossible),
                "left_out": sorted(made.left_out),
            }
            index.write_text(json.dumps(content))
        stored = json.loads(index.read_text())
        units = [Unit(file, {n: faults[n] for n in numbers}, folder / name) for name, numbers in stored["units"]]
        return Build(units, [faults[number] for number in stored["impossible"]], frozenset(stored["left_out"]))

    def _run_unit(self, unit: Unit, missing: Mapping[int, Mutant], known: _Outcomes) -> None:
        with Runner(unit.contracts) as runner:
            sound = runner.run(0, all_suites=True)
            known.unfit |= set(sound.failed)
            suites = order(sound.milliseconds, unit.file)
            for number in missing:
                known.keep(number, _killer(runner.run(number, suites, sound.failed)), sound.failed)


class _Outcomes:
    """Fault number -> killer, kept in a file line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.killers: dict[int, str | None] = {}
        self.unfit: set[str] = set()
        if path.is_file():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                self.killers[entry["fault"]] = entry["killer"]
                self.unfit |= set(entry["unfit"])

    def keep(self, number: int, killer: str | None, unfit: Sequence[str]) -> None:
        self.killers[number] = killer
        with self._path.open("a") as file:
            file.write(json.dumps({"fault": number, "killer": killer, "unfit": list(unfit)}) + "\n")


def _killer(outcome: Outcome) -> str | None:
    return STUCK if outcome.is_stuck else (outcome.failed[0] if outcome.failed else None)


def _tool() -> bytes:
    """What else decides about outcomes."""
    own = [path for path in sorted(Path(__file__).parent.iterdir()) if path.suffix in {".py", ".mjs"}]
    decisive = [path for path in own if path.stem not in {"__main__", "answers", "campaign"}]
    return b"\0".join(path.read_bytes() for path in [*decisive, ROOT / "package-lock.json"])
