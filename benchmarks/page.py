"""The tables in docs/benchmarks.md: written by the run that measured them, so that page and results never differ."""

import json
import re
from pathlib import Path

from .report import Report, Result, show

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def refresh(page: Path, results: Path) -> None:
    """Replace every table of the page by what the results folder holds for it."""
    page.write_text(fill(page.read_text(encoding="utf-8"), results), encoding="utf-8")


def fill(text: str, results: Path) -> str:
    """The text with the tables between `<!-- NAME -->` and `<!-- end -->` made from NAME.json; others stay."""

    def table(found: re.Match[str]) -> str:
        path = results / f"{found[1]}.json"
        body = markdown(read(path)) if path.exists() else found[2]
        return f"<!-- {found[1]} -->\n{body}<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n(.*?)<!-- end -->", table, text, flags=re.DOTALL)


def read(path: Path) -> Report:
    """A report as `Report.write` wrote it."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    return Report(plain["benchmark"], plain["machine"], tuple(Result(**result) for result in plain["results"]))


def markdown(report: Report) -> str:
    """Machine and results."""
    m = report.machine
    machine = (
        f"{m['cpu']}, {m['cores']} cores, {', '.join(m['instructions'])}, {m['memory_gib']} GiB,"
        f" torch {m['torch']}, transformers {m['transformers']}, Python {m['python']}"
    )
    rows = [f"| {r.name} | {show(r.value)} | {r.unit} | {r.target or ''} | {r.verdict} |" for r in report.results]
    return "\n".join([f"*{machine}*\n", "| what | value | unit | target | met |", "|---|---:|---|---|---|", *rows, ""])
