"""The verifier's own computation of a receipt, against which a worker's is held: which side of a game to go down, what
differs there, and what proves it. Used in one thread."""

from dataclasses import dataclass
from functools import cached_property

from efedllm.chain.dispute_game import Opening, TokenProof
from efedllm.model.trace import Trace
from efedllm.model.trace_openings import TraceOpenings
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.descent import Descent, Pick, Spot, TreeSource, pick, spot_of
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.game import Game, Side, TokenFault
from efedllm.protocol.hash_tree import siblings
from efedllm.protocol.merkle import prove, token_leaf, tree_root
from efedllm.protocol.objects import Receipt
from efedllm.protocol.trace import Step
from efedllm.protocol.trace_elements import first_difference, unpack
from efedllm.protocol.trace_tensors import Exit, Kind, Layer

from .history import History

INPUT_TOKEN_BYTES = 4


class NothingToShow(Exception):
    """By the verifier's own computation the worker is right here."""


@dataclass(frozen=True)
class StepProof:
    """For `proveStep`: an element of the revealed leaf, and what it has to follow from."""

    element: int
    operands: tuple[Opening, ...]


@dataclass(frozen=True)
class RowProof:
    """For `proveRow`."""

    row: bytes
    siblings: tuple[bytes, ...]


Proof = StepProof | RowProof | TokenProof


class Own:
    """`tokens`: all under the receipt's token root. `inputs`: what is known to have entered the shard; `trace` is None
    where that is not what the receipt committed to, since nothing then follows from it."""

    def __init__(
        self,
        receipt: Receipt,
        descent: Descent,
        tokens: list[int],
        inputs: CommittedTokens | CommittedRows,
        trace: Trace | None,
    ) -> None:
        self.receipt, self.descent, self.tokens, self.inputs, self.trace = receipt, descent, tokens, inputs, trace

    def close(self) -> None:
        if self.trace is not None:
            self.trace.close()

    # ── which side ──────────────────────────────────────────────────────────

    def side(self, body_root: bytes) -> Side:
        """Where the worker's commitments part from one's own. Raises NothingToShow if they do nowhere.

        What it says to have been given comes first, since nothing else can be computed without; then an output that is
        not that of the tokens it signed too. The output's proof opens the worker's body, so that has to be one's own.
        """
        if self.inputs.root != self.receipt.inputRoot:
            return Side.INPUT
        if self.descent.is_last and self.receipt.outputRoot != tree_root(self._token_leaves[self._prompt :]):
            return Side.OUTPUT
        if body_root != self._trace.body_root:
            return Side.BODY
        if self._output.root != self.receipt.outputRoot:
            return Side.OUTPUT
        raise NothingToShow("input, body and output are those of the verifier's own trace")

    def tree(self, side: Side) -> TreeSource:
        """What a side is held against."""
        match side:
            case Side.INPUT:
                return self.inputs
            case Side.BODY:
                return self._trace
            case Side.OUTPUT:
                return self._output
        raise ProtocolError("no side was chosen")

    def pick(self, game: Game, history: History) -> Pick:
        """The first difference among the children that the worker revealed. Raises NothingToShow, ProtocolError."""
        spot = spot_of(game)
        revealed = history.revealed_at(spot) if spot.height else ()
        picked = pick(self.descent, spot, game.node, revealed, self.tree(game.side))
        if picked is None:
            raise NothingToShow("all children are as in the verifier's own tree")
        return picked

    # ── proofs ──────────────────────────────────────────────────────────────

    def prove(self, game: Game, history: History) -> Proof:
        """What ends a game won. Raises NothingToShow where nothing can be proven."""
        spot = spot_of(game)
        match game.side:
            case Side.BODY:
                return self._prove_step(spot, history)
            case Side.OUTPUT if not self.descent.is_last:
                return self._prove_row(self.descent.word(spot))
            case Side.OUTPUT:
                return self._prove_token(self._prompt + self.descent.word(spot), history)
            case Side.INPUT if self.descent.is_first:
                return self._prove_token(self.descent.word(spot), history)
        raise NothingToShow("what entered an inner shard is what the worker says, as it opened it")

    def _prove_step(self, spot: Spot, history: History) -> StepProof:
        place, leaf = self.descent.place(spot), self._leaf(history)
        kind = self.descent.shape.find_leaf(place.segment, place.tensor, place.leaf)[1].kind
        element = first_difference(kind, self._trace.leaf_at(place), leaf)
        if element is None:
            raise NothingToShow("the leaf is as in the verifier's own trace")
        revealed = history.partial(self.descent, self._trace)
        found = TraceOpenings(self._trace, revealed).openings(Step(*place, element))
        return StepProof(element, tuple(Opening(one.data, one.siblings) for one in found))

    def _prove_row(self, position: int) -> RowProof:
        """The body is one's own, or the game would be in it."""
        last = self.descent.shape.segments - self.descent.shape.has_exit - 1
        node = self.descent.shape.row_node(last, Layer.ADD_MLP, position)
        return RowProof(self._trace.node(node), siblings(self._trace.node, node))

    def _prove_token(self, index: int, history: History) -> TokenProof:
        """index: of the token among all under the token root."""
        token = int.from_bytes(self._leaf(history), "little")
        if token >= self.descent.shape.model.vocab:
            return TokenProof(TokenFault.VOCABULARY)
        if token != self.tokens[index]:
            proof = tuple(prove(self._token_leaves, index))
            return TokenProof(TokenFault.TOKEN_ROOT, self._token_leaves[index], siblings=proof)
        if index < self._prompt or not self.descent.is_last:
            raise NothingToShow(f"token {index} is the one under the token root")
        segment = self.descent.shape.segments - 1
        data, node = self._sample(index - 1), self.descent.shape.row_node(segment, Exit.SAMPLE, index - 1)
        return TokenProof(TokenFault.SAMPLE, sample=data, siblings=siblings(self._trace.node, node))

    # ── what is known ───────────────────────────────────────────────────────

    @property
    def _trace(self) -> Trace:
        if self.trace is None:
            raise NothingToShow("nothing follows from an input that nobody can open")
        return self.trace

    @property
    def _prompt(self) -> int:
        return self.receipt.promptCount

    @cached_property
    def _token_leaves(self) -> list[bytes]:
        return [token_leaf(token) for token in self.tokens]

    @cached_property
    def _output(self) -> CommittedRows | CommittedTokens:
        return self._due() if self.descent.is_last else self._trace.outputs()

    def _due(self) -> CommittedTokens:
        """What a last shard has to give: the tokens it signed, or those that its trace samples where they differ."""
        signed = CommittedTokens(self.tokens[self._prompt :])
        if signed.root != self.receipt.outputRoot:
            return signed
        rows = range(self._prompt - 1, self.receipt.positions)
        return CommittedTokens([unpack(Kind.SAMPLE, self._sample(row))[0][0] for row in rows])

    def _sample(self, row: int) -> bytes:
        return self._trace.row(self.descent.shape.segments - 1, Exit.SAMPLE, row)

    def _leaf(self, history: History) -> bytes:
        if history.leaf is None:
            raise ProtocolError("the leaf that the game stands at has not been revealed as far as is known")
        return history.leaf
