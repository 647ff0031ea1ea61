"""When a worker goes to the chain for its money: decisions from what it holds, what gas costs and the room there is.

Amounts in base units of the payment token, times in unix seconds. Whoever performs a decision reads everything again
before the next one, so nothing here remembers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SLOTS = 64
"""Claims that may wait for their release at a time: the ring in `Channels`."""
RESERVE = SLOTS // 4
"""Slots kept for channels that are closing; only claims that pay well get any of them."""
BATCH = 100
"""Vouchers in a claim: beyond that a voucher gets hardly cheaper."""
PAYS = 20
"""A claim pays well when it brings this many times what its gas costs: 5 % of the value."""

# Measured (benchmarks/results/gas.json), the dearer case of each: a slot of the ring that was never used.
CLAIM_GAS = 80_000
VOUCHER_GAS = 12_000
RELEASE_GAS = 55_000

WEI_PER_COIN = 10**18


@dataclass(frozen=True)
class Rules:
    """What does not change while a worker runs."""

    coin_value: int
    """Base units that one whole coin of the chain (10**18 wei), in which gas is paid, is worth to the operator."""
    claim_within: int
    """Seconds that a voucher may wait for a claim which pays well; after that a claim has to be worth its gas only."""
    close_margin: int
    """Seconds before the payer of a closing channel can take the deposit back: the latest time of its claim."""
    spacing: int
    """Seconds between claims that could wait, so that the slots they take come back before others are needed."""
    look_every: int
    """Seconds until everything is looked at again, at the latest."""


@dataclass(frozen=True)
class Credit:
    """A voucher that would move `value` from a channel's deposit to this worker. `number` is the caller's for it."""

    number: int
    value: int
    closing_at: int
    """From when on the payer may take back what is not claimed; 0 while the channel is not closing."""
    since: int
    """When the oldest voucher was taken that is not claimed yet."""


@dataclass(frozen=True)
class Pending:
    """A claim that waits for its release, which succeeds from `releasable_at` on."""

    index: int
    amount: int
    releasable_at: int


@dataclass(frozen=True)
class Situation:
    """The worker's money at one moment."""

    credits: Sequence[Credit]
    pending: Sequence[Pending]
    last_claim_at: int
    gas_price_wei: int
    now: int


@dataclass(frozen=True)
class Claim:
    """Send the vouchers of these numbers in one transaction, then look again. `amount` is what they bring together."""

    numbers: tuple[int, ...]
    amount: int


@dataclass(frozen=True)
class Release:
    """Turn these claims into earnings, one transaction each, then look again."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Wait:
    """Nothing is worth its gas before `until`, as things stand."""

    until: int


Decision = Claim | Release | Wait


def gas_cost(rules: Rules, gas_price_wei: int, gas: int) -> int:
    """Base units that this much gas is worth, rounded up."""
    return -(-gas * gas_price_wei * rules.coin_value // WEI_PER_COIN)


def claim_cost(rules: Rules, gas_price_wei: int, count: int) -> int:
    """Base units for claiming `count` vouchers at once and releasing the claim later."""
    return gas_cost(rules, gas_price_wei, CLAIM_GAS + RELEASE_GAS + count * VOUCHER_GAS)


def decide(rules: Rules, situation: Situation) -> Decision:
    """The next thing to do. Claims come first: a release never becomes impossible, a claim does."""
    return _claim(rules, situation) or _release(rules, situation) or Wait(_next_look(rules, situation))


def _claim(rules: Rules, situation: Situation) -> Claim | None:
    """At once if it pays well; if it is worth its gas, once it is old or its channel is about to be emptied."""
    now, room = situation.now, SLOTS - len(situation.pending)
    if room <= 0:
        return None
    dust = gas_cost(rules, situation.gas_price_wei, VOUCHER_GAS)
    worth = [credit for credit in situation.credits if credit.value > dust]
    last_call = [credit for credit in worth if credit.closing_at and now >= credit.closing_at - rules.close_margin]
    old = [credit for credit in worth if now - credit.since >= rules.claim_within]
    good = [credit for credit in worth if credit.value >= PAYS * dust]
    may_wait_no_more = any(credit.closing_at for credit in good) or now >= situation.last_claim_at + rules.spacing
    free = room > RESERVE and may_wait_no_more
    for wanted, others, times, allowed in (
        # Whoever opens many small channels and closes them one by one must not be able to fill the ring with them.
        (last_call, [*old, *good], 1 if room > RESERVE else PAYS, True),
        (good, [], PAYS, free),
        (old, good, 1, free),
    ):
        if not (allowed and wanted):
            continue
        batch = _batch(wanted, others)
        amount = sum(credit.value for credit in batch)
        cost = claim_cost(rules, situation.gas_price_wei, len(batch))
        if amount > cost and amount >= times * cost:
            return Claim(tuple(credit.number for credit in batch), amount)
    return None


def _batch(wanted: Iterable[Credit], others: Iterable[Credit]) -> list[Credit]:
    """What is wanted, the largest first, and what may come along as far as there is room; nothing twice."""
    ordered = [*sorted(wanted, key=_by_value), *sorted(others, key=_by_value)]
    return list({credit.number: credit for credit in ordered}.values())[:BATCH]


def _by_value(credit: Credit) -> tuple[int, int]:
    return -credit.value, credit.number


def _release(rules: Rules, situation: Situation) -> Release | None:
    """Whatever can be released and is worth it; anything, when slots are short and vouchers wait for one."""
    cost = gas_cost(rules, situation.gas_price_wei, RELEASE_GAS)
    is_short = SLOTS - len(situation.pending) <= RESERVE and any(credit.value > cost for credit in situation.credits)
    ready = [
        claim.index
        for claim in situation.pending
        if claim.releasable_at <= situation.now and (claim.amount > cost or is_short)
    ]
    return Release(tuple(sorted(ready))) if ready else None


def _next_look(rules: Rules, situation: Situation) -> int:
    """When a decision may come out otherwise without anything new: a time of the chain's, or the regular look."""
    now = situation.now
    times = [
        now + rules.look_every,
        situation.last_claim_at + rules.spacing,
        *(credit.closing_at - rules.close_margin for credit in situation.credits if credit.closing_at),
        *(credit.since + rules.claim_within for credit in situation.credits),
        *(claim.releasable_at for claim in situation.pending),
    ]
    return min(time for time in times if time > now)
