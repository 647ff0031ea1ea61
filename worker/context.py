"""What all sessions of a worker share."""

from dataclasses import dataclass

from efedllm.protocol.eip712 import Domain, Signer

from .admission import Offer
from .engine import Engine
from .network import Network
from .store import Store


@dataclass(frozen=True)
class Context:
    """`credit_tokens`: generated tokens that are advanced without a voucher; times in seconds."""

    offer: Offer
    domain: Domain
    engine: Engine
    store: Store
    network: Network
    hot_key: Signer
    hidden: int
    credit_tokens: int
    stall_seconds: float = 60.0
    voucher_seconds: float = 60.0
    link_seconds: float = 15.0
    channel_seconds: float = 5.0
    chain_seconds: float = 5.0
    """How long a question to the chain may take before work goes on without its answer."""
    blind_seconds: float = 600.0
    """How long a channel is served without news of it from the chain."""
    max_sessions: int = 16
    place_seconds: float = 10.0
    """How long a request waits until others of its channel have ended or paid."""
