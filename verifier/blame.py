"""Who on a path is at fault, from the verdicts on its receipts."""

from collections.abc import Mapping
from dataclasses import replace

from .verdict import Fault, Outcome, Verdict

CORRUPTING = frozenset({Fault.INPUT, Fault.OUTPUT, Fault.TOKEN, Fault.LINK})
"""Faults after which rows or tokens of later workers are wrong too."""


def settle(verdicts: Mapping[int, Verdict]) -> dict[int, Verdict]:
    """Verdicts of one request by shard: a later worker whose output follows from a wrong input is not at fault.

    Its own roots recompute, so `check` found nothing; what it signed is wrong all the same, and told apart from fine.
    """
    first = min((shard for shard, verdict in verdicts.items() if verdict.kind in CORRUPTING), default=None)
    if first is None:
        return dict(verdicts)
    reason = f"its input was wrong already: {verdicts[first].worker} is at fault"
    return {
        shard: replace(verdict, outcome=Outcome.NOT_AT_FAULT, reason=reason)
        if shard > first and verdict.outcome is Outcome.OK
        else verdict
        for shard, verdict in verdicts.items()
    }
