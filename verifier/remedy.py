"""What the chain can do about a verdict: a statement that needs no game, a game, a demand, or nothing.

| verdict | remedy |
|---|---|
| request, receipt | `proveShape` |
| link | `proveLink` |
| past-stop, a token outside the vocabulary | `proveTokens` |
| input-root, output-root, token | a game |
| tokens | a demand |
| rows, where no upstream receipt vouches for the input either | a game, down the input |
| foreign-receipt, overcharged | none: whoever pays signed the voucher, so nobody was deceived |
"""

from dataclasses import dataclass

from efedllm.protocol.eip712 import Domain
from efedllm.protocol.errors import RequestError
from efedllm.protocol.game import TOKENS_PER_CHUNK, Paper
from efedllm.protocol.objects import Receipt, Request
from efedllm.protocol.requests import check_request
from efedllm.protocol.statements import TokenEvidence, show_stop_id, show_vocabulary

from .check import Case, Setting, find_receipt
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


def paper_of(domain: Domain, case: Case) -> Paper | None:
    """The drawn receipt with its request, if the record holds it; the chain looks at the signature itself."""
    found = find_receipt(domain, case.record, case.drawn.leaf.receipt_digest)
    return None if found is None else Paper(case.record.request, *found)


def remedy_for(setting: Setting, case: Case, verdict: Verdict) -> Remedy | None:
    """None where nothing can be shown to the chain."""
    if (paper := paper_of(setting.domain, case)) is None:
        return None
    if verdict.outcome is Outcome.UNAVAILABLE:
        return _for_silence(setting, case, paper, verdict)
    if verdict.outcome is not Outcome.FAULT:
        return None
    vocab = setting.model.vocab
    receipt, record = paper.receipt, case.record
    tokens = [*record.prompt, *record.generated[: receipt.generated]]
    match verdict.kind:
        case Fault.RECEIPT:
            return ProveShape()
        case Fault.REQUEST if not _may_be_served(setting, paper.request):
            return ProveShape()
        case Fault.REQUEST | Fault.INPUT if (unknown := _first_unknown(tokens, vocab)) is not None:
            return ProveTokens(show_vocabulary(tokens, unknown))
        case Fault.LINK:
            upstream = case.upstream and find_receipt(setting.domain, case.upstream, receipt.upstream)
            return ProveLink(upstream[0]) if upstream else None
        case Fault.PAST_STOP:
            given = tokens[receipt.promptCount :]
            stop = next(at for at, token in enumerate(given) if token in record.request.stopIds)
            return ProveTokens(show_stop_id(given, stop))
        case Fault.INPUT | Fault.OUTPUT | Fault.TOKEN:
            return PlayGame()
    return None


def _for_silence(setting: Setting, case: Case, paper: Paper, verdict: Verdict) -> Remedy | None:
    if verdict.worker != case.drawn.worker:
        return None
    receipt = paper.receipt
    if verdict.kind is Missing.TOKENS:
        return Demand(-(-(receipt.promptCount + receipt.generated) // TOKENS_PER_CHUNK))
    if verdict.kind is Missing.ROWS:
        # Where the upstream worker signed the same root, it may be that one's doing.
        vouched = case.upstream is not None and find_receipt(setting.domain, case.upstream, receipt.upstream)
        return None if vouched else PlayGame()
    return None


def _may_be_served(setting: Setting, request: Request) -> bool:
    try:
        check_request(request, setting.model, request.expiry - 1)
    except RequestError:
        return False
    return True


def _first_unknown(tokens: list[int], vocab: int) -> int | None:
    return next((at for at, token in enumerate(tokens) if token >= vocab), None)
