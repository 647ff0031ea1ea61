"""What `DisputeGame` tells. Fields are those of the Solidity event, in its order; amounts in base units."""

from dataclasses import dataclass

from efedllm.chain.origin import Event
from efedllm.protocol.game import Phase, Side


@dataclass(frozen=True)
class Opened(Event):
    game_id: int
    worker: str
    challenger: str
    request_id: bytes
    receipt_digest: bytes
    bond: int
    holds: bool
    claim_index: int
    entry: int
    frozen: int
    deadline: int


@dataclass(frozen=True)
class TracePosted(Event):
    game_id: int
    body_root: bytes
    deadline: int


@dataclass(frozen=True)
class SideChosen(Event):
    game_id: int
    side: Side
    node: bytes
    height: int
    phase: Phase
    deadline: int


@dataclass(frozen=True)
class Revealed(Event):
    game_id: int
    children: tuple[bytes, ...]


@dataclass(frozen=True)
class Picked(Event):
    game_id: int
    digit: int
    node: bytes
    path: int
    height: int
    in_row: bool
    phase: Phase


@dataclass(frozen=True)
class LeafRevealed(Event):
    game_id: int
    leaf: bytes
    deadline: int


@dataclass(frozen=True)
class Ended(Event):
    """The end of a game or a demand, and where bond and fee went. `outcome`: WORKER_WON or CHALLENGER_WON."""

    game_id: int
    worker: str
    challenger: str
    outcome: Phase
    to_challenger: int
    to_worker: int
    burned: int
    unfrozen: int


@dataclass(frozen=True)
class ForceDrawn(Event):
    worker: str
    request_id: bytes
    receipt_digest: bytes
    by: str
    fee: int
    open_until: int


@dataclass(frozen=True)
class Demanded(Event):
    game_id: int
    worker: str
    challenger: str
    request_id: bytes
    receipt_digest: bytes
    chunk: int
    bond: int
    fee: int
    holds: bool
    claim_index: int
    entry: int
    frozen: int
    deadline: int


@dataclass(frozen=True)
class Answered(Event):
    """`tokens`: four bytes each, little-endian. The receipt can be opened until `open_until`."""

    game_id: int
    tokens: bytes
    bond: int
    fee: int
    open_until: int


@dataclass(frozen=True)
class Proven(Event):
    """`number` is 1 for the worker's first fault."""

    worker: str
    request_id: bytes
    number: int
    collectable_at: int


@dataclass(frozen=True)
class Won(Event):
    """One more share in a fault's pot. `game_id` is 0 for statements, which need no game."""

    worker: str
    request_id: bytes
    challenger: str
    game_id: int


@dataclass(frozen=True)
class Divided(Event):
    worker: str
    request_id: bytes
    amount: int
    pot: int
    pool: int
    burned: int


@dataclass(frozen=True)
class Collected(Event):
    worker: str
    request_id: bytes
    challenger: str
    amount: int


@dataclass(frozen=True)
class Refunded(Event):
    worker: str
    request_id: bytes
    payer: str
    receipt_digest: bytes
    claim_index: int
    entry: int
    amount: int
    unfrozen: int


@dataclass(frozen=True)
class Owed(Event):
    """The token refused to send this to `account`, for which it waits."""

    account: str
    amount: int


@dataclass(frozen=True)
class OwedPaid(Event):
    account: str
    amount: int


GAME_EVENTS: tuple[type[Event], ...] = (
    Opened, TracePosted, SideChosen, Revealed, Picked, LeafRevealed, Ended, ForceDrawn, Demanded, Answered, Proven,
    Won, Divided, Collected, Refunded, Owed, OwedPaid,
)  # fmt: skip
