"""Numbers of a new deployment: one set for a network of strangers, a short one for a local chain. Times in seconds."""

from dataclasses import dataclass

_HOUR = 3600
_DAY = 24 * _HOUR


@dataclass(frozen=True)
class Preset:
    """Defaults of the options of `efedllm deploy`; `first_slash` in whole tokens."""

    challenge_window: int
    withdrawal_delay: int
    unbonding: int
    hot_key_delay: int
    stake_multiple: int
    beacon_delay: int
    beacon_spacing: int
    minimum_rate_bps: int
    challenger_share_bps: int
    first_slash: str
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
    first_slash="1000",
    credit_tokens=32,
    confirmations=12,
)

# Every claim is drawn, so that a cheat is seen at once; nothing has to be waited for longer than a person would.
LOCAL = Preset(
    challenge_window=5,
    withdrawal_delay=10,
    unbonding=20,
    hot_key_delay=2,
    stake_multiple=10,
    beacon_delay=1,
    beacon_spacing=1,
    minimum_rate_bps=10_000,
    challenger_share_bps=4_000,
    first_slash="1000",
    credit_tokens=32,
    confirmations=0,
)
