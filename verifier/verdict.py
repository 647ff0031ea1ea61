"""What can come out of checking a receipt.

A fault follows from signatures and commitments alone, so that nobody between worker and verifier can make an honest
worker look guilty. An answer that does not fit what was signed does not prove who altered it: it counts as not had.
"""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    OK = "ok"
    FAULT = "fault"
    UNAVAILABLE = "unavailable"
    """What it takes to tell could not be had (yet): never fine."""
    NOT_AT_FAULT = "not-at-fault"
    """Its output is wrong because its input was; an earlier worker of the path is at fault."""
    OTHER_MODEL = "other-model"
    """A receipt for a model that this verifier does not hold."""


class Fault(StrEnum):
    REQUEST = "request"
    """Served a request that has to be refused."""
    FOREIGN = "foreign-receipt"
    """Was paid for a receipt that is another worker's, payer's or epoch's."""
    RECEIPT = "receipt"
    """Signed counts or a fee that do not follow from the request."""
    OVERCHARGED = "overcharged"
    """Was paid more than the receipt's fee."""
    INPUT = "input-root"
    """First shard: signed an input root that is not that of its tokens."""
    LINK = "link"
    """Signed a receipt that does not continue the upstream receipt it names."""
    OUTPUT = "output-root"
    """Signed an output root that does not recompute."""
    TOKEN = "token"
    """Last shard: signed a token that the logits and the request's sampling do not give."""
    PAST_STOP = "past-stop"
    """Last shard: went on after a stop id."""


class Missing(StrEnum):
    SEED = "seed"
    """No beacon fixes yet what is drawn; not for the worker to hand out."""
    ANSWER = "no-answer"
    """The worker did not answer, or refused."""
    BOOK = "book"
    """The leaves handed out are not those under the claimed root."""
    RECEIPT = "no-receipt"
    """The record does not hold the receipt that was paid for."""
    RECEIPT_SIGNATURE = "receipt-signature"
    """The receipt is not signed by a key of the worker."""
    REQUEST = "no-request"
    """The request handed out is not the one the receipt names."""
    REQUEST_SIGNATURE = "request-signature"
    """The request is not signed by the channel's session key."""
    TOKENS = "tokens"
    """The tokens handed out do not have the token root that was signed."""
    PROMPT = "prompt"
    """The prompt and salt handed out do not have the prompt root that was signed."""
    ROWS = "rows"
    """The rows handed out are missing, or do not have the input root that was signed."""
    UPSTREAM = "upstream-receipt"
    """The upstream receipt that this one continues could not be had."""


@dataclass(frozen=True)
class Verdict:
    """`worker` is the one named: at fault, or silent; else the receipt's.

    `position`: the first that differs, where that can be told.
    """

    outcome: Outcome
    worker: str
    kind: Fault | Missing | None = None
    reason: str = ""
    position: int | None = None


class Finding(Exception):
    """Ends a check early with its verdict; never leaves `check`."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


def at_fault(worker: str, kind: Fault, reason: object, position: int | None = None) -> Finding:
    return Finding(Verdict(Outcome.FAULT, worker, kind, str(reason), position))


def not_had(worker: str, kind: Missing, reason: object) -> Finding:
    return Finding(Verdict(Outcome.UNAVAILABLE, worker, kind, str(reason)))
