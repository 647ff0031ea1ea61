"""Who on a path is at fault, from the verdicts on its receipts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .verdict import Fault, Outcome, Verdict

CORRUPTING = frozenset({Fault.INPUT, Fault.OUTPUT, Fault.TOKEN, Fault.LINK})
"""Faults after which the rows or tokens of later workers are wrong too."""


@dataclass(frozen=True)
class Judged:
    """The verdict on one receipt of a request: its worker's place in the path, and how many positions it covers."""

    shard: int
    positions: int
    verdict: Verdict


def settle(judged: Sequence[Judged]) -> list[Verdict]:
    """Verdicts on receipts of one request, in their order: who only passed a wrong input on is not at fault.

    A later worker's own roots recompute, so `check` found nothing; what it signed is wrong all the same, and is told
    apart from what is fine.
    """
    corrupt = sorted((j for j in judged if j.verdict.kind in CORRUPTING), key=lambda j: (j.shard, j.positions))
    settled = []
    for one in judged:
        before = next((c for c in corrupt if c.shard < one.shard and c.positions <= one.positions), None)
        if before is not None and one.verdict.outcome is Outcome.OK:
            reason = f"its input was wrong already: {before.verdict.worker} is at fault"
            settled.append(replace(one.verdict, outcome=Outcome.NOT_AT_FAULT, reason=reason))
        else:
            settled.append(one.verdict)
    return settled
