"""A game between a lying worker and an honest challenger, without a chain: the rules of docs/protocol.md in short.

The worker shows what it can; what does not hash to what it has committed to counts as silence, since the contract takes
nothing else. The challenger knows what went over the path, and recomputes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from efedllm.model.trace import Trace
from efedllm.model.trace_openings import TraceOpenings
from efedllm.protocol.committed import CommittedTokens
from efedllm.protocol.descent import Descent, Phase, Side, Spot, pick
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.merkle import leaf_hash, node_hash, token_leaf
from efedllm.protocol.objects import Receipt
from efedllm.protocol.partial_tree import PartialTree
from efedllm.protocol.trace import Node, Step
from efedllm.protocol.trace_case import Case
from efedllm.protocol.trace_elements import first_difference, unpack
from efedllm.protocol.trace_tensors import Exit, Kind, Layer
from tests.support import step_judge
from tests.support.cheat_work import Committed, Source


class How(Enum):
    """How a game ended. All but the last: the worker lost."""

    STEP = "a step is wrong"
    ROW = "an output row is not that of the trace"
    SAMPLE = "an output token is not the sampled one"
    TOKEN = "an input token is not one of the receipt's tokens"
    SILENT = "the worker cannot go on"
    LOST = "something lies where nothing is"
    WON = "the challenger has nothing to show"


@dataclass(frozen=True)
class End:
    how: How
    side: Side
    step: Step | None = None
    moves: int = 0


@dataclass(frozen=True)
class Player:
    """The trees that somebody has of a receipt's computation."""

    committed: Committed
    body: Trace

    def of(self, side: Side) -> Source:
        return {Side.INPUT: self.committed.input, Side.BODY: self.body, Side.OUTPUT: self.committed.output}[side]


@dataclass(frozen=True)
class MockGame:
    """tokens: those under the receipt's token root. own: what the challenger knows, all of it honest."""

    descent: Descent
    receipt: Receipt
    tokens: list[int]
    worker: Player
    own: Player
    silent: int | None = None

    def choose(self) -> Side:
        """What does not open cannot be computed from; what differs in the body is shown there; else the output."""
        if self.receipt.inputRoot != self.own.committed.input.root:
            return Side.INPUT
        return Side.BODY if self.worker.body.body_root != self.own.body.body_root else Side.OUTPUT

    def play(self) -> End:
        if self.silent == 0:
            return End(How.SILENT, Side.NONE)
        side = self.choose()
        spot, node = self.descent.root(side), self._root(side)
        theirs = PartialTree(node, self.own.of(side).node)
        moves = 2
        while True:
            phase = self.descent.phase(spot)
            if phase is Phase.LOST:
                return End(How.LOST, side, moves=moves)
            if phase is Phase.PROOF:
                return self._prove_row(spot, node, moves)
            if phase is Phase.LEAF:
                return self._leaf(spot, node, theirs, moves)
            children: tuple[bytes, ...] = ()
            if phase is Phase.REVEAL:
                shown = None if self._is_silent(moves) else self._reveal(spot, node)
                if shown is None:
                    return End(How.SILENT, side, moves=moves)
                children = shown
                if side is Side.BODY:
                    theirs.reveal(self.descent.node(spot), children)
            picked = pick(self.descent, spot, node, children, self.own.of(side))
            if picked is None:
                return End(How.WON, side, moves=moves)
            spot, node, moves = self.descent.after(spot, picked), picked.child, moves + 2

    def _root(self, side: Side) -> bytes:
        roots = {Side.INPUT: self.receipt.inputRoot, Side.OUTPUT: self.receipt.outputRoot}
        return roots.get(side, self.worker.body.body_root)

    def _is_silent(self, moves: int) -> bool:
        """A worker's moves: the trace, then every second one."""
        return self.silent is not None and moves // 2 >= self.silent

    def _reveal(self, spot: Spot, node: bytes) -> tuple[bytes, ...] | None:
        levels = min(4, spot.height)
        source, depth = self.worker.of(spot.side), self.descent.node(spot).depth + levels
        first = self.descent.node(spot).path << levels
        try:
            children = tuple(source.node(Node(depth, first + at)) for at in range(1 << levels))
        except (LookupError, ProtocolError):
            return None
        level = list(children)
        while len(level) > 1:
            level = [node_hash(level[at], level[at + 1]) for at in range(0, len(level), 2)]
        return children if level == [node] else None

    def _leaf(self, spot: Spot, node: bytes, theirs: PartialTree, moves: int) -> End:
        side = spot.side
        try:
            leaf = None if self._is_silent(moves) else self.worker.of(side).leaf(self.descent.node(spot))
        except (LookupError, ProtocolError):
            leaf = None
        if leaf is None or len(leaf) != self.descent.leaf_bytes(spot) or leaf_hash(leaf) != node:
            return End(How.SILENT, side, moves=moves)
        match side:
            case Side.BODY:
                return self._prove_step(spot, leaf, theirs, moves + 1)
            case Side.INPUT:
                return self._prove_input(spot, leaf, moves + 1)
            case _:
                return self._prove_sample(spot, leaf, moves + 1)

    # ── proofs ──────────────────────────────────────────────────────────────

    def _prove_step(self, spot: Spot, leaf: bytes, theirs: PartialTree, moves: int) -> End:
        place, shape = self.descent.place(spot), self.descent.shape
        kind = shape.find_leaf(*place[:2], place.leaf)[1].kind
        element = first_difference(kind, self.own.body.leaf_at(place), leaf)
        assert element is not None, "the leaf's hash differs"
        step = Step(*place, element)
        openings = TraceOpenings(self.own.body, theirs).openings(step)
        body = self.own.body
        case = Case(shape, self.receipt.inputRoot, self.worker.body.body_root, body.seed, body.sampling)
        is_wrong = step_judge.is_wrong(case, step, leaf, openings)
        return End(How.STEP if is_wrong else How.WON, Side.BODY, step, moves)

    def _prove_row(self, spot: Spot, node: bytes, moves: int) -> End:
        body, shape = self.worker.body, self.descent.shape
        assert body.body_root == self.own.body.body_root, "else it is the body's turn"
        last = shape.segments - shape.has_exit - 1
        row = self.own.body.row_root(last, Layer.ADD_MLP, self.descent.word(spot))
        return End(How.ROW if row != node else How.WON, Side.OUTPUT, moves=moves)

    def _prove_sample(self, spot: Spot, leaf: bytes, moves: int) -> End:
        shape = self.descent.shape
        row = shape.prompt_count - 1 + self.descent.word(spot)
        sampled = unpack(Kind.SAMPLE, self.own.body.row(shape.segments - 1, Exit.SAMPLE, row))[0][0]
        return End(How.SAMPLE if leaf != sampled.to_bytes(4, "little") else How.WON, Side.OUTPUT, moves=moves)

    def _prove_input(self, spot: Spot, leaf: bytes, moves: int) -> End:
        is_token = self.descent.is_first and leaf_hash(leaf) != token_leaf(self.tokens[self.descent.word(spot)])
        return End(How.TOKEN if is_token else How.WON, Side.INPUT, moves=moves)


def honest_player(body: Trace) -> Player:
    """Whoever recomputes a shard from what entered it."""
    if not body.shape.has_exit:
        return Player(Committed(body.inputs, body.outputs()), body)
    exit_, rows = body.shape.segments - 1, body.shape.rows(body.shape.segments - 1, Exit.SAMPLE)
    tokens = [unpack(Kind.SAMPLE, body.row(exit_, Exit.SAMPLE, row))[0][0] for row in rows]
    return Player(Committed(body.inputs, CommittedTokens(tokens)), body)
