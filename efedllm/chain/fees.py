"""What to offer for gas: pure decisions. All amounts in wei per gas.

A transaction starts with an offer that outlasts several full blocks. One that is not mined for a while is replaced by
the same one with a higher offer, up to a cap that a person sets: a spike of the price costs time and never more money
than that.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """What the chain asks for: the base fee of its newest block, and a tip for a timely one.

    Chains without EIP-1559 have no base fee; their gas price is all tip.
    """

    base_fee: int
    tip: int

    @property
    def total(self) -> int:
        return self.base_fee + self.tip


@dataclass(frozen=True)
class Fees:
    """What a transaction offers: `max_fee` in all, `tip` of it for whoever makes the block."""

    max_fee: int
    tip: int


def first_fees(price: Price, cap: int) -> Fees | None:
    """The first offer, None while gas costs more than `cap`."""
    if price.total > cap:
        return None
    return Fees(min(2 * price.base_fee + price.tip, cap), price.tip)


def replacement_fees(offered: Fees, price: Price, cap: int) -> Fees | None:
    """An offer that replaces `offered` in every node's pool, None where none within `cap` does or would be mined."""
    least = Fees(_raised(offered.max_fee), _raised(offered.tip))
    if least.max_fee > cap or price.total > cap:
        return None
    max_fee = min(max(least.max_fee, 2 * price.base_fee + price.tip), cap)
    return Fees(max_fee, min(max(least.tip, price.tip), max_fee))


def _raised(wei: int) -> int:
    """An eighth more, rounded up: the most that any common node demands of a replacement, which is never nothing."""
    return wei + max(1, -(-wei // 8))
