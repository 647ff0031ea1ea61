"""What the chain can do about a verdict: a statement that needs no game, a game, a demand, or nothing.

| verdict | remedy |
|---|---|
| request, receipt | `proveShape` |
| link | `proveLink` |
| past-stop, a token outside the vocabulary | `proveTokens` |
| input-root, output-root, token | a game |
| tokens, no-answer, ... of a receipt that is at hand | a demand |
| foreign-receipt, overcharged | none: whoever pays signed the voucher, so nobody was deceived |
"""

from dataclasses import dataclass

from efedllm.protocol.eip712 import Domain
from efedllm.protocol.game import TOKENS_PER_CHUNK, Paper
from efedllm.protocol.objects import Receipt
from efedllm.protocol.statements import TokenEvidence, show_stop_id, show_vocabulary

from .check import Case, find_receipt
from .verdict import Fault, Missing, Outcome, Verdict


@dataclass(frozen=True)
class ProveShape:
    """The receipt does not follow from its request, or the request may not be served."""


@dataclass(frozen=True)
class ProveLink:
    """The receipt contradicts the one that it names."""

    upstream: Receipt


@dataclass(frozen=True)
class ProveTokens:
    """A token that must not be where the receipt says it is."""

    evidence: TokenEvidence


@dataclass(frozen=True)
class PlayGame:
    """The worker is led down its trace."""


@dataclass(frozen=True)
class Demand:
    """The worker must publish its tokens, `chunks` groups of 1,024."""

    chunks: int


Remedy = ProveShape | ProveLink | ProveTokens | PlayGame | Demand
Statement = ProveShape | ProveLink | ProveTokens

DEMANDED = frozenset({Missing.TOKENS, Missing.ANSWER, Missing.PROMPT, Missing.REQUEST_SIGNATURE})
"""What a worker that withholds it is made to publish, as far as the tokens are what is missing."""


def paper_of(domain: Domain, case: Case) -> Paper | None:
    """The drawn receipt with its request, if the record holds it; the chain looks at the signature itself."""
    found = find_receipt(domain, case.record, case.drawn.leaf.receipt_digest)
    return None if found is None else Paper(case.record.request, *found)


def remedy_for(domain: Domain, vocab: int, case: Case, verdict: Verdict) -> Remedy | None:
    """None where nothing can be shown to the chain. vocab: the model's number of token ids."""
    if (paper := paper_of(domain, case)) is None:
        return None
    if verdict.outcome is Outcome.UNAVAILABLE:
        return _demand(paper) if verdict.kind in DEMANDED and verdict.worker == case.drawn.worker else None
    if verdict.outcome is not Outcome.FAULT:
        return None
    receipt, record = paper.receipt, case.record
    tokens = [*record.prompt, *record.generated[: receipt.generated]]
    match verdict.kind:
        case Fault.REQUEST | Fault.INPUT if (unknown := _first_unknown(tokens, vocab)) is not None:
            return ProveTokens(show_vocabulary(tokens, unknown))
        case Fault.REQUEST | Fault.RECEIPT:
            return ProveShape()
        case Fault.LINK:
            upstream = find_receipt(domain, case.upstream, receipt.upstream) if case.upstream is not None else None
            return None if upstream is None else ProveLink(upstream[0])
        case Fault.PAST_STOP:
            given = tokens[receipt.promptCount :]
            stop = next(at for at, token in enumerate(given) if token in record.request.stopIds)
            return ProveTokens(show_stop_id(given, stop))
        case Fault.INPUT | Fault.OUTPUT | Fault.TOKEN:
            return PlayGame()
    return None


def _demand(paper: Paper) -> Demand:
    return Demand(-(-(paper.receipt.promptCount + paper.receipt.generated) // TOKENS_PER_CHUNK))


def _first_unknown(tokens: list[int], vocab: int) -> int | None:
    return next((at for at, token in enumerate(tokens) if token >= vocab), None)
