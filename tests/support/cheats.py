"""The cheats that have to be slashed: how a worker computes, what it sends and signs, and how it defends that.

Every cheat is defended in several ways, the most convincing ones: with a trace that follows from the lie all the way,
with an honest one that only in its last tensor comes to what was sent, and with an honest one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, IntEnum

import numpy as np
import torch

from efedllm.model.load import LayerWeights
from efedllm.model.trace import Trace
from efedllm.model.trace_rows import Values
from efedllm.numerics.weights import Matrix, Tables
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.merkle import token_leaf
from efedllm.protocol.objects import Receipt, Sampling
from efedllm.protocol.trace import Node
from efedllm.protocol.trace_tensors import BLOCK, Entry, Exit, Layer
from tests.support.cheat_model import TWIN
from tests.support.cheat_work import (
    AlteredWeights,
    Committed,
    Inputs,
    Source,
    Unopenable,
    Words,
    Work,
    every_matrix,
    rows_instead,
    rows_of,
    rows_tree,
    tokens_of,
    values_changed,
    with_integers,
)


class Place(IntEnum):
    """Of the worker on the path."""

    FIRST = 0
    INNER = 1
    LAST = 2


class By(Enum):
    """What shows the fault."""

    GAME = "game"
    STATEMENT = "statement"
    """Signed statements that contradict each other; no game is needed."""
    DEMAND = "demand"
    """Tokens that cannot be published."""


ANYWHERE = (Place.FIRST, Place.INNER, Place.LAST)
RANDOM = b"\xab" * 32
GREEDY = Sampling(0, 0, 65536)
WARM = Sampling(60_000, 40, 60_000)
SILENCES = 6
"""Moves of a worker in a whole game: its trace, four rounds, the leaf."""


@dataclass(frozen=True)
class Cheat:
    """Each hook defaults to honesty.

    feeds: what it takes in, given what it was sent. compute: the trace of what it really computes, given its work so
    far; what it sends follows from it. rows: what it sends instead of the rows that it computed. token: likewise, for
    the token at an absolute position. commit: the trees whose roots it signs, given those of what it fed and sent.
    sign: the receipt that it signs, given the one that follows from all that.
    silent: it makes so many moves of a game, then none.
    """

    name: str
    places: tuple[Place, ...] = ANYWHERE
    by: By = By.GAME
    sampling: Sampling = WARM
    feeds: Callable[[Inputs], Inputs] | None = None
    compute: Callable[[Work], Trace] | None = None
    rows: Callable[[Work, list[bytes]], list[bytes]] | None = None
    token: Callable[[Work, int], int] | None = None
    commit: Callable[[Work, Committed], Committed] | None = None
    sign: Callable[[Work, Receipt], Receipt] | None = None
    ignores_stop: bool = False
    silent: int | None = None

    def __str__(self) -> str:
        return self.name


# ── weights ─────────────────────────────────────────────────────────────────


def flipped_weight_bit(work: Work) -> Trace:
    """In a shard with a head one that is large enough to change a token: else nobody would get anything wrong."""

    def layer(index: int, weights: LayerWeights) -> LayerWeights:
        if index != work.shape.start:
            return weights
        if not work.shape.has_exit:
            return replace(weights, down=with_integers(weights.down, flip))
        gain = weights.mlp_norm.g.clone()
        gain[3] ^= 1 << 14
        return replace(weights, mlp_norm=replace(weights.mlp_norm, g=gain))

    def flip(matrix: torch.Tensor) -> torch.Tensor:
        matrix[5, 3] ^= 1
        return matrix

    return work.trace(AlteredWeights(work.model, layer=layer))


def int4_weights(work: Work) -> Trace:
    def coarse(q: torch.Tensor) -> torch.Tensor:
        return (torch.round(q.float() / 16) * 16).clamp(-112, 112).to(torch.int8)

    return work.trace(AlteredWeights(work.model, layer=lambda _, weights: every_matrix(weights, coarse)))


def low_rank_weights(work: Work) -> Trace:
    def low_rank(q: torch.Tensor) -> torch.Tensor:
        u, s, v = torch.linalg.svd(q.double(), full_matrices=False)
        return torch.round((u[:, :8] * s[:8]) @ v[:8]).clamp(-127, 127).to(torch.int8)

    return work.trace(AlteredWeights(work.model, layer=lambda _, weights: every_matrix(weights, low_rank)))


def skipped_layer(work: Work) -> Trace:
    """The shard's last layer adds nothing."""

    def layer(index: int, weights: LayerWeights) -> LayerWeights:
        if index != work.shape.end - 1:
            return weights
        return replace(
            weights, o=with_integers(weights.o, torch.zeros_like), down=with_integers(weights.down, torch.zeros_like)
        )

    return work.trace(AlteredWeights(work.model, layer=layer))


def early_exit(work: Work) -> Trace:
    """What should come out of the last layer came out of the one before; all is computed, some of it afterwards."""
    before = work.layers()[-2]
    keys = {
        (work.last_layer, int(Layer.ADD_MLP), at): work.honest.row(before, Layer.ADD_MLP, at)
        for at in range(work.shape.positions)
    }
    return work.trace(lie=rows_instead(work.shape, keys))


def stretched_rotary(work: Work) -> Trace:
    """Every position is taken for three times itself: shifting all alike would change almost nothing."""

    def tables(honest: Tables) -> Tables:
        return replace(honest, rotary=honest.rotary[torch.arange(len(honest.rotary)) * 3 % len(honest.rotary)])

    return work.trace(AlteredWeights(work.model, tables=tables))


def rescaled_head(work: Work) -> Trace:
    """A head whose rows for some tokens are a little larger: those come up more often."""

    def head(honest: Matrix) -> Matrix:
        scale = honest.scale.clone()
        scale[:40] += scale[:40] // 4
        return replace(honest, scale=scale)

    return work.trace(AlteredWeights(work.model, head=head))


# ── attention ───────────────────────────────────────────────────────────────


def stale_entry(work: Work) -> Trace:
    """Keys and values of the last prompt position are still those of the one before."""
    segment, at = work.layers()[0], min(work.shape.prompt_count, work.shape.positions) - 1
    keys = {(segment, int(one), at): work.honest.row(segment, one, at - 1) for one in (Layer.KEY, Layer.VALUE)}
    return work.trace(lie=rows_instead(work.shape, keys))


def short_window(work: Work) -> Trace:
    """Every position looks at itself and the one before only."""

    def forget(first: int, values: Values) -> None:
        wide = values.reshape(len(values), -1, BLOCK * work.shape.blocks)
        for at in range(len(values)):
            wide[at, :, : max(0, first + at - 1)] = -(2**31)
        values[:] = wide.reshape(values.shape)

    return work.trace(lie=values_changed(work.layers()[-1], Layer.SCORES, forget))


def foreign_entries(work: Work) -> Trace:
    """Keys and values of the first positions are those of another request: its cache was not cleared."""
    other, segment = work.trace(inputs=other_inputs(work)), work.layers()[0]
    keys = {(segment, int(one), at): other.row(segment, one, at) for one in (Layer.KEY, Layer.VALUE) for at in (0, 1)}
    return work.trace(lie=rows_instead(work.shape, keys))


def other_inputs(work: Work) -> CommittedTokens | CommittedRows:
    if isinstance(work.inputs, CommittedTokens):
        return CommittedTokens([(token + 7) % work.shape.model.vocab for token in work.inputs.tokens])
    rows = [np.roll(np.frombuffer(row, "<i4"), 3).tobytes() for row in work.input_rows()]
    return CommittedRows(len(rows), rows.__getitem__)


def flipped_activation_bit(work: Work) -> Trace:
    at = work.shape.prompt_count - 1  # the first token is sampled from it

    def flip(first: int, values: Values) -> None:
        if first <= at < first + len(values):
            values[at - first, 271] ^= 1 << 24

    return work.trace(lie=values_changed(work.layers()[-1], Layer.SWIGLU, flip))


def changed_tokens(inputs: Inputs) -> Inputs:
    assert isinstance(inputs, CommittedTokens)
    first, second, *others = inputs.tokens
    return CommittedTokens([first, (second + 1) % TWIN, *others])


def changed_prompt_token(work: Work) -> Trace:
    """Fed another token than it was given, and signs for the one that it was given."""
    assert isinstance(work.inputs, CommittedTokens)
    other = work.trace(inputs=changed_tokens(work.inputs))
    keys = {(0, int(Entry.EMBED), at): other.row(0, Entry.EMBED, at) for at in range(work.shape.positions)}
    return work.trace(lie=rows_instead(work.shape, keys))


# ── sampling ────────────────────────────────────────────────────────────────


def biased_sampler(work: Work) -> Trace:
    """Weights of the lowest token ids count a thousandfold."""

    def favour(_: int, values: Values) -> None:
        values[:, :20] = np.maximum(values[:, :20], 1 << 12) << 10

    return work.trace(lie=values_changed(work.exit, Exit.WEIGHTS, favour))


def wrong_seed(work: Work) -> Trace:
    return work.trace(sampling_of=replace(work.request, seed=RANDOM))


def other_temperature(work: Work) -> Trace:
    return work.trace(sampling_of=replace(work.request, sampling=replace(work.request.sampling, temperature=131072)))


def highest_of_equals(work: Work, position: int) -> int:
    """Of two tokens with the same logit the higher one. Greedy choices are always below TWIN, and their twins equal."""
    token = tokens_of(work.honest)[-1]
    assert token < TWIN
    return token + TWIN


def cheap_token(work: Work, position: int) -> int:
    """From a model that computes nothing; the rows of these tokens are honest."""
    return (37 * position + 11) % TWIN


# ── what is sent and signed ─────────────────────────────────────────────────


def rows_of_another_request(work: Work, rows: list[bytes]) -> list[bytes]:
    return rows_of(work.trace(inputs=other_inputs(work)))


def one_row_bit(rows: list[bytes]) -> list[bytes]:
    """Of the row at position 1, a value of its last leaf."""
    return [bytes([*row[:-3], row[-3] ^ 4, *row[-2:]]) if at == 1 else row for at, row in enumerate(rows)]


def flip_row_bits(work: Work, rows: list[bytes]) -> list[bytes]:
    return one_row_bit(rows)


def token_past_the_vocabulary(work: Work, position: int) -> int:
    """Only the last one can be: the first shard refuses it."""
    return work.shape.model.vocab if work.is_final else tokens_of(work.honest)[-1]


def token_of_another_request(work: Work, position: int) -> int:
    return tokens_of(work.trace(inputs=other_inputs(work)))[-1]


# ── trees ───────────────────────────────────────────────────────────────────


def random_input_root(work: Work, honest: Committed) -> Committed:
    return replace(honest, input=Unopenable(RANDOM))


def random_output_root(work: Work, honest: Committed) -> Committed:
    return replace(honest, output=Unopenable(RANDOM))


def random_last_input(work: Work, honest: Committed) -> Committed:
    return replace(honest, input=Words([*_words(work.inputs)[:-1], RANDOM]))


def random_last_output(work: Work, honest: Committed) -> Committed:
    return replace(honest, output=Words([*_words(honest.output)[:-1], RANDOM]))


def an_output_too_few(work: Work, honest: Committed) -> Committed:
    """Of one leaf less than the receipt counts."""
    return replace(honest, output=Words(_words(honest.output)[:-1]))


def an_output_too_many(work: Work, honest: Committed) -> Committed:
    """Something lies behind the last leaf."""
    words = _words(honest.output)
    return replace(honest, output=Words([*words, RANDOM]) if len(words) & (len(words) - 1) else Unopenable(RANDOM))


def other_committed_rows(work: Work, honest: Committed) -> Committed:
    """Sends the rows that it computed, and commits to others."""
    assert isinstance(honest.output, CommittedRows)
    rows = [honest.output.read(at) for at in range(honest.output.count)]
    return replace(honest, output=rows_tree(one_row_bit(rows)))


def _words(tree: Source) -> list[bytes]:
    if isinstance(tree, CommittedTokens):
        return [token_leaf(token) for token in tree.tokens]
    assert isinstance(tree, CommittedRows)
    return [tree.node(Node(tree.depth, at)) for at in range(tree.count)]


# ── receipts ────────────────────────────────────────────────────────────────


def a_token_too_many(work: Work, receipt: Receipt) -> Receipt:
    """Signs, and is paid, for a token that was not there."""
    hop = work.request.path[receipt.shard]
    return replace(receipt, generated=receipt.generated + 1, fee=receipt.fee + hop.tokenPrice)


def a_token_that_is_not_there(work: Work, receipt: Receipt) -> Receipt:
    """Counts and fee of one more token, with the roots of what there was."""
    hop = work.request.path[receipt.shard]
    positions, generated, fee = receipt.positions + 1, receipt.generated + 1, receipt.fee + hop.tokenPrice
    return replace(receipt, positions=positions, generated=generated, fee=fee)


def dearer(work: Work, receipt: Receipt) -> Receipt:
    return replace(receipt, fee=receipt.fee + 1)


def other_upstream_rows(work: Work, receipt: Receipt) -> Receipt:
    """Signs for rows that its neighbour did not send."""
    rows = one_row_bit(work.input_rows())
    return replace(receipt, inputRoot=rows_tree(rows).root)


CHEATS = [
    Cheat("one flipped weight bit", compute=flipped_weight_bit),
    Cheat("int4 weights", compute=int4_weights),
    Cheat("low rank weights", compute=low_rank_weights),
    Cheat("a skipped layer", compute=skipped_layer),
    Cheat("early exit", compute=early_exit),
    Cheat("wrong rotary position", compute=stretched_rotary),
    Cheat("a stale KV entry", compute=stale_entry),
    Cheat("a short attention window", compute=short_window),
    Cheat("the KV of another request", compute=foreign_entries),
    Cheat("one flipped activation bit", compute=flipped_activation_bit),
    Cheat("feeds a changed prompt token", (Place.FIRST,), compute=changed_prompt_token),
    Cheat("signs for a changed prompt token", (Place.FIRST,), feeds=changed_tokens),
    Cheat("a rescaled head", (Place.LAST,), compute=rescaled_head),
    Cheat("a biased sampler", (Place.LAST,), compute=biased_sampler),
    Cheat("a wrong tie break", (Place.LAST,), sampling=GREEDY, token=highest_of_equals),
    Cheat("a wrong seed", (Place.LAST,), compute=wrong_seed),
    Cheat("another temperature", (Place.LAST,), compute=other_temperature),
    Cheat("a cheap model with an honest prefill", (Place.LAST,), token=cheap_token),
    Cheat("output of another request", (Place.FIRST, Place.INNER), rows=rows_of_another_request),
    Cheat("output of another request", (Place.LAST,), token=token_of_another_request),
    Cheat("one flipped bit of a row", (Place.FIRST, Place.INNER), rows=flip_row_bits),
    Cheat("a token past the vocabulary", (Place.LAST,), token=token_past_the_vocabulary),
    Cheat("commits to other rows than it sends", (Place.FIRST, Place.INNER), commit=other_committed_rows),
    Cheat("a random input root", commit=random_input_root),
    Cheat("a random output root", commit=random_output_root),
    Cheat("a random last input leaf", commit=random_last_input),
    Cheat("a random last output leaf", commit=random_last_output),
    Cheat("an output leaf too few", commit=an_output_too_few),
    Cheat("an output leaf too many", commit=an_output_too_many),
    Cheat("a wrong token count", by=By.STATEMENT, sign=a_token_too_many),
    Cheat("a counted token that is not there", by=By.DEMAND, sign=a_token_that_is_not_there),
    Cheat("a wrong fee", by=By.STATEMENT, sign=dearer),
    Cheat(
        "takes in other rows than its neighbour sent", (Place.INNER, Place.LAST), By.STATEMENT, sign=other_upstream_rows
    ),
    Cheat("tokens after a stop id", (Place.LAST,), By.STATEMENT, ignores_stop=True),
    *(
        Cheat(f"silence after {count} moves", (Place(count % 3),), compute=flipped_weight_bit, silent=count)
        for count in range(SILENCES)
    ),
]
