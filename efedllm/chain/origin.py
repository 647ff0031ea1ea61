"""Where an event stands in the chain, and the base of all events."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Origin:
    """Where an event stands in the chain; origins sort in the order in which things happened."""

    block_number: int
    log_index: int
    block_hash: bytes
    transaction_hash: bytes
    contract: str


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    origin: Origin
