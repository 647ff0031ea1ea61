"""What the operator of a worker chose."""

from dataclasses import dataclass
from pathlib import Path

from efedllm.chain.amounts import parse_amount
from efedllm.chain.deployment import Deployment

from .collecting import SLOTS, Rules


@dataclass(frozen=True)
class Options:
    """What the operator chose; times in seconds, `max_gas_price` in wei; `end` None: to the last.

    Prices in whole payment tokens as typed, and so is `gas_value`, what one whole coin for gas is worth.
    """

    model: Path
    start: int
    end: int | None
    data_dir: Path
    rpc: str
    deployment: Path | None
    password: str
    host: str
    port: int
    endpoint: str | None
    prompt_price: str
    token_price: str
    backend: str | None
    device: str
    threads: int
    sessions: int
    grace_seconds: float
    claims: bool
    claim_within: int
    gas_value: str
    max_gas_price: int


def rules(options: Options, deployment: Deployment) -> Rules:
    """When to claim and release. Raises AmountError."""
    parameters = deployment.parameters
    delay = parameters.withdrawal_delay_seconds
    return Rules(
        coin_value=parse_amount(options.gas_value, deployment.token_decimals),
        claim_within=options.claim_within,
        close_margin=delay // 2,
        # Half of the ring comes back while the other half fills.
        spacing=parameters.challenge_window_seconds // (SLOTS // 2),
        look_every=max(1, min(60, delay // 5)),
    )
