"""`python -m tools.mutation`: plants faults in the contracts and says which of them no test notices."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tools.mutation import answers
from tools.mutation.campaign import Campaign, Report, sample
from tools.mutation.unit import MutationError, Project

TARGET_PERCENT = 90.0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__)
    made.add_argument("files", nargs="*", metavar="FILE", help="contracts to plant faults in (default: all)")
    made.add_argument("--fault", action="append", metavar="NAME", help="try this one only; may be given several times")
    made.add_argument("--sample", type=int, metavar="N", help="try N of the faults only")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="which ones (default: 0)")
    made.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: all cores)"
    )
    made.add_argument("--list", action="store_true", help="name the faults and run nothing")
    made.add_argument("--survivors", type=Path, metavar="FILE", help="write unanswered survivors there")
    return made


def main(words: list[str] | None = None) -> int:
    arguments = parser().parse_args(words)
    try:
        project = Project.read()
        known = list(project.sites)
        if unknown := sorted(set(arguments.files) - set(known)):
            raise MutationError(f"no contract of ours: {', '.join(unknown)}")
        files = arguments.files or known
        mutants = [fault.mutant for fault in project.faults.values() if fault.mutant.file in files]
        tried = mutants
        if arguments.fault:
            if unknown := sorted(set(arguments.fault) - {mutant.name for mutant in mutants}):
                raise MutationError(f"no such fault, --list names them: {', '.join(unknown)}")
            tried = [mutant for mutant in mutants if mutant.name in arguments.fault]
        wanted = sample(tried, arguments.sample, arguments.seed)
        if arguments.list:
            print("\n".join(f"{mutant.line}: {mutant.name}" for mutant in mutants if mutant in wanted))
            return 0
        report = Campaign(project, arguments.jobs, lambda line: print(line, flush=True)).run(wanted)
        return _judge(report, files, answers.read(), len(wanted) == len(mutants), arguments.survivors)
    except (MutationError, ValueError) as error:
        print(f"mutation: {error}", file=sys.stderr)
        return 1


def _judge(report: Report, files: list[str], known: dict[str, str], is_complete: bool, path: Path | None) -> int:
    survivors = {mutant.name: mutant for mutant in report.survivors}
    open_ones = [survivors[name] for name in answers.unanswered(list(survivors), known)]
    lines = [f"{mutant.file}:{mutant.line} {mutant.name.split(' ', 1)[1]}" for mutant in open_ones]
    for line in lines:
        print(f"not noticed: {line}")
    if path:
        path.write_text("".join(f"- {line}\n" for line in lines))
    for test in sorted(report.unfit):
        print(f"not used, does not compile or fails with the faults switched off: {test}")
    old = answers.stale(list(survivors), known, files) if is_complete else []
    for name in old:
        print(f"answered, but noticed or gone: {name}")
    killed = len(report.killers) - len(survivors)
    explained = len(survivors) - len(open_ones)
    print(
        f"mutation: {killed} of {len(report.killers)} faults noticed, {report.score:.1f} %"
        f" (target {TARGET_PERCENT:.0f} %); {explained} survivors explained, {len(open_ones)} not;"
        f" {len(report.impossible)} do not compile{'' if is_complete else '; a sample'}"
    )
    return 1 if report.score < TARGET_PERCENT or open_ones or old else 0


if __name__ == "__main__":
    sys.exit(main())
