"""Which receipts may be paid: a pure state machine over what the workers of one path signed and the client was shown.

Receipts are checked at each due count in path order, so an honest worker before a liar is paid and nobody from the
liar on is; of a prompt, nobody is paid more than a receipt ahead of those behind it. Tokens are unsigned when they are
shown; where receipts speak of others, the chain of receipts tells who is wrong: if the last worker signed the same
other tokens as everybody before it, it showed what it did not sign.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from efedllm.client.errors import Violation
from efedllm.client.shown import Counts, Shown, next_due
from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.messages import Signed
from efedllm.protocol.objects import Receipt, Request
from efedllm.protocol.pricing import is_due
from efedllm.protocol.receipts import check_link, check_shape

START = Counts(0, 0)


@dataclass(frozen=True)
class Approved:
    """A receipt that passed every check: pay `receipt.fee` in all for this request to the worker at `shard`."""

    shard: int
    receipt: Receipt
    digest: bytes
    signature: bytes


@dataclass(frozen=True)
class Party:
    """A worker of the path as the chain has it when the request begins."""

    worker: str
    hot_key: str
    epoch: int


@dataclass(frozen=True)
class _Waiting:
    message: Signed
    signer: str

    @property
    def counts(self) -> Counts:
        return Counts(self.message.receipt.positions, self.message.receipt.generated)


class Checker:
    """`add` takes receipts as they arrive, `take` returns those that may be paid by now."""

    def __init__(
        self, domain: eip712.Domain, request: Request, request_id: bytes, parties: Sequence[Party], shown: Shown
    ) -> None:
        self.cancelled = False
        """Once set, workers may end, and sign a last receipt, at any count."""
        self._domain, self._request, self._id = domain, request, request_id
        self._parties, self._shown = list(parties), shown
        self._waiting: list[deque[_Waiting]] = [deque() for _ in parties]
        self._seen = [START for _ in parties]
        self._linked: list[dict[Counts, Approved]] = [{} for _ in parties]  # checked, not yet needed by the next shard
        self._counts = [START for _ in parties]  # of the latest approved receipt
        self._held: list[Approved] = []  # right in themselves, but about tokens that were not shown
        self._violation: Violation | None = None

    def rotate(self, shard: int, hot_key: str) -> None:
        """The worker's hot key is `hot_key` now."""
        self._parties[shard] = replace(self._parties[shard], hot_key=hot_key)

    def add(self, shard: int, message: Signed) -> bool:
        """A receipt from the connection to the worker at `shard`. Raises Violation where none could be due.

        False: another key than the known hot key signed it, which is right only after `rotate`.
        """
        worker, receipt = self._parties[shard].worker, message.receipt
        if receipt.shard != shard:
            raise Violation(worker, f"it signed a receipt for shard {receipt.shard}, its place is {shard}")
        try:
            check_shape(self._request, self._id, receipt)
            signer = eip712.recover(self._domain, receipt, message.signature)
        except ProtocolError as error:
            raise Violation(worker, str(error)) from error
        counts = Counts(receipt.positions, receipt.generated)
        seen, final = self._seen[shard], self._shown.final
        due = next_due(self._request.promptCount, seen)
        last = due if final is None else min(due, final, key=lambda at: at.positions)
        if not seen.positions < counts.positions <= last.positions:
            raise Violation(
                worker,
                f"it signed for {counts.positions} positions and {counts.generated} tokens "
                f"where {last.positions} and {last.generated} were due",
            )
        self._seen[shard] = counts
        self._waiting[shard].append(_Waiting(message, signer))
        return signer == self._parties[shard].hot_key

    def take(self) -> list[Approved]:
        """Receipts that may be paid now, in path order at each count. Raises Violation once those before it are out."""
        if self._violation is not None:
            raise self._violation
        approved: list[Approved] = []
        while self._violation is None and (shard := self._next_checkable()) is not None:
            try:
                approved += self._check(shard, self._waiting[shard].popleft())
            except Violation as violation:
                self._violation = violation
        if self._violation is not None and not approved:
            raise self._violation
        return approved

    def latest(self, shard: int) -> Counts:
        """Counts of the latest receipt of the worker that passed the checks."""
        return self._counts[shard]

    def overdue(self) -> Violation | None:
        """Who is to blame when receipts for tokens that were shown stay away; None if nothing is missing."""
        if self._held:
            at = self._held[-1].shard
            return Violation(
                self._parties[at + 1].worker,
                f"the receipts up to worker {self._parties[at].worker} speak of other tokens than were shown, "
                "and it signed for neither",
            )
        final, tokens = self._shown.final, len(self._shown.tokens)
        for shard, party in enumerate(self._parties):
            if waiting := self._waiting[shard]:
                if not self._shown.has(waiting[0].counts):
                    return Violation(
                        party.worker, f"it signed for {waiting[0].counts.generated} tokens, {tokens} were shown"
                    )
                continue
            due = next_due(self._request.promptCount, self._seen[shard])
            if final is not None and final.positions < due.positions:
                due = final
            if tokens and self._seen[shard] != due and due.positions <= self._request.promptCount + tokens - 1:
                return Violation(
                    party.worker, f"it sent no receipt for {due.positions} positions and {due.generated} tokens"
                )
        return None

    def refused(self, shard: int) -> Violation | None:
        """Who is to blame when the worker at `shard` refuses the receipt before it: a wrong one proves it right."""
        if not self._held or self._held[-1].shard != shard - 1:
            return None
        return Violation(
            self._parties[shard - 1].worker,
            "its receipt speaks of other tokens than were shown, and the next worker refused it",
        )

    def _next_checkable(self) -> int | None:
        return next((shard for shard in range(len(self._parties)) if self._is_checkable(shard)), None)

    def _is_checkable(self, shard: int) -> bool:
        if not self._waiting[shard]:
            return False
        counts = self._waiting[shard][0].counts
        if not self._shown.has(counts):
            return False
        # A token that was shown proves that the path works; before the first one, what a worker was paid for must have
        # come through to its end: one that keeps its rows to itself gets one receipt out of that, not a whole prompt's.
        paid = self._counts[shard].positions
        if not counts.generated and any(behind.positions < paid for behind in self._counts[shard + 1 :]):
            return False
        if shard and counts not in self._linked[shard - 1] and self._counts[shard - 1].positions <= counts.positions:
            return False
        # A worker's last receipt may overtake the last token, which alone tells that it is the last.
        is_expected = is_due(self._request.promptCount, counts.positions, counts.generated) or self.cancelled
        return is_expected or self._shown.final is not None or len(self._shown.tokens) > counts.generated

    def _check(self, shard: int, waiting: "_Waiting") -> list[Approved]:
        """What may be paid because of this receipt, which `add` took."""
        party, receipt, counts = self._parties[shard], waiting.message.receipt, waiting.counts
        is_due_here = is_due(self._request.promptCount, counts.positions, counts.generated)
        if not (is_due_here or self.cancelled or counts == self._shown.final):
            raise Violation(party.worker, f"it signed at {counts.generated} tokens, where no receipt was due")
        if waiting.signer != party.hot_key:
            raise Violation(
                party.worker, f"its receipt is signed by {waiting.signer}, not by its hot key {party.hot_key}"
            )
        if receipt.epoch != party.epoch:
            raise Violation(party.worker, f"its receipt is for epoch {receipt.epoch} of the channel, not {party.epoch}")
        if shard:
            upstream = self._linked[shard - 1].pop(counts, None)
            if upstream is None:
                raise Violation(party.worker, f"it signed at {counts.positions} positions, its upstream did not")
            try:
                check_link(upstream.receipt, upstream.digest, receipt)
            except ProtocolError as error:
                raise Violation(party.worker, str(error)) from error
        approved = Approved(shard, receipt, eip712.digest(self._domain, receipt), waiting.message.signature)
        self._linked[shard][counts] = approved
        released = self._compare(shard, approved, counts)
        self._counts[shard] = counts
        if shard == len(self._parties) - 1:
            self._linked[shard].clear()
        return released

    def _compare(self, shard: int, approved: Approved, counts: Counts) -> list[Approved]:
        """The receipt against what was shown."""
        receipt, roots, is_last = approved.receipt, self._shown.roots(counts), shard == len(self._parties) - 1
        worker = self._parties[shard].worker
        if receipt.tokenRoot != roots.tokens:
            if not is_last:
                self._held.append(approved)
                return []
            self._violation = Violation(worker, "it showed other tokens than it signed for")
            return [held for held in self._held if held.receipt.positions <= receipt.positions]
        if shard == 0 and receipt.inputRoot != roots.inputs:
            raise Violation(worker, "the inputRoot of its receipt is not that of the tokens that were shown")
        if is_last and receipt.outputRoot != roots.outputs:
            raise Violation(worker, "the outputRoot of its receipt is not that of the tokens that were shown")
        return [approved]
