"""A game's rules in plain Python, as far as the worker's moves go: what the contract would take from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from efedllm.protocol.descent import Descent, Spot
from efedllm.protocol.game import Game, Phase, Side
from efedllm.protocol.merkle import leaf_hash, tree_root
from efedllm.protocol.objects import Receipt
from efedllm.protocol.trace import zero_root
from worker.defence import Move, PostTrace, Reveal, RevealLeaf

CHALLENGER = "0x" + "cc" * 20


class Broken(Exception):
    """The contract would revert."""


@dataclass
class Referee:
    """One game about a receipt. Deadlines do not pass here."""

    descent: Descent
    receipt: Receipt
    digest: bytes
    game: Game
    children: tuple[bytes, ...] = ()
    leaf: bytes = b""

    @classmethod
    def open(cls, descent: Descent, receipt: Receipt, digest: bytes, deadline: int = 100) -> Referee:
        zero = bytes(32)
        game = Game(
            worker=receipt.worker,
            challenger=CHALLENGER,
            receipt_digest=digest,
            phase=Phase.TRACE,
            side=Side.NONE,
            deadline=deadline,
            bond=10,
            holds=False,
            claim_index=0,
            entry=0,
            body_root=zero,
            node=zero,
            height=0,
            in_row=False,
            path=0,
            chunk=0,
        )
        return cls(descent, receipt, digest, game)

    def take(self, move: Move) -> None:
        """The worker's move. Raises Broken for one that is refused."""
        game = self.game
        match game.phase, move:
            case Phase.TRACE, PostTrace(body_root):
                self.game = replace(game, phase=Phase.SIDE, body_root=body_root)
            case Phase.REVEAL, Reveal(children):
                if len(children) != 1 << min(4, game.height) or tree_root(children) != game.node:
                    raise Broken("the children are not those of the node")
                self.children = children
                self.game = replace(game, phase=Phase.PICK)
            case Phase.LEAF, RevealLeaf(leaf):
                if len(leaf) != self.descent.leaf_bytes(self.spot) or leaf_hash(leaf) != game.node:
                    raise Broken("the leaf is not the node's")
                self.leaf = leaf
                self.game = replace(game, phase=Phase.PROOF)
            case _:
                raise Broken(f"{move} does not go with {game.phase.name}")

    def choose(self, side: Side) -> None:
        roots = {
            Side.INPUT: self.receipt.inputRoot,
            Side.BODY: self.game.body_root,
            Side.OUTPUT: self.receipt.outputRoot,
        }
        assert self.game.phase is Phase.SIDE
        self._go(self.descent.root(side), roots[side])
        self.children = ()

    def pick(self, digit: int) -> bool:
        """Whether the contract takes it: where nothing is, only if something was planted there."""
        assert self.game.phase is Phase.PICK
        if not self.children:  # the side is a single row
            self._go(self.descent.enter(self.spot), self.game.node)
            return True
        spot, child = self.descent.child(self.spot, digit), self.children[digit]
        if self.descent.is_empty(spot):
            assert child == zero_root(spot.height), "an honest worker has nothing where nothing is"
            return False
        self._go(self.descent.enter(spot) if self.descent.is_row_root(spot) else spot, child)
        self.children = ()
        return True

    @property
    def spot(self) -> Spot:
        return Spot(self.game.side, self.game.height, self.game.path, self.game.in_row)

    def _go(self, spot: Spot, node: bytes) -> None:
        self.game = replace(
            self.game,
            phase=self.descent.phase(spot),
            side=spot.side,
            height=spot.height,
            path=spot.path,
            in_row=spot.in_row,
            node=node,
        )
