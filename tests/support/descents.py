"""Made-up trees of a game's sides, and a whole descent between two of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from efedllm.protocol.descent import Descent, Pick, Spot, pick, reveal
from efedllm.protocol.game import Phase, Side
from efedllm.protocol.merkle import depth_of, leaf_hash, node_hash
from efedllm.protocol.trace import Node, zero_root

Altered = tuple[int, int]
"""Number of a word, and of a leaf in its row; 0 where a word is no row."""


@dataclass
class MadeUp:
    """A side whose leaves follow from their places; those in `altered` are others, and so are words in `planted`."""

    descent: Descent
    side: Side
    altered: frozenset[Altered] = frozenset()
    planted: dict[Node, bytes] = field(default_factory=dict)
    _known: dict[Node, bytes] = field(default_factory=dict)

    def node(self, node: Node) -> bytes:
        if (known := self._known.get(node)) is None:
            known = self._known[node] = self._make(node)
        return known

    def leaf(self, node: Node) -> bytes:
        word, at, _ = self._split(node)
        spot = self._spot(node)
        length = self.descent.leaf_bytes(spot)
        seed = sha256(f"{self.side} {word} {at} {(word, at) in self.altered}".encode()).digest()
        return (seed * (length // 32 + 1))[:length]

    def _split(self, node: Node) -> tuple[int, int, int]:
        """Word, number in its row, and depth below the word's root (negative: above words)."""
        below = node.depth - self.descent.depth(self.side)
        if below < 0:
            return node.path << -below, 0, below
        return node.path >> below, node.path & ((1 << below) - 1), below

    def _spot(self, node: Node) -> Spot:
        word, at, below = self._split(node)
        if below < 0:
            return Spot(self.side, -below, node.path)
        if not self.descent.has_rows(self.side):
            return Spot(self.side, 0, word)
        return Spot(self.side, depth_of(self.descent.row_leaves(self.side, word)) - below, word << 24 | at, True)

    def _make(self, node: Node) -> bytes:
        if node in self.planted:
            return self.planted[node]
        word, _, below = self._split(node)
        if below <= 0 and self.descent.is_empty(Spot(self.side, -below, node.path)):
            if not any(_is_under(one, node) for one in self.planted):
                return zero_root(-below)
        else:
            spot = self._spot(node)
            if self.descent.is_empty(spot):
                return zero_root(spot.height)
            if spot.height == 0:
                if self.side is Side.OUTPUT and not self.descent.is_last:
                    return sha256(f"row {word} {(word, 0) in self.altered}".encode()).digest()
                return leaf_hash(self.leaf(node))
        return node_hash(*(self.node(Node(node.depth + 1, 2 * node.path + at)) for at in (0, 1)))


def _is_under(below: Node, node: Node) -> bool:
    return below.depth >= node.depth and below.path >> (below.depth - node.depth) == node.path


@dataclass
class Played:
    """How a descent went. `moves`: reveals and picks, and the leaf's reveal where there is one."""

    spot: Spot
    phase: Phase
    moves: int
    revealed: dict[Node, tuple[bytes, ...]]


def play(descent: Descent, side: Side, worker: MadeUp, challenger: MadeUp) -> Played:
    """From the choice of a side to its end, as DisputeGame judges it."""
    spot, node = descent.root(side), worker.node(Node(0, 0))
    moves, revealed = 0, {}
    while True:
        phase = descent.phase(spot) if not (spot.in_row and spot.height == 0) else Phase.LEAF
        if phase is Phase.LEAF:
            assert leaf_hash(leaf := worker.leaf(descent.node(spot))) == node
            assert len(leaf) == descent.leaf_bytes(spot)
            return Played(spot, Phase.PROOF, moves + 1, revealed)
        if phase in (Phase.PROOF, Phase.LOST):
            return Played(spot, phase, moves, revealed)
        children: tuple[bytes, ...] = ()
        if phase is Phase.REVEAL:
            children = revealed[descent.node(spot)] = reveal(descent, spot, worker)
            moves += 1
        picked = pick(descent, spot, node, children, challenger)
        assert picked is not None, "the trees differ"
        assert fold(picked, len(children).bit_length() - 1) == node
        assert picked.is_row == descent.is_row_root(descent.child(spot, picked.digit))
        spot, node, moves = descent.after(spot, picked), picked.child, moves + 1


def fold(picked: Pick, levels: int) -> bytes:
    """The node that a pick leads up to."""
    assert len(picked.siblings) == max(0, levels)
    at, digit = picked.child, picked.digit
    for sibling in picked.siblings:
        at = node_hash(sibling, at) if digit & 1 else node_hash(at, sibling)
        digit >>= 1
    return at
