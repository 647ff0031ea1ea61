"""What a verifier knows, for people and for programs."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from efedllm.options import table

from .blame import Judged, settle
from .findings import Checked, Undrawn
from .verdict import Outcome

EXIT_FAULT = 3
EXIT_UNAVAILABLE = 4


@dataclass(frozen=True)
class Report:
    """All drawn receipts with settled verdicts, and claim entries whose leaves could not be had."""

    checked: tuple[Checked, ...]
    undrawn: tuple[Undrawn, ...]

    def of(self, *outcomes: Outcome) -> list[Checked]:
        return [one for one in self.checked if one.verdict.outcome in outcomes]

    @property
    def exit_code(self) -> int:
        """0 only if everything drawn was had and is right."""
        if self.of(Outcome.FAULT):
            return EXIT_FAULT
        return EXIT_UNAVAILABLE if self.undrawn or self.of(Outcome.UNAVAILABLE) else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "checked": len(self.of(Outcome.OK, Outcome.FAULT, Outcome.NOT_AT_FAULT)),
            "ok": len(self.of(Outcome.OK)),
            "faults": [describe(one) for one in self.of(Outcome.FAULT)],
            "not_at_fault": [describe(one) for one in self.of(Outcome.NOT_AT_FAULT)],
            "unavailable": [
                *[describe(one) for one in self.of(Outcome.UNAVAILABLE)],
                *[describe_undrawn(one) for one in self.undrawn],
            ],
            "other_model": len(self.of(Outcome.OTHER_MODEL)),
        }

    def to_text(self) -> str:
        counts = self.to_json()
        lines = [
            f"{counts['checked']} receipts checked: {counts['ok']} right, {len(counts['faults'])} faults, "
            f"{len(counts['not_at_fault'])} wrong by an earlier worker's fault; "
            f"{len(counts['unavailable'])} unavailable"
        ]
        rows = [
            (row["outcome"], row["worker"], row.get("layers") or "", row["kind"] or "", row["reason"])
            for name in ("faults", "not_at_fault", "unavailable")
            for row in counts[name]
        ]
        if rows:
            lines.append(table(("outcome", "worker", "layers", "what", "why"), rows))
        return "\n".join(lines)


def make_report(checked: Iterable[Checked], undrawn: Iterable[Undrawn]) -> Report:
    """Settles the blame within every request."""
    checked = list(checked)
    by_request: dict[bytes, list[int]] = defaultdict(list)
    for at, one in enumerate(checked):
        if one.about is not None:
            by_request[one.draw.leaf.request_id].append(at)
    for places in by_request.values():
        judged = [
            Judged(about.shard, about.positions, checked[at].verdict)
            for at in places
            if (about := checked[at].about) is not None
        ]
        for at, verdict in zip(places, settle(judged), strict=True):
            checked[at] = replace(checked[at], verdict=verdict)
    return Report(tuple(checked), tuple(undrawn))


def describe(one: Checked) -> dict[str, Any]:
    verdict, leaf = one.verdict, one.draw.leaf
    return {
        "outcome": verdict.outcome.value,
        "worker": verdict.worker,
        "kind": verdict.kind and verdict.kind.value,
        "reason": verdict.reason,
        "position": verdict.position,
        "layers": one.about and one.about.layers,
        "shard": one.about and one.about.shard,
        "request": "0x" + leaf.request_id.hex(),
        "receipt": "0x" + leaf.receipt_digest.hex(),
        "claimed_by": one.draw.worker,
        "claim": one.draw.claim,
        "evidence": one.evidence,
    }


def describe_undrawn(one: Undrawn) -> dict[str, Any]:
    return {
        "outcome": one.verdict.outcome.value,
        "worker": one.verdict.worker,
        "kind": one.verdict.kind and one.verdict.kind.value,
        "reason": one.verdict.reason,
        "claimed_by": one.worker,
        "claim": one.claim,
        "entry": one.entry,
    }


def fault_line(one: Checked) -> str:
    """One line that names the worker and what it did."""
    layers = f" (layers {one.about.layers})" if one.about else ""
    verdict, leaf = one.verdict, one.draw.leaf
    return (
        f"FAULT {verdict.kind}: worker {verdict.worker}{layers}, request 0x{leaf.request_id.hex()}, "
        f"receipt 0x{leaf.receipt_digest.hex()}: {verdict.reason}; evidence: {one.evidence}"
    )
