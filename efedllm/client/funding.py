"""How much goes into which channel before a request: a pure decision."""

from collections.abc import Sequence
from dataclasses import dataclass

from efedllm.client.errors import FundingError
from efedllm.client.network import Top

REQUESTS_AHEAD = 8
"""Without a deposit of the user's choice, a channel that lacks money gets enough for this many such requests."""
MAX_DEPOSIT = (1 << 96) - 1


@dataclass(frozen=True)
class Need:
    """What a request can cost at one worker, and what its channel still has for it; base units."""

    worker: str
    ceiling: int
    free: int


def plan(needs: Sequence[Need], deposit: int | None, budget: int, symbol: str = "base units") -> list[Top]:
    """What to add to which channel so that every one carries the request: nothing where it does already.

    `deposit` is what a channel gets that has to be filled (default: REQUESTS_AHEAD times this request), or more where
    the request needs more. `budget` is the most that may be spent now: where it is short of the sum, every channel gets
    only what is missing. Raises FundingError if not even that fits.
    """
    short = [need for need in needs if need.free < need.ceiling]
    missing = sum(need.ceiling - need.free for need in short)
    if missing > budget:
        raise FundingError(
            f"the channels need {missing} base units for this request, and {budget} can be spent: "
            f"get more {symbol}, ask for fewer tokens, or raise the limit"
        )
    wanted = [
        Top(need.worker, max(need.ceiling - need.free, need.ceiling * REQUESTS_AHEAD if deposit is None else deposit))
        for need in short
    ]
    if sum(top.amount for top in wanted) > budget:
        wanted = [Top(need.worker, need.ceiling - need.free) for need in short]
    for top in wanted:
        if top.amount > MAX_DEPOSIT:
            raise FundingError(f"worker {top.worker} asks more than any channel can hold: choose another model or path")
    return wanted
