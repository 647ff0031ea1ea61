"""The tokens a client was shown, and what receipts must say about them. Pure; O(log n) per token.

Counts at which receipts are due are those of `pricing.is_due`; the roots at each are taken when its last token arrives.
"""

from dataclasses import dataclass

from efedllm.client.errors import Violation
from efedllm.protocol.merkle import EMPTY, AppendTree, token_leaf
from efedllm.protocol.messages import Token
from efedllm.protocol.objects import Request
from efedllm.protocol.pricing import CHUNK_POSITIONS, RECEIPT_TOKENS, is_due

STOP, LENGTH = "stop", "length"


@dataclass(frozen=True)
class Counts:
    """How far a request is: prompt and generated positions that passed a shard, and tokens generated."""

    positions: int
    generated: int


@dataclass(frozen=True)
class Roots:
    """What receipts at one count must hold: `tokens` in every shard, `inputs` in the first, `outputs` in the last."""

    tokens: bytes
    inputs: bytes
    outputs: bytes


def after(prompt_count: int, generated: int) -> Counts:
    """The counts once `generated` (> 0) tokens exist."""
    return Counts(prompt_count + generated - 1, generated)


def next_due(prompt_count: int, counts: Counts) -> Counts:
    """The first counts behind `counts` at which `pricing.is_due` wants a receipt."""
    if counts.generated == 0:
        positions = (counts.positions // CHUNK_POSITIONS + 1) * CHUNK_POSITIONS
        return Counts(positions, 0) if positions < prompt_count else after(prompt_count, 1)
    return after(prompt_count, (counts.generated // RECEIPT_TOKENS + 1) * RECEIPT_TOKENS)


class Shown:
    """Grows by the token messages of the last worker."""

    def __init__(self, request: Request, prompt: list[int], vocab: int) -> None:
        self.tokens: list[int] = []
        self.reason = ""
        """Why the answer ended; empty while it goes on."""
        self._request, self._prompt, self._vocab = request, prompt, vocab
        self._all, self._inputs, self._outputs = AppendTree(), AppendTree(), AppendTree()
        self._roots: dict[Counts, Roots] = {}
        chunks = []
        for at, token in enumerate(prompt):
            if at and at % CHUNK_POSITIONS == 0:
                chunks.append((at, self._all.root()))
            self._all.append(token_leaf(token))
        self._inputs = self._all.copy()
        for at, inputs in chunks:
            self._roots[Counts(at, 0)] = Roots(self._all.root(), inputs, EMPTY)

    @property
    def final(self) -> Counts | None:
        """The counts of the last receipts, once the last token is known."""
        return after(len(self._prompt), len(self.tokens)) if self.reason else None

    def add(self, message: Token) -> None:
        """Raises Violation by the last worker, who alone sends tokens."""
        request, worker = self._request, self._request.path[-1].worker
        position = len(self._prompt) + len(self.tokens)
        if self.reason:
            raise Violation(worker, "it sent a token after the last one")
        if message.position != position:
            raise Violation(worker, f"it sent the token of position {message.position} where {position} was due")
        if message.token >= self._vocab:
            raise Violation(worker, f"token id {message.token} is outside the vocabulary of {self._vocab}")
        is_stop = message.token in request.stopIds
        is_full = len(self.tokens) + 1 == request.maxTokens
        if message.reason not in ("", STOP, LENGTH) or is_stop != (message.reason == STOP):
            raise Violation(worker, f"it gave the reason {message.reason!r} with token {message.token}")
        if is_full and not message.reason:
            raise Violation(worker, f"it goes on after all {request.maxTokens} tokens")
        self._append(message.token)
        self.reason = message.reason
        counts = after(len(self._prompt), len(self.tokens))
        if self.reason or is_due(len(self._prompt), counts.positions, counts.generated):
            self._roots[counts] = self._now()

    def has(self, counts: Counts) -> bool:
        """Whether all tokens up to these counts were shown."""
        return counts.generated <= len(self.tokens)

    def roots(self, counts: Counts) -> Roots:
        """Roots at counts that `has` confirms; from scratch where no receipt was due, as after a cancellation."""
        if counts not in self._roots:
            again = Shown(self._request, self._prompt, self._vocab)
            for token in self.tokens[: counts.generated]:
                again._append(token)
            inputs = AppendTree()
            for token in (self._prompt + self.tokens)[: counts.positions]:
                inputs.append(token_leaf(token))
            self._roots[counts] = Roots(again._all.root(), inputs.root(), again._outputs.root())
        return self._roots[counts]

    def _append(self, token: int) -> None:
        leaf = token_leaf(token)
        if self.tokens:
            self._inputs.append(token_leaf(self.tokens[-1]))
        self.tokens.append(token)
        self._all.append(leaf)
        self._outputs.append(leaf)

    def _now(self) -> Roots:
        return Roots(self._all.root(), self._inputs.root(), self._outputs.root())
