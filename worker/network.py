"""What a worker needs to know of the chain while it serves: a narrow seam, bound to the contracts in `contracts.py`."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ChannelState:
    """A channel as the chain has it; amounts in base units.

    `deposit` is what no reorganisation can take away any more, `unconfirmed` what was put in after that.
    """

    deposit: int
    claimed: int
    closing: bool
    epoch: int
    unconfirmed: int = 0


class Network(Protocol):
    """Reads only. Raises ChainError when the chain cannot be reached."""

    async def channel(self, payer: str, session_key: str) -> ChannelState:
        """The channel from `payer` to this worker; deposit 0 if there is none."""

    async def hot_key(self, worker: str) -> str:
        """Address whose signatures count for `worker` now; the zero address if it is not registered."""

    async def was_own_key(self, key: str) -> bool:
        """Whether signatures of `key` counted for this worker at any time."""

    async def endpoint(self, worker: str) -> str:
        """URL of a worker's service. Raises WorkerError if it offers none."""

    async def is_verifier_key(self, verifier: str, key: str) -> bool:
        """Whether `verifier` is registered as one and `key` signs for it."""
