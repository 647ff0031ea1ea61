"""`python -m benchmarks [NAME ...] [--json] [--quick]`: measure, print, and keep the numbers."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from .page import PAGE, refresh
from .report import RESULTS, Report, machine, require

BENCHMARKS = ("speed", "commitment", "split", "gas", "check", "audit", "trace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, or all. A missed target is a result and no failure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    # Checked below and not by `choices`, which refuses an empty list of names.
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON object per benchmark and line, no tables")
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that it runs; the numbers mean nothing")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"(default: {RESULTS}; with --quick: nothing is kept)")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}")
    folder: Path | None = arguments.out or (None if arguments.quick else RESULTS)
    for name in arguments.names or BENCHMARKS:
        results = import_module(f"benchmarks.{name}").run(arguments.quick, _tell)
        report = Report(name, machine(), require(results))
        print(report.to_line() if arguments.json else report.to_text(), flush=True)
        if folder is not None:
            _tell(f"written to {report.write(folder)}")
        if folder == RESULTS:
            refresh(PAGE, RESULTS)
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
