"""Numbers of a new deployment: one set for a network of strangers, a short one for a local chain. Times in seconds."""

from dataclasses import dataclass

_HOUR = 3600
_DAY = 24 * _HOUR


@dataclass(frozen=True)
class Preset:
    """Defaults of the options of `efedllm deploy`; amounts in whole tokens.

    The game's constructor demands of `unbonding` that it is longer than force grace, challenge window, one move, demand
    grace, the longest game (34 moves) and the margin (at least 12 moves) together.
    """

    challenge_window: int
    withdrawal_delay: int
    unbonding: int
    hot_key_delay: int
    stake_multiple: int
    beacon_delay: int
    beacon_spacing: int
    minimum_rate_bps: int
    challenger_share_bps: int
    pool_share_bps: int
    first_slash: str
    first_slash_bps: int
    move_deadline: int
    demand_grace: int
    force_grace: int
    margin: int
    base_bond: str
    force_fee: str
    demand_fee: str
    credit_tokens: int
    confirmations: int


NETWORK = Preset(
    challenge_window=_DAY,
    withdrawal_delay=36 * _HOUR,
    unbonding=14 * _DAY,
    hot_key_delay=_DAY,
    stake_multiple=10,
    beacon_delay=4,
    beacon_spacing=16,
    minimum_rate_bps=100,
    challenger_share_bps=4_000,
    pool_share_bps=1_000,
    first_slash="1000",
    first_slash_bps=1_000,
    move_deadline=4 * _HOUR,
    demand_grace=_DAY,
    force_grace=_DAY,
    margin=2 * _DAY,
    base_bond="10",
    force_fee="1",
    demand_fee="1",
    credit_tokens=32,
    confirmations=12,
)

# Every claim is drawn, so that a cheat is seen at once, and nothing on the way to a payment takes longer than a person
# waits. A move has the time that a busy machine needs for it; how long stake unbonds follows from that.
LOCAL = Preset(
    challenge_window=5,
    withdrawal_delay=10,
    unbonding=900,
    hot_key_delay=2,
    stake_multiple=10,
    beacon_delay=1,
    beacon_spacing=1,
    minimum_rate_bps=10_000,
    challenger_share_bps=4_000,
    pool_share_bps=1_000,
    first_slash="1000",
    first_slash_bps=1_000,
    move_deadline=15,
    demand_grace=30,
    force_grace=30,
    margin=180,
    base_bond="10",
    force_fee="1",
    demand_fee="1",
    credit_tokens=32,
    confirmations=0,
)
