"""What a benchmark found, as a table for people and one JSON object for machines."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from efedllm.options import table

RESULTS = Path(__file__).resolve().parent / "results"
SCRATCH = Path(__file__).resolve().parents[1] / "build"
"""Where benchmarks keep what they throw away: on the checkout's disk, since a system's own folder may be memory."""


@dataclass(frozen=True)
class Result:
    """One number. `target`: what it is held against, such as `< 0.5`; None if it is only reported."""

    name: str
    value: float
    unit: str
    target: str | None = None
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """For tables."""
        return "" if self.met is None else "yes" if self.met else "NO"


@dataclass(frozen=True)
class Report:
    """All results of one benchmark in one run."""

    benchmark: str
    machine: dict[str, Any]
    results: tuple[Result, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def to_line(self) -> str:
        """The same on one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def to_text(self) -> str:
        rows = [(r.name, show(r.value), r.unit, r.target or "", r.verdict) for r in self.results]
        return f"{self.benchmark}\n{table(('what', 'value', 'unit', 'target', 'met'), rows)}\n"

    def write(self, folder: Path) -> Path:
        """`<benchmark>.json` in `folder`, replaced as a whole."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.benchmark}.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(self.to_json(), encoding="utf-8")
        os.replace(temporary, path)
        return path


def below(name: str, value: float, unit: str, limit: float) -> Result:
    """A number that has to be less than `limit`."""
    return Result(name, _round(value), unit, f"< {limit:g}", value < limit)


def at_most(name: str, value: float, unit: str, limit: float) -> Result:
    """A number that may not exceed `limit`."""
    return Result(name, _round(value), unit, f"<= {limit:g}", value <= limit)


def reported(name: str, value: float, unit: str) -> Result:
    """A number without a target."""
    return Result(name, _round(value), unit)


def show(value: float) -> str:
    """Digits enough to compare, none of them noise."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def machine() -> dict[str, Any]:
    """Where the numbers come from."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "instructions": _instructions(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def require(results: Sequence[Result]) -> tuple[Result, ...]:
    """The results of a run. A name that occurs twice would hide a number from whoever looks it up by name."""
    names = [result.name for result in results]
    assert names and len(set(names)) == len(names), "results need names of their own"
    return tuple(results)


def _round(value: float) -> float:
    """Six significant digits: what lies beyond is noise, and would only make files differ."""
    return float(f"{value:.6g}")


def _cpu() -> str:
    return _cpu_field("model name") or platform.processor() or platform.machine()


def _instructions() -> list[str]:
    """Vector instructions that decide how fast integer and bf16 products are, if the system tells."""
    known = {"avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm"}
    flags = (_cpu_field("flags") or _cpu_field("Features") or "").split()
    return sorted(known.intersection(flags))


def _cpu_field(name: str) -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)
