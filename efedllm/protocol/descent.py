"""The descent of a game: where it is, what has to be shown there, and which child is picked (IDisputeGame).

A side's tree is one over words, the roots of rows or the leaves of tokens. Where words are roots of rows, those rows'
own trees lie below them. All of it follows from counts; hashes come from a `TreeSource` and from what was revealed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.game import ROW_SHIFT, Game, Phase, Side
from efedllm.protocol.merkle import HASH_BYTES, LEAF_BYTES, depth_of, node_hash
from efedllm.protocol.trace import REVEAL_LEVELS, Node, Place, Shape, zero_root

TOKEN_BYTES = 4


class Spot(NamedTuple):
    """Where a descent is: fields of `IDisputeGame.Game`."""

    side: Side
    height: int
    path: int
    in_row: bool = False


class TreeSource(Protocol):
    """A tree whose every node can be asked for: a trace, the input or the output of a shard.

    Nodes are numbered through the roots of rows: below depth d of the words, node `(d + n, word << n | k)` is node k at
    depth n of that word's row.
    """

    def node(self, node: Node) -> bytes:
        """Hash of a node, also where nothing but padding is."""

    def leaf(self, node: Node) -> bytes:
        """Bytes of the leaf that a node is."""


@dataclass(frozen=True)
class Pick:
    """What the challenger shows of the revealed children: the child `digit` with its way up to the node.

    is_row: it is the root of a row, so the descent goes on in the row. is_empty: nothing can be there, so the worker
    has lost.
    """

    digit: int
    child: bytes
    siblings: tuple[bytes, ...]
    is_row: bool
    is_empty: bool


@dataclass(frozen=True)
class Descent:
    """Moves of every game on a receipt of these counts."""

    shape: Shape

    @property
    def is_first(self) -> bool:
        """Whether tokens, not rows, enter the shard."""
        return self.shape.start == 0

    @property
    def is_last(self) -> bool:
        """Whether tokens, not rows, leave the shard."""
        return self.shape.end == self.shape.model.layers

    # ── trees ───────────────────────────────────────────────────────────────

    def words(self, side: Side) -> int:
        """Places for words in a side's tree: in the body also those without a row."""
        match side:
            case Side.INPUT:
                return self.shape.positions
            case Side.BODY:
                return 1 << self.shape.upper_depth
            case Side.OUTPUT:
                return self.shape.generated if self.is_last else self.shape.positions
        raise ProtocolError("a game goes down one of three sides")

    def depth(self, side: Side) -> int:
        """Depth of a side's words below its root."""
        return depth_of(self.words(side))

    def has_rows(self, side: Side) -> bool:
        """Whether the descent goes on below a side's words. An output row is judged by its root."""
        return side is Side.BODY or (side is Side.INPUT and not self.is_first)

    def root(self, side: Side) -> Spot:
        """Where a descent begins. Raises ProtocolError for the output of a last shard that generated nothing."""
        if self.words(side) == 0:
            raise ProtocolError("nothing was generated, so there is no output to go down")
        return Spot(side, self.depth(side), 0)

    def row_leaves(self, side: Side, word: int) -> int:
        """Leaves of the row below a word. Raises ProtocolError where there is no row."""
        if side is Side.BODY and (found := self.shape.find_row(word)) is not None:
            return self.shape.leaves(*found[:2])
        if side is Side.INPUT and not self.is_first and word < self.shape.positions:
            return -(-4 * self.shape.model.hidden // LEAF_BYTES)
        raise ProtocolError(f"there is no row {word} on that side")

    # ── spots ───────────────────────────────────────────────────────────────

    def word(self, spot: Spot) -> int:
        """Number of the word that a spot is at, or in the row of."""
        return spot.path >> ROW_SHIFT if spot.in_row else spot.path << spot.height

    def node(self, spot: Spot) -> Node:
        """The spot's node, numbered as in `TreeSource`."""
        depth = self.depth(spot.side)
        if not spot.in_row:
            return Node(depth - spot.height, spot.path)
        word = self.word(spot)
        below = depth_of(self.row_leaves(spot.side, word)) - spot.height
        return Node(depth + below, word << below | self.leaf_number(spot))

    def is_row_root(self, spot: Spot) -> bool:
        """Whether the spot is a word below which a row lies; the descent goes on there as `enter` says."""
        return spot.height == 0 and not spot.in_row and self.has_rows(spot.side) and not self.is_empty(spot)

    def is_empty(self, spot: Spot) -> bool:
        """Whether nothing can be there: its hash is `zero_root(height)`, or the worker has lost."""
        if spot.in_row:
            return self.leaf_number(spot) << spot.height >= self.row_leaves(spot.side, self.word(spot))
        if spot.side is Side.BODY:
            return self.shape.is_padding(self.node(spot))
        return self.word(spot) >= self.words(spot.side)

    def phase(self, spot: Spot) -> Phase:
        """What comes next where a descent has arrived; PICK at the only node of a side, which is the root of a row."""
        if self.is_empty(spot):
            return Phase.LOST
        if spot.height:
            return Phase.REVEAL
        if self.is_row_root(spot):
            return Phase.PICK
        return Phase.PROOF if spot.side is Side.OUTPUT and not self.is_last else Phase.LEAF

    def child(self, spot: Spot, digit: int) -> Spot:
        """Child `digit` of those that are revealed below a spot; the root of a row is not yet entered."""
        levels = min(REVEAL_LEVELS, spot.height)
        if not 0 <= digit < 1 << levels:
            raise ProtocolError(f"{1 << levels} nodes are revealed there, and none has number {digit}")
        word, at = (self.word(spot), self.leaf_number(spot)) if spot.in_row else (0, spot.path)
        at = at << levels | digit
        path = word << ROW_SHIFT | at if spot.in_row else at
        return Spot(spot.side, spot.height - levels, path, spot.in_row)

    def enter(self, spot: Spot) -> Spot:
        """The same node as the root of its row's tree."""
        word = self.word(spot)
        return Spot(spot.side, depth_of(self.row_leaves(spot.side, word)), word << ROW_SHIFT, True)

    def after(self, spot: Spot, pick: Pick) -> Spot:
        """Where a descent is after a pick."""
        picked = self.child(spot, pick.digit)
        return self.enter(picked) if pick.is_row else picked

    def place(self, spot: Spot) -> Place:
        """The leaf of the trace that a spot of the body is at. Raises ProtocolError if it is not at one."""
        found = self.shape.find_row(self.word(spot)) if spot.side is Side.BODY else None
        if found is None or not spot.in_row or spot.height or self.is_empty(spot):
            raise ProtocolError("the descent has not arrived at a leaf of the trace")
        return Place(*found, self.leaf_number(spot))

    def leaf_bytes(self, spot: Spot) -> int:
        """Length that the leaf at a spot has."""
        if spot.side is Side.BODY:
            segment, tensor, _, leaf = self.place(spot)
            return self.shape.leaf_bytes(segment, tensor, leaf)
        if not spot.in_row:
            return TOKEN_BYTES
        return min(LEAF_BYTES, 4 * self.shape.model.hidden - LEAF_BYTES * self.leaf_number(spot))

    def leaf_number(self, spot: Spot) -> int:
        """Number of a spot in a row among those of its height."""
        return spot.path & ((1 << ROW_SHIFT) - 1)

    # ── how long ────────────────────────────────────────────────────────────

    def longest(self) -> int:
        """Moves of both players in the longest game, each with a deadline of its own: to post the trace, to choose the
        side, a reveal and a pick a round, to reveal the leaf, to prove."""
        shape = self.shape
        tensors = [(at, tensor) for at in range(shape.segments) for tensor in range(shape.tensors(at))]
        rows = max(_rounds(shape.row_depth(*tensor)) for tensor in tensors)
        return 2 + 2 * (_rounds(shape.upper_depth) + rows) + 2


def _rounds(depth: int) -> int:
    return -(-depth // REVEAL_LEVELS)


# ── what players show ───────────────────────────────────────────────────────


def reveal(descent: Descent, spot: Spot, source: TreeSource) -> tuple[bytes, ...]:
    """The worker's answer in phase REVEAL: the nodes below a spot, from left to right."""
    levels = min(REVEAL_LEVELS, spot.height)
    return tuple(source.node(descent.node(descent.child(spot, digit))) for digit in range(1 << levels))


def leaf(descent: Descent, spot: Spot, source: TreeSource) -> bytes:
    """The worker's answer in phase LEAF: the bytes that the game's node is the hash of."""
    return source.leaf(descent.node(spot))


def pick(descent: Descent, spot: Spot, node: bytes, revealed: Sequence[bytes], own: TreeSource) -> Pick | None:
    """The challenger's answer in phase PICK: the first child that is not as in its own tree.

    A child that has to be empty and is not comes before all others: it wins at once. node: the game's. None if no child
    differs: then the two trees are one. Raises ProtocolError for revealed children that do not hash to the node.
    """
    levels = min(REVEAL_LEVELS, spot.height)
    if levels == 0:  # the side is a single row, of which nothing is revealed above its root
        return Pick(0, node, (), is_row=True, is_empty=False)
    tree = _levels(revealed, levels)
    if tree[levels] != [node]:
        raise ProtocolError("the revealed children are not those of the game's node")
    spots = [descent.child(spot, digit) for digit in range(1 << levels)]
    empty = [descent.is_empty(one) for one in spots]
    found = next((at for at in range(1 << levels) if empty[at] and revealed[at] != zero_root(spots[at].height)), None)
    if found is None:
        differs = (at for at, one in enumerate(spots) if not empty[at] and revealed[at] != own.node(descent.node(one)))
        if (found := next(differs, None)) is None:
            return None
    siblings = tuple(tree[level][(found >> level) ^ 1] for level in range(levels))
    return Pick(found, revealed[found], siblings, descent.is_row_root(spots[found]), empty[found])


def _levels(revealed: Sequence[bytes], levels: int) -> list[list[bytes]]:
    """The nodes between what was revealed, at the bottom, and the node above it."""
    if len(revealed) != 1 << levels or any(len(one) != HASH_BYTES for one in revealed):
        raise ProtocolError(f"{len(revealed)} nodes were revealed where {1 << levels} are due")
    tree = [list(revealed)]
    for _ in range(levels):
        below = tree[-1]
        tree.append([node_hash(below[at], below[at + 1]) for at in range(0, len(below), 2)])
    return tree


def spot_of(game: Game) -> Spot:
    """Where the contract says that a descent is."""
    return Spot(game.side, game.height, game.path, game.in_row)
