"""What a session is given: a signed request over chosen workers, and how long it waits for what."""

from collections.abc import Sequence
from dataclasses import dataclass

from efedllm.chain.participants import Offer
from efedllm.protocol.objects import Request


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `stall`: without any message; `receipt`: a receipt behind the tokens it is for; `quiet`: after a
    cancellation, until nothing more is expected; `grace`: for failures that explain the first one."""

    connect: float = 10.0
    open: float = 30.0
    stall: float = 120.0
    receipt: float = 30.0
    credit: float = 30.0
    quiet: float = 1.0
    grace: float = 0.5


@dataclass(frozen=True)
class Job:
    """A signed request with everything that goes with it; `offers` are those of its path."""

    request_id: bytes
    request: Request
    signature: bytes
    salt: bytes
    prompt: list[int]
    offers: Sequence[Offer]
    vocab: int
