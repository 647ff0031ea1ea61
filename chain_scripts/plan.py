"""The contracts of a new network: what they are created with, and in which order."""

from dataclasses import dataclass
from typing import Self

from efedllm.chain.amounts import parse_amount
from efedllm.chain.deployment import Contracts, Disputes, Parameters
from efedllm.protocol.values import ZERO_ADDRESS

from .creation import Creator
from .presets import Preset

JUDGES = ("PaperJudge", "StatementJudge", "TraceJudge")


@dataclass(frozen=True)
class Plan:
    """Amounts in base units. `token`: an ERC-20 that is there already, None for a new one of `supply`."""

    parameters: Parameters
    disputes: Disputes
    token: str | None
    supply: int
    fee_recipient: str
    reward_pool: str
    has_disputes: bool

    @classmethod
    def of(
        cls,
        preset: Preset,
        decimals: int,
        *,
        token: str | None,
        supply: int,
        fee_bps: int,
        fee_recipient: str,
        reward_pool: str,
        has_disputes: bool,
    ) -> Self:
        """Raises ChainError for an amount of the preset that is none."""
        parameters = Parameters(
            challenge_window_seconds=preset.challenge_window,
            withdrawal_delay_seconds=preset.withdrawal_delay,
            unbonding_seconds=preset.unbonding,
            hot_key_delay_seconds=preset.hot_key_delay,
            stake_multiple=preset.stake_multiple,
            protocol_fee_bps=fee_bps,
            beacon_delay_blocks=preset.beacon_delay,
            beacon_spacing_blocks=preset.beacon_spacing,
            minimum_rate_bps=preset.minimum_rate_bps,
            challenger_share_bps=preset.challenger_share_bps,
            first_slash=parse_amount(preset.first_slash, decimals),
            credit_tokens=preset.credit_tokens,
            confirmations=preset.confirmations,
        )
        disputes = Disputes(
            move_deadline_seconds=preset.move_deadline,
            demand_grace_seconds=preset.demand_grace,
            force_grace_seconds=preset.force_grace,
            margin_seconds=preset.margin,
            first_slash_bps=preset.first_slash_bps,
            pool_share_bps=preset.pool_share_bps,
            base_bond=parse_amount(preset.base_bond, decimals),
            force_fee=parse_amount(preset.force_fee, decimals),
            demand_fee=parse_amount(preset.demand_fee, decimals),
        )
        return cls(
            parameters=parameters,
            disputes=disputes if has_disputes else Disputes(),
            token=token,
            supply=supply,
            fee_recipient=fee_recipient,
            reward_pool=reward_pool,
            has_disputes=has_disputes,
        )


async def create(plan: Plan, creator: Creator) -> Contracts:
    """All of them. Raises Reverted if a constructor refuses its arguments, DeploymentError if the account of `creator`
    is used elsewhere meanwhile."""
    numbers = plan.parameters
    alone: list[tuple[str, tuple[object, ...]]] = [
        ("ModelRegistry", ()),
        ("Beacon", (numbers.beacon_delay_blocks, numbers.beacon_spacing_blocks)),
    ]
    if plan.token is None:
        alone.insert(0, ("WorkToken", (creator.address, plan.supply)))
    if plan.has_disputes:
        alone += [(name, ()) for name in (*JUDGES, "AttentionVerifier", "SamplingVerifier")]
    found = dict(zip((name for name, _ in alone), await creator.create_all(alone), strict=True))
    token = plan.token or found["WorkToken"]
    # StakeRegistry, Channels and the game know each other for good, so the addresses of the later ones have to be known
    # before they exist.
    judge = [("StepVerifier", (found["AttentionVerifier"], found["SamplingVerifier"]))] if plan.has_disputes else []
    channels = await creator.address_after(len(judge) + 1)
    game = await creator.address_after(len(judge) + 2) if plan.has_disputes else ZERO_ADDRESS
    periods = (numbers.unbonding_seconds, numbers.hot_key_delay_seconds)
    registry = ("StakeRegistry", ((token, found["ModelRegistry"], channels, game, *periods),))
    *made, stakes = await creator.create_all([*judge, registry])
    created = await creator.create(
        "Channels",
        (
            stakes,
            plan.fee_recipient,
            numbers.protocol_fee_bps,
            numbers.challenge_window_seconds,
            numbers.withdrawal_delay_seconds,
            numbers.stake_multiple,
        ),
    )
    creator.check_address("Channels", created, channels)
    if plan.has_disputes:
        judges = [found[name] for name in JUDGES]
        created = await creator.create("DisputeGame", _game_arguments(plan, stakes, found["Beacon"], judges))
        creator.check_address("DisputeGame", created, game)
    step_verifier = made[0] if made else ZERO_ADDRESS
    return Contracts(token, found["ModelRegistry"], stakes, channels, found["Beacon"], game, step_verifier)


def _game_arguments(plan: Plan, stakes: str, beacon: str, judges: list[str]) -> tuple[object, ...]:
    """`IDisputeGame.Parameters`, in its order."""
    numbers, disputes = plan.parameters, plan.disputes
    return (
        stakes,
        beacon,
        *judges,
        plan.reward_pool,
        disputes.move_deadline_seconds,
        disputes.demand_grace_seconds,
        disputes.force_grace_seconds,
        disputes.margin_seconds,
        numbers.first_slash,
        disputes.first_slash_bps,
        numbers.challenger_share_bps,
        disputes.pool_share_bps,
        numbers.minimum_rate_bps,
        disputes.base_bond,
        disputes.force_fee,
        disputes.demand_fee,
    )
