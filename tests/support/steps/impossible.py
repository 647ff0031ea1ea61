"""Trials with an operand that no valid trace or model holds, and which operand it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Shape
from efedllm.protocol.trace_operand import Gain, InputToken, MatrixRow, Operand, WeightLeaf
from efedllm.protocol.trace_tensors import Exit, Layer
from tests.support.shapes import model_spec
from tests.support.steps.answers import pack_scale
from tests.support.steps.filling import filled
from tests.support.steps.opened import HEADER, Opened
from tests.support.steps.trial import Trial, trial_of

SHAPE = Shape(model_spec(hidden=80, heads=4, kv_heads=2, head_dim=8, vocab=600), 0, 3, 12, 10, 3)
CUT = Sampling(temperature=60_000, topK=20, topP=50_000)
GREEDY = Sampling(temperature=0, topK=0, topP=65_536)
ENTRY, LAYER, EXIT = 0, 1, SHAPE.segments - 1


class Impossible(NamedTuple):
    name: str
    trial: Trial
    operand: int


def impossible() -> Iterator[Impossible]:
    """The same ones every time."""
    for name, sampling, segment, tensor, part, index, spoil, operand in _CASES:
        rng = Random(name)
        step = SHAPE.step(segment, tensor, SHAPE.rows(segment, tensor)[-1], part, index)
        opened = filled(rng, SHAPE, sampling, step)
        spoil(opened)
        yield Impossible(name, trial_of(rng, opened, element=0), operand)


Spoil = Callable[[Opened], None]


def _put(tensor: int, part: int, index: int, value: int, row: int | None = None) -> Spoil:
    return lambda opened: opened.put(tensor, part, index, value, row)


def _both(*spoils: Spoil) -> Spoil:
    def spoil(opened: Opened) -> None:
        for one in spoils:
            one(opened)

    return spoil


def _header(kind: type[Operand], scale: int, exponent: int, leaves: int) -> Spoil:
    def spoil(opened: Opened) -> None:
        operand = next(one for one in opened.data if isinstance(one, kind))
        opened.data[operand] = HEADER.pack(scale, exponent, leaves) + opened.data[operand][8:]

    return spoil


def _token(opened: Opened) -> None:
    opened.data[InputToken(opened.step.row)] = SHAPE.model.vocab.to_bytes(4, "little")


def _above(tensor: int, source: int, index: int) -> Spoil:
    """A maximum one below what it is the maximum of."""

    def spoil(opened: Opened) -> None:
        opened.put(source, 0, index, 5)
        opened.put(tensor, 1, 0, 4)

    return spoil


def _zeros(tensor: int, count: int, first: int = 0) -> Spoil:
    def spoil(opened: Opened) -> None:
        for at in range(count):
            opened.put(tensor, 0, first + at, 0)

    return spoil


def _no_such_weight(opened: Opened) -> None:
    """All weights of the drawn tile are zero."""
    for operand in opened.data:
        place = getattr(operand, "place", None)
        if place is not None and place.tensor == Exit.WEIGHTS:
            opened.data[operand] = bytes(len(opened.data[operand]))


def _no_such_logit(opened: Opened) -> None:
    """No logit of the tile is its maximum."""
    for operand in opened.data:
        place = getattr(operand, "place", None)
        if place is not None and place.tensor == Exit.LOGITS:
            below = opened.get(Exit.MAXIMA, 1, 0) - 1
            opened.data[operand] = below.to_bytes(4, "little", signed=True) * (len(opened.data[operand]) // 4)


def _no_such_maximum(opened: Opened) -> None:
    largest = max(opened.many(Exit.MAXIMA, 0, 0, SHAPE.tiles))
    opened.put(Exit.MAXIMA, 1, 0, largest + 1 if largest < 2**31 - 1 else -(2**31))


_KEY = SHAPE.positions - 1
_CASES: tuple[tuple[str, Sampling, int, int, int, int, Spoil, int], ...] = (
    ("token past the vocabulary", CUT, ENTRY, 0, 0, 3, _token, 0),
    ("embedding's kind", CUT, ENTRY, 0, 0, 3, _header(WeightLeaf, 1, 16, 2), 1),
    ("exponent of a linear's row", CUT, LAYER, 1, 0, 2, _put(0, 0, 0, pack_scale(7, (1 << 14, 13))), 0),
    ("matrix kind", CUT, LAYER, 1, 0, 2, _header(MatrixRow, 1, 16, 2), 1),
    ("matrix scale of zero", CUT, LAYER, 1, 0, 2, _header(MatrixRow, 0, 16, 1), 1),
    ("matrix scale too large", CUT, LAYER, 1, 0, 2, _header(MatrixRow, (1 << 20) + 1, 16, 1), 1),
    ("matrix exponent too small", CUT, LAYER, 1, 0, 2, _header(MatrixRow, 1, 15, 1), 1),
    ("matrix exponent too large", CUT, LAYER, 1, 0, 2, _header(MatrixRow, 1, 61, 1), 1),
    ("gain kind", CUT, LAYER, 0, 0, 0, _header(Gain, 0, 16, 1), 1),
    ("norm's maximum of zero", CUT, LAYER, 0, 1, 2, _put(0, 0, 0, pack_scale(0, (1 << 14, 20))), 2),
    ("rotary kind", CUT, LAYER, 4, 0, 2, _header(WeightLeaf, 0, 14, 4), 1),
    ("query's maximum of zero", CUT, LAYER, 6, 1, 2, _put(6, 0, 0, pack_scale(0, (1 << 14, 20))), 1),
    ("key's maximum of zero", CUT, LAYER, 7, 1, 2, _put(7, 0, 0, 0), 1),
    ("query's exponent", CUT, LAYER, 10, 0, _KEY, _put(6, 0, 0, pack_scale(7, (1 << 14, 11))), 0),
    ("key's maximum of zero in a score", CUT, LAYER, 10, 0, _KEY, _put(7, 0, 0, 0, _KEY), 2),
    ("score above its maximum", CUT, LAYER, 12, 0, 3, _above(Layer.MAXIMA, Layer.SCORES, 3), 1),
    ("no largest weight", CUT, LAYER, 15, 0, 3, _put(14, 1, 0, 0), 2),
    ("no sum of weights", CUT, LAYER, 17, 0, 3, _put(13, 1, 0, 0), 1),
    ("no largest weight to divide by", CUT, LAYER, 17, 0, 3, _put(14, 1, 0, 0), 2),
    ("largest weight too large", CUT, LAYER, 17, 0, 3, _both(_put(13, 1, 0, 1), _put(14, 1, 0, 1 << 63)), 2),
    ("logit above the largest", CUT, EXIT, 3, 0, 3, _above(Exit.MAXIMA, Exit.LOGITS, 3), 1),
    ("too few counts", CUT, EXIT, 6, 1, 0, _zeros(6, 128), 0),
    ("counts reached before", CUT, EXIT, 8, 1, 0, _put(6, 1, 0, 3 | 20 << 64 | 20 << 128), 1),
    ("too little mass", CUT, EXIT, 14, 1, 0, _both(_zeros(14, 128), _put(12, 1, 0, 3 | 1 << 64 | 20 << 128)), 1),
    ("no mass at all", CUT, EXIT, 12, 1, 0, _zeros(12, 128), 0),
    ("no tile is drawn", CUT, EXIT, 18, 0, 0, _zeros(Exit.SUMS, SHAPE.tiles), 1),
    ("no token is drawn", CUT, EXIT, 18, 0, 0, _no_such_weight, 5),
    ("no tile has the largest", GREEDY, EXIT, 18, 0, 0, _no_such_maximum, 1),
    ("no logit is the largest", GREEDY, EXIT, 18, 0, 0, _no_such_logit, 2),
)
