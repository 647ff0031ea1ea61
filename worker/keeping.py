"""How long a worker keeps what proves its work: until nothing can be asked of it any more.

A receipt can be opened while a claim that pays for it can be challenged, and, drawn or not, once somebody paid for that
within a grace after the request's expiry. Whatever is not paid or claimed yet may be one day, so it is kept. Times are
unix seconds.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Windows:
    """Parameters of the contracts, in seconds; `margin` for clocks of blocks, which only roughly tell the time."""

    challenge_window: int
    force_grace: int
    margin: int = 600


@dataclass(frozen=True)
class Matter:
    """What is known about one request that has ended.

    last_receipt: a receipt was signed, so there is something that could be wrong. settled_at: time of a final block by
    which everything that was signed was claimed, or could not be claimed any more; None as long as that is not so.
    disputed: a game or demand about it is open.
    """

    expiry: int
    has_receipts: bool
    settled_at: int | None
    disputed: bool


def kept_until(windows: Windows, matter: Matter) -> int | None:
    """From when on nothing about it can be opened; None if that cannot be said yet."""
    if not matter.has_receipts:
        return 0
    if matter.disputed or matter.settled_at is None:
        return None
    # Forced in the last moment, it can be opened for as long as a claim made then.
    forced = matter.expiry + windows.force_grace + windows.challenge_window
    claimed = matter.settled_at + windows.challenge_window
    return max(forced, claimed) + windows.margin


def may_go(windows: Windows, matter: Matter, now: int) -> bool:
    until = kept_until(windows, matter)
    return until is not None and now > until


def waits_until(windows: Windows, now: int) -> int:
    """Requests whose expiry is not before this have to be kept anyway, so nobody needs to look at them."""
    return now - windows.force_grace - windows.challenge_window - windows.margin


def is_settled(last_is_paid: bool, reach: int, claimed: int, is_past: bool) -> bool:
    """Whether no future claim can pay for the request, all figures of its channel as of a final block.

    last_is_paid: a voucher pays for its last receipt. reach: up to which total vouchers speak of it; claimed: the
    channel's. is_past: the channel has left the request's epoch, so that vouchers of it bring nothing any more.
    """
    return is_past or (last_is_paid and claimed >= reach)
