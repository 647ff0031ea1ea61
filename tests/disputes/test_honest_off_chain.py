"""Nothing of an honest trace is ever found wrong, wherever a challenger leads it and whatever he shows there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efedllm.model.trace import Trace
from efedllm.model.trace_openings import TraceOpenings
from efedllm.numerics.backend import select
from efedllm.numerics.errors import BackendError
from efedllm.protocol.committed import CommittedTokens
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.hash_tree import Opening
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Shape, Step
from tests.support import step_judge
from tests.support.cheat_session import Session, run
from tests.support.mock_game import honest_player
from tests.support.random_model import SIZES, ModelShelf, Sizes

SAMPLINGS = (
    Sampling(0, 0, 65536),
    Sampling(60_000, 40, 60_000),
    Sampling(6_553_600, 0, 65536),
    Sampling(656, 3, 1),
)


@pytest.fixture(scope="module")
def shelf() -> Iterator[ModelShelf]:
    made = ModelShelf()
    yield made
    made.close()


@cache
def back_ends() -> tuple[str, ...]:
    """Those that pass their self-test here."""
    try:
        select("int8")
    except BackendError:
        return ("exact",)
    return ("exact", "int8")


@dataclass(frozen=True)
class Asked:
    """A request, and one of the workers on its path."""

    sizes: Sizes
    backend: str
    bounds: tuple[int, ...]
    at: int
    prompt: tuple[int, ...]
    count: int
    sampling: Sampling

    def serve(self, shelf: ModelShelf) -> Session:
        model = shelf.take(self.sizes, self.backend)
        return run(model, self.bounds, self.prompt, self.count, sampling=self.sampling)


@st.composite
def requests(draw: st.DrawFn) -> Asked:
    sizes = draw(st.sampled_from(SIZES))
    cuts = {cut for cut in draw(st.sets(st.integers(1, 4), max_size=3)) if cut < sizes.num_hidden_layers}
    bounds = tuple(sorted({0, sizes.num_hidden_layers, *cuts}))
    prompt = draw(st.one_of(st.integers(1, 9), st.just(257)))
    return Asked(
        sizes,
        draw(st.sampled_from(back_ends())),
        bounds,
        draw(st.integers(0, len(bounds) - 2)),
        tuple((37 * at * at + 11 * at + prompt) % sizes.vocab_size for at in range(prompt)),
        draw(st.integers(1, 3)),
        draw(st.sampled_from(SAMPLINGS)),
    )


def test_no_element_is_wrong(shelf: ModelShelf) -> None:
    """All of them, of a trace in two shards."""
    model, count = shelf.take(SIZES[0]), 0
    session = run(model, (0, 1, 2), [5], 2)
    for at in range(2):
        trace = session.own(at).honest
        for step in every_step(trace.shape):
            assert not is_wrong(trace, step, TraceOpenings(trace).openings(step)), step
            count += 1
    assert count > 9000


def every_step(shape: Shape) -> Iterator[Step]:
    for segment in range(shape.segments):
        for tensor in range(shape.tensors(segment)):
            for row in shape.rows(segment, tensor):
                for number, part in enumerate(shape.parts(segment, tensor)):
                    for index in range(part.count):
                        yield shape.step(segment, tensor, row, number, index)


def is_wrong(trace: Trace, step: Step, openings: tuple[Opening, ...]) -> bool:
    return step_judge.is_wrong(trace.case, step, trace.leaf_at(step.place), openings)


@given(requests(), st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_no_challenger_finds_anything(shelf: ModelShelf, asked: Asked, data: st.DataObject) -> None:
    session, at = asked.serve(shelf), asked.at
    trace = session.own(at).honest
    own = honest_player(trace)
    receipt = session.receipts[at]
    assert (own.committed.input.root, own.committed.output.root) == (receipt.inputRoot, receipt.outputRoot)
    if trace.shape.has_exit:
        assert isinstance(own.committed.output, CommittedTokens)
        assert list(own.committed.output.tokens) == session.generated
    openings = TraceOpenings(trace)
    for _ in range(8):
        step = data.draw(steps(trace.shape))
        shown = openings.openings(step)
        assert not is_wrong(trace, step, shown)
        replayed = openings.openings(data.draw(steps(trace.shape)))
        for other in (garbled(data, shown), replayed, shown[:-1], (*shown, *shown[:1])):
            try:
                assert not is_wrong(trace, step, other)
            except (step_judge.Refused, ProtocolError):
                continue


def steps(shape: Shape) -> st.SearchStrategy[Step]:
    """Any tensor is as likely as any other."""

    def within(place: tuple[int, int]) -> st.SearchStrategy[Step]:
        rows, parts = shape.rows(*place), shape.parts(*place)

        def element(number: int) -> st.SearchStrategy[Step]:
            indices = st.integers(0, parts[number].count - 1)
            return st.builds(lambda row, index: shape.step(*place, row, number, index), st.sampled_from(rows), indices)

        return st.integers(0, len(parts) - 1).flatmap(element)

    tensors = [(segment, tensor) for segment in range(shape.segments) for tensor in range(shape.tensors(segment))]
    return st.sampled_from(tensors).flatmap(within)


def garbled(data: st.DataObject, openings: tuple[Opening, ...]) -> tuple[Opening, ...]:
    """One bit of one opening is another."""
    if not openings:
        return (Opening(b"\0" * 4, ()),)
    at = data.draw(st.integers(0, len(openings) - 1))
    opening = openings[at]
    whole = bytearray(opening.data + b"".join(opening.siblings))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    size = len(opening.data)
    siblings = tuple(bytes(whole[start : start + 32]) for start in range(size, len(whole), 32))
    return (*openings[:at], Opening(bytes(whole[:size]), siblings), *openings[at + 1 :])
