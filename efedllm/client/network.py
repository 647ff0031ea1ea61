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
    unconfirmed: int = 0
    """What was put in so lately that a reorganisation could take it away; not part of `deposit`."""
    closing_at: int = 0
    """Unix seconds from which a closing channel can be ended."""


@dataclass(frozen=True)
class Top:
    """Base units to add to the channel with a worker."""

    worker: str
    amount: int


@dataclass(frozen=True)
class History:
    """What happened to the channels of one session key: all workers that ever had one, and the base units that were put
    into channels and did not come back."""

    workers: tuple[str, ...]
    outlay: int


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

    @property
    def credit_tokens(self) -> int:
        """Generated tokens that a worker advances without a voucher."""

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
        """Put money into channels, all in one transaction; returns once that is confirmed."""

    async def confirmation(self) -> None:
        """Wait until everything that the chain holds now is confirmed. Raises FundingError if that takes too long."""

    async def history(self, session_key: str) -> History:
        """Of all blocks up to the latest."""

    async def close(self, session_key: str, workers: Sequence[str]) -> None:
        """Announce that channels will be ended."""

    async def finish(self, session_key: str, workers: Sequence[str]) -> int:
        """End channels whose time has come; the base units that came back."""

    async def now(self) -> int:
        """Unix seconds as the chain counts them."""
