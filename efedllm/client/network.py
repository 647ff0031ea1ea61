"""What a client needs of the chain: a narrow seam, bound to the contracts in `contracts.py` and replaced in tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from efedllm.chain.participants import Offer
from efedllm.protocol.eip712 import Domain
from efedllm.protocol.model_spec import ModelSpec


@dataclass(frozen=True)
class ChannelState:
    """A channel as the chain has it; `deposit` counts all that was ever put in since `epoch` began, in base units."""

    deposit: int
    claimed: int
    closing: bool
    epoch: int


@dataclass(frozen=True)
class Top:
    """Base units to add to the channel with a worker."""

    worker: str
    amount: int


@dataclass(frozen=True)
class Token:
    """How amounts are written for people: the payment token's symbol and decimals."""

    symbol: str
    decimals: int


class Network(Protocol):
    """One deployment as one payer sees it. Everything awaited raises ChainError when the chain does not answer."""

    @property
    def domain(self) -> Domain:
        """What requests and vouchers are signed for."""

    @property
    def payer(self) -> str:
        """Whose money is spent."""

    @property
    def token(self) -> Token: ...

    async def offers(self) -> Sequence[Offer]:
        """Services of all workers that are registered, staked and not jailed."""

    async def spec(self, model_id: bytes) -> ModelSpec:
        """Raises ModelError if no such model is registered."""

    async def model_names(self) -> dict[bytes, str]:
        """Names of all registered models; several may share one."""

    async def hot_key(self, worker: str) -> str:
        """Address whose signatures count for `worker` now; the zero address if it is not registered."""

    async def channel(self, worker: str, session_key: str) -> ChannelState:
        """The payer's channel with `worker`; all zero if there is none."""

    async def balance(self) -> int:
        """Base units that the payer can put into channels."""

    async def fund(self, session_key: str, tops: Sequence[Top]) -> None:
        """Put money into channels, all in one transaction; returns once it is mined."""
