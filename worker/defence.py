"""What a worker does in the games against it: decisions from games as the contract has them and from what it keeps.

Nothing here remembers anything, so whoever performs a decision reads the game again before the next one, and a kill
between any two moves changes nothing. Times are unix seconds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from efedllm.protocol.descent import Descent, Spot, TreeSource, reveal
from efedllm.protocol.game import CHALLENGER_MOVES, OVER, TOKENS_PER_CHUNK, WORKER_MOVES, Game, Paper, Phase, Side
from efedllm.protocol.hash_tree import HashTree, siblings
from efedllm.protocol.merkle import depth_of, token_leaf
from efedllm.protocol.objects import Receipt
from efedllm.protocol.trace import Node


class Source(TreeSource, Protocol):
    """One side of a game: a trace, or what entered or left the shard."""

    def leaf(self, node: Node) -> bytes:
        """Bytes of the leaf that a node is."""


@dataclass(frozen=True)
class Facing:
    """A game or a demand against this worker."""

    game_id: int
    game: Game


# ── whose turn it is ────────────────────────────────────────────────────────


class Due(Enum):
    """What there is to do in a game."""

    SHOW = "show"  # a move that needs the trace
    ANSWER = "answer"  # the token ids of a demand
    END = "end"  # nobody else can move any more: `timeout` ends it in this worker's favour
    WAIT = "wait"  # for the challenger, until the deadline
    LATE = "late"  # this worker's own deadline is over
    NONE = "none"


def due(game: Game, newest: int, now: int) -> Due:
    """newest: time of the newest block; now: the earliest time that the next block can have, as far as is known."""
    if game.phase in WORKER_MOVES:
        # Only a block can say that it is too late: a clock here may be wrong.
        if newest > game.deadline:
            return Due.LATE
        return Due.ANSWER if game.phase is Phase.DEMAND else Due.SHOW
    if game.phase in CHALLENGER_MOVES or game.phase is Phase.ANSWERED:
        return Due.END if now > game.deadline else Due.WAIT
    assert game.phase in OVER or game.phase is Phase.LOST
    return Due.NONE


def agenda(games: Iterable[Facing], newest: int, now: int) -> list[tuple[Facing, Due]]:
    """Everything that can be done now: this worker's moves with the nearest deadline first, then games to end."""
    found = [(facing, what) for facing in games if (what := due(facing.game, newest, now)) not in _IDLE]
    return sorted(found, key=lambda one: (one[1] is Due.END, one[0].game.deadline, one[0].game_id))


_IDLE = (Due.WAIT, Due.LATE, Due.NONE)


def next_time(games: Iterable[Facing], newest: int, now: int) -> int | None:
    """When waiting for a challenger ends; None if nobody is waited for."""
    times = [facing.game.deadline + 1 for facing in games if due(facing.game, newest, now) is Due.WAIT]
    return min(times, default=None)


# ── moves ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class PostTrace:
    body_root: bytes


@dataclass(frozen=True)
class Reveal:
    children: tuple[bytes, ...]


@dataclass(frozen=True)
class RevealLeaf:
    leaf: bytes


@dataclass(frozen=True)
class AnswerDemand:
    """`tokens`: four bytes each, little-endian."""

    tokens: bytes
    siblings: tuple[bytes, ...]


@dataclass(frozen=True)
class Concede:
    """There is no move that the contract would take, or none that does not lose."""

    reason: str


Move = PostTrace | Reveal | RevealLeaf | AnswerDemand | Concede


@dataclass(frozen=True)
class Exhibit:
    """All that games about one receipt may ask for: its computation, from what was kept of its inputs. `close` lets go
    of what it takes on disk."""

    paper: Paper
    descent: Descent
    sources: Mapping[Side, Source]
    body_root: bytes
    input_root: bytes
    output_root: bytes
    close: Callable[[], None] = lambda: None

    @property
    def objection(self) -> str | None:
        """Why it does not stand behind the receipt: what was signed is not what is computed now."""
        receipt = self.paper.receipt
        if self.input_root != receipt.inputRoot:
            return f"the inputs kept have the root 0x{self.input_root.hex()}, signed was 0x{receipt.inputRoot.hex()}"
        if self.output_root != receipt.outputRoot:
            return (
                f"computing it again gives the output root 0x{self.output_root.hex()}, signed was"
                f" 0x{receipt.outputRoot.hex()}: a bit flipped in this machine then or now, or its program was changed"
            )
        return None


def show(game: Game, exhibit: Exhibit) -> Move:
    """The move in a game that is due to SHOW."""
    if (objection := exhibit.objection) is not None:
        return Concede(objection)
    if game.phase is Phase.TRACE:
        return PostTrace(exhibit.body_root)
    if game.side is Side.BODY and game.body_root != exhibit.body_root:
        return Concede(
            f"the trace posted has the root 0x{game.body_root.hex()}, computing it again gives"
            f" 0x{exhibit.body_root.hex()}"
        )
    source, spot = exhibit.sources[game.side], Spot(game.side, game.height, game.path, game.in_row)
    if game.phase is Phase.REVEAL:
        return Reveal(reveal(exhibit.descent, spot, source))
    return RevealLeaf(source.leaf(exhibit.descent.node(spot)))


def answer(receipt: Receipt, chunk: int, tokens: Sequence[int]) -> Move:
    """The move in a demand. tokens: prompt and answer, at least those that the receipt speaks of."""
    count = receipt.promptCount + receipt.generated
    shown = tokens[:count]
    tree = HashTree([token_leaf(token) for token in shown])
    if len(shown) < count or tree.root != receipt.tokenRoot:
        return Concede("the token ids kept are not those of the receipt")
    wanted = shown[chunk * TOKENS_PER_CHUNK : (chunk + 1) * TOKENS_PER_CHUNK]
    if not wanted:
        return Concede(f"the receipt has no token ids in chunk {chunk}")
    height = min(depth_of(TOKENS_PER_CHUNK), tree.depth)
    above = siblings(tree.node, Node(tree.depth - height, chunk))
    return AnswerDemand(b"".join(token.to_bytes(4, "little") for token in wanted), above)
