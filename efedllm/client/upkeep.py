"""What is to be done about a payer's channels between requests: a pure decision.

Money that nobody works for comes back: from channels that were idle for long, and those with workers that are jailed or
gone. Channels in use are kept filled, as far as the budget goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from efedllm.client.network import Top

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Policy:
    """Base units and seconds. `low_water`: a channel with less than this gets `deposit` (default: twice that much);
    None tops up nothing ahead of requests. Channels are closed after `idle_seconds` without a payment, and after
    `gone_seconds` where the worker serves no more."""

    low_water: int | None = None
    deposit: int | None = None
    idle_seconds: int = 30 * DAY_SECONDS
    gone_seconds: int = DAY_SECONDS


@dataclass(frozen=True)
class Standing:
    """One channel. `signed`: base units that vouchers pay; `reserved`: what running requests may cost; `is_active`: the
    worker is staked, not jailed, and offers a service. Times in unix seconds; `closing_at` 0: it is not closing."""

    worker: str
    deposit: int
    claimed: int
    signed: int
    reserved: int
    closing_at: int
    used_at: int
    is_active: bool

    @property
    def left(self) -> int:
        """What would come back if it was closed now."""
        return self.deposit - max(self.signed, self.claimed)


@dataclass(frozen=True)
class Upkeep:
    """What to do now. `short`: base units that the channels in use lack, and the budget does not hold."""

    tops: list[Top] = field(default_factory=list)
    close: list[str] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)
    short: int = 0

    @property
    def is_nothing(self) -> bool:
        return not (self.tops or self.close or self.finish)


def plan_upkeep(channels: Sequence[Standing], policy: Policy, can_spend: int, now: int) -> Upkeep:
    """`can_spend`: base units that may be put into channels now. Those used last are filled first."""
    plan, short = Upkeep(), 0
    for channel in sorted(channels, key=lambda one: (-one.used_at, one.worker)):
        unused = max(now - channel.used_at, 0)  # the chain's clock stands still between blocks, this machine's does not
        if channel.closing_at:
            if channel.closing_at <= now:
                plan.finish.append(channel.worker)
        elif channel.reserved:
            short += _top(plan, channel, policy, can_spend)
        elif unused >= policy.idle_seconds or (not channel.is_active and unused >= policy.gone_seconds):
            if channel.left > 0:  # else closing would only cost
                plan.close.append(channel.worker)
        elif channel.is_active:
            short += _top(plan, channel, policy, can_spend)
    return Upkeep(plan.tops, plan.close, plan.finish, short)


def _top(plan: Upkeep, channel: Standing, policy: Policy, can_spend: int) -> int:
    """Adds a top-up where one is due; what is lacking for it otherwise."""
    free = channel.left - channel.reserved
    if policy.low_water is None or not channel.deposit or free >= policy.low_water:
        return 0
    wanted = 2 * policy.low_water if policy.deposit is None else policy.deposit
    amount = max(wanted, policy.low_water - free)
    if sum(top.amount for top in plan.tops) + amount > can_spend:
        return amount
    plan.tops.append(Top(channel.worker, amount))
    return 0
