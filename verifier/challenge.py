"""What to do next about a fault: a function of what is known of it and of what the chain says at its newest block.

Nothing here depends on what this program did before: a verifier that is killed between any two moves decides the same
when it starts again, and so does one whose blocks were replaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from efedllm.chain.dispute_game import Fault
from efedllm.protocol.game import OVER, WORKER_MOVES, Game, Phase

from .remedy import Demand, PlayGame, Remedy


class Move(Enum):
    """What there is to send."""

    STATE = "state"
    OPEN = "open"
    DEMAND = "demand"
    CHOOSE_SIDE = "choose-side"
    PICK = "pick"
    PROVE = "prove"
    TIMEOUT = "timeout"
    REFUND = "refund"
    COLLECT = "collect"


@dataclass(frozen=True)
class Wait:
    """Nothing to send now. `until`: unix seconds, None where only other people's doing changes anything."""

    why: str
    until: int | None = None


@dataclass(frozen=True)
class Over:
    """Nothing to do any more, as far as this receipt goes."""

    why: str
    is_won: bool = False


Action = Move | Wait | Over


@dataclass(frozen=True)
class Standing:
    """What the chain says, of one receipt and of one's own game on it.

    now: seconds, of the newest block. clock: the same by the clock, where no block came for a while. games: those of
    one's own on the receipt, oldest first, as far as the contract still knows them. open_until: when the receipt can no
    longer be disputed; 0 while its claim is not there. bond, fee: base units that a game costs until it is won, and a
    demand on top until it is unanswered; spendable: what there is for that. has_lost: a game, not a demand.
    next_chunk: first group of tokens that no demand asked for yet.
    """

    now: int
    clock: int
    fault: Fault
    shares: int
    games: tuple[Game, ...]
    open_until: int
    is_refundable: bool
    bond: int
    spendable: int
    fee: int = 0
    has_lost: bool = False
    is_drawn: bool = True
    next_chunk: int = 0

    @property
    def is_proven(self) -> bool:
        return self.fault.proven_at != 0


def live_game(games: Sequence[Game]) -> Game | None:
    """The game that has moves left; there is at most one at a time."""
    return next((one for one in reversed(games) if one.phase not in OVER and one.phase is not Phase.ANSWERED), None)


def decide(remedy: Remedy | None, standing: Standing) -> Action:
    if (game := live_game(standing.games)) is not None:
        return _play(game, standing)
    if standing.is_proven:
        return _settle(standing)
    answered = next((one for one in standing.games if one.phase is Phase.ANSWERED), None)
    if answered is not None and standing.now > answered.deadline:
        return Move.TIMEOUT
    if remedy is None:
        return Over("the chain cannot judge this")
    if not isinstance(remedy, PlayGame | Demand):
        return Move.STATE
    if standing.has_lost:
        return Over("a game on this receipt was lost")
    if standing.open_until and standing.now > standing.open_until:
        return Over("too late: the receipt can no longer be disputed")
    if not standing.is_drawn or not standing.open_until:
        return Wait("its claim is not on the chain (any more)")
    if isinstance(remedy, Demand) and standing.next_chunk >= remedy.chunks:
        return Wait("all its tokens were published: they are looked at next")
    cost = standing.bond + (standing.fee if isinstance(remedy, Demand) else 0)
    if cost > standing.spendable:
        return Wait(f"a bond of {cost} base units is more than the {standing.spendable} there are for it")
    return Move.DEMAND if isinstance(remedy, Demand) else Move.OPEN


def _play(game: Game, standing: Standing) -> Action:
    if game.phase is Phase.LOST:
        return Move.TIMEOUT
    if game.phase in WORKER_MOVES:
        is_late = max(standing.now, standing.clock) > game.deadline
        return Move.TIMEOUT if is_late else Wait("the worker is to move", game.deadline)
    if standing.now > game.deadline:
        return Wait("the deadline for a move of ours has passed")
    return {Phase.SIDE: Move.CHOOSE_SIDE, Phase.PICK: Move.PICK, Phase.PROOF: Move.PROVE}[game.phase]


def _settle(standing: Standing) -> Action:
    """The client's money first: it is waiting for nobody."""
    if standing.is_refundable:
        return Move.REFUND
    if not standing.shares:
        return Over("proven", is_won=True)
    if max(standing.now, standing.clock) < standing.fault.collectable_at:
        return Wait("other games may still share in the pot", standing.fault.collectable_at)
    return Move.COLLECT
