"""What the game's events say: games and demands, what is frozen for receipts, faults and their pots."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from efedllm.protocol.game import OVER, Phase, Side

BURNED = "0x000000000000000000000000000000000000dEaD"
"""Gets what is burned."""
_PLACE_BITS, _WORKER_SHIFT = 16, 96


class PartKey(NamedTuple):
    """What a claim holds for one receipt."""

    worker: str
    number: int
    entry: int
    receipt_digest: bytes

    def __str__(self) -> str:
        return f"part of claim {self.number} of {self.worker} for receipt 0x{self.receipt_digest.hex()}"


class FaultKey(NamedTuple):
    worker: str
    request_id: bytes

    def __str__(self) -> str:
        return f"fault of {self.worker} in request 0x{self.request_id.hex()}"


class ShareKey(NamedTuple):
    fault: FaultKey
    challenger: str

    def __str__(self) -> str:
        return f"shares of {self.challenger} in the {self.fault}"


@dataclass
class GameState:
    """A game, or a demand while `fee` belongs to it; fields as in `protocol.game.Game`.

    `body_root`, `node`: None while they are not known yet, since the contract then shows what lay there before.
    `deadline`: None where the move in block `moved_in` does not tell it.
    """

    worker: str
    challenger: str
    request_id: bytes
    receipt_digest: bytes
    phase: Phase
    deadline: int | None
    bond: int
    holds: bool
    claim_index: int
    entry: int
    fee: int = 0
    chunk: int = 0
    side: Side = Side.NONE
    body_root: bytes | None = None
    node: bytes | None = None
    height: int = 0
    in_row: bool = False
    path: int = 0
    moved_in: int = 0
    is_counted: bool = False
    """It has its share in the pot."""

    @property
    def part(self) -> PartKey:
        return PartKey(self.worker, self.claim_index, self.entry, self.receipt_digest)

    @property
    def is_open(self) -> bool:
        """Whether its bond is held: an answered demand's is back."""
        return self.phase not in OVER and self.phase is not Phase.ANSWERED


@dataclass
class PartState:
    """`holders`: games that hold it; those that were won stay."""

    holders: int = 0
    frozen: int = 0
    refunded: bool = False


@dataclass
class FaultState:
    """`winners`: shares that are not collected yet. The pot's money is in the ledger."""

    collectable_at: int
    winners: int = 0


@dataclass
class Places:
    """Where a worker's games lie: numbers from 1 on, used again, the one that was left last first."""

    generations: dict[int, int] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)

    def next(self) -> tuple[int, int]:
        """Place and generation of the game that opens next."""
        place = self.free[-1] if self.free else len(self.generations) + 1
        return place, self.generations.get(place, 0) + 1

    def take(self, place: int, generation: int) -> None:
        if self.free and self.free[-1] == place:
            self.free.pop()
        self.generations[place] = generation


@dataclass
class Games:
    """Everything that the game's events say, but for money, which is in the ledger's accounts."""

    games: dict[int, GameState] = field(default_factory=dict)
    places: dict[str, Places] = field(default_factory=lambda: defaultdict(Places))
    open: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Games and demands whose bond is held, by worker."""
    parts: dict[PartKey, PartState] = field(default_factory=lambda: defaultdict(PartState))
    faults: dict[FaultKey, FaultState] = field(default_factory=dict)
    faults_of: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    shares: dict[ShareKey, int] = field(default_factory=lambda: defaultdict(int))
    forced: dict[bytes, int] = field(default_factory=dict)
    """Until when a force-drawn receipt can be opened, unix seconds, by its digest."""

    def is_replaced(self, game_id: int) -> bool:
        """Whether a later game lies in its place."""
        state, (generation, place) = self.games[game_id], place_of(game_id)
        return self.places[state.worker].generations.get(place, 0) > generation


def game_name(game_id: int) -> str:
    return f"game 0x{game_id:064x}"


def game_id_of(worker: str, generation: int, place: int) -> int:
    return int(worker, 16) << _WORKER_SHIFT | generation << _PLACE_BITS | place


def place_of(game_id: int) -> tuple[int, int]:
    """Generation and place that a game's id says."""
    low = game_id & ((1 << _WORKER_SHIFT) - 1)
    return low >> _PLACE_BITS, low & ((1 << _PLACE_BITS) - 1)
