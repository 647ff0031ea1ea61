"""Traces of tiny models for tests, honest and not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from hashlib import sha256

import numpy as np

from efedllm.model.segment_weights import SegmentWeights
from efedllm.model.trace import Trace
from efedllm.model.trace_rows import Lie, Values
from efedllm.numerics.backend import Backend, select
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Shape, Step

SEED = sha256(b"trace").digest()
BOTH = Sampling(temperature=80000, topK=40, topP=58000)


@cache
def checked(name: str) -> Backend:
    """A back end; its self-test takes longer than most traces."""
    return select(name)


def tokens(count: int, vocab: int = 300) -> CommittedTokens:
    return CommittedTokens([(37 * at * at + 11 * at) % vocab for at in range(count)])


def residual_rows(count: int, hidden: int) -> CommittedRows:
    """Rows that look like residuals."""
    rows = np.random.default_rng(count).integers(-(1 << 17), 1 << 17, (count, hidden), dtype=np.int32)
    return CommittedRows(count, lambda at: rows[at].tobytes())


def trace(
    weights: SegmentWeights,
    start: int = 0,
    end: int = 3,
    prompt: int = 10,
    generated: int = 3,
    *,
    sampling: Sampling = BOTH,
    backend: str = "exact",
    lie: Lie | None = None,
) -> Trace:
    """The trace of layers `start .. end` of a model over inputs that depend on the count alone."""
    positions = prompt + generated - 1 if generated else prompt - 1
    shape = Shape(weights.spec(), start, end, positions, prompt, generated)
    inputs = tokens(positions, shape.model.vocab) if start == 0 else residual_rows(positions, shape.model.hidden)
    return Trace(weights, shape, inputs, sampling, SEED, checked(backend), lie=lie)


def altered(shape: Shape, step: Step, bit: int = 0, is_consistent: bool = True) -> Lie:
    """One bit of one element is another one."""
    part, at = shape.find_element(step)

    def alter(segment: int, tensor: int, number: int, first: int, values: Values) -> None:
        if (segment, tensor, number) == (step.segment, step.tensor, part) and 0 <= step.row - first < len(values):
            size = values.dtype.itemsize
            flat = values.view(np.uint8).reshape(len(values), -1)
            flat[step.row - first, at * size + bit // 8] ^= 1 << bit % 8

    return Lie(alter, is_consistent)


def every_part(shape: Shape) -> Iterator[tuple[int, int, int]]:
    """Segment, tensor and part, all of them."""
    for segment in range(shape.segments):
        for tensor in range(shape.tensors(segment)):
            for part in range(len(shape.parts(segment, tensor))):
                yield segment, tensor, part
