"""Whole trials of the step verifier, openings included, against the plain-integer reference.

Some of every tensor here, a thousand under `make test-long`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from efedllm.chain.abi import interface
from efedllm.chain.local import AnvilProcess
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Shape
from efedllm.protocol.trace_tensors import Program
from tests.support.shapes import model_spec
from tests.support.steps.chain import BATCH, StepChain
from tests.support.steps.filling import filled
from tests.support.steps.impossible import impossible
from tests.support.steps.trial import Trial, trial_of
from tests.vectors import make_steps

PER_CALL = 500
RIGHT, WRONG = bytes(32), bytes(31) + b"\x01"


@pytest.fixture(scope="module")
def steps() -> Iterator[StepChain]:
    with AnvilProcess.start() as anvil:
        chain = StepChain(anvil)
        chain.place(BATCH, "contracts/test/support/StepBatch.sol", "StepBatch")
        yield chain


def random_shape(rng: Random) -> Shape:
    """Of a small model with odd dimensions, over up to three blocks of positions; with an exit."""
    kv_heads = rng.randint(1, 3)
    model = model_spec(
        hidden=rng.choice((rng.randint(1, 64), rng.randint(1, 1200))),
        intermediate=rng.choice((rng.randint(1, 64), rng.randint(1, 1300))),
        layers=rng.randint(1, 5),
        heads=kv_heads * rng.randint(1, 3),
        kv_heads=kv_heads,
        head_dim=2 * rng.choice((rng.randint(1, 20), rng.randint(1, 128))),
        vocab=rng.choice((rng.randint(1, 300), rng.randint(1, 1400))),
        context=rng.randint(700, 2000),
    )
    prompt = rng.choice((rng.randint(1, 8), rng.randint(1, 600)))
    generated = rng.randint(1, 5)
    start = rng.randrange(model.layers)
    return Shape(model, start, model.layers, prompt + generated - 1, prompt, generated)


def random_sampling(rng: Random, vocab: int) -> Sampling:
    temperature = rng.choice((0, 656, 6553600, rng.randint(656, 6553600), 65536, 65536))
    top_k = rng.choice((0, 1, vocab, rng.randint(0, vocab), max(1, vocab // 2)))
    return Sampling(temperature, top_k, rng.choice((1, 65535, 65536, rng.randint(1, 65536))))


def trials(rng: Random, program: Program, tensor: int, count: int) -> Iterator[Trial]:
    """Of elements of every part of a tensor."""
    made = 0
    while made < count:
        shape = random_shape(rng)
        segments = [at for at in range(shape.segments) if shape.program(at) is program]
        if not segments:
            continue
        segment = rng.choice(segments)
        parts = shape.parts(segment, tensor)
        part = rng.randrange(len(parts))
        row = rng.choice(shape.rows(segment, tensor))
        step = shape.step(segment, tensor, row, part, rng.randrange(parts[part].count))
        yield trial_of(rng, filled(rng, shape, random_sampling(rng, shape.model.vocab), step))
        made += 1


def flipped(rng: Random, data: bytes, start: int = 0, end: int | None = None) -> bytes:
    """With one other bit in bytes `start .. end`."""
    at = rng.randrange(8 * start, 8 * (len(data) if end is None else end))
    return data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :]


def element_size(trial: Trial) -> int:
    start, end, positions, prompt_count, generated = trial.counts
    shape = Shape(trial.model, start, end, positions, prompt_count, generated)
    _, part, _ = shape.find_leaf(*(trial.step[0], trial.step[1], trial.step[3]))
    return part.kind.size


def spoilt(rng: Random, trial: Trial) -> Iterator[tuple[str, Trial]]:
    """Trials that are refused, each with the error's name."""
    for number, (data, siblings) in enumerate(trial.openings):
        others: list[tuple[str, tuple[bytes, tuple[bytes, ...]]]] = [
            ("OperandRefused", (flipped(rng, data), siblings)),
            ("OperandLength", (data + b"\0", siblings)),
            ("OperandLength", (data[:-1], siblings)),
            ("OperandRefused", (data, (*siblings, bytes(32)))),
        ]
        if siblings:
            at = rng.randrange(len(siblings))
            other = (*siblings[:at], flipped(rng, siblings[at]), *siblings[at + 1 :])
            others += [("OperandRefused", (data, other)), ("OperandRefused", (data, siblings[1:]))]
        for error, opening in others:
            openings = (*trial.openings[:number], opening, *trial.openings[number + 1 :])
            yield error, replace(trial, openings=openings)
    yield "OperandCount", replace(trial, openings=(*trial.openings, (b"", ())))
    if trial.openings:
        yield "OperandCount", replace(trial, openings=trial.openings[:-1])
    yield "LeafLength", replace(trial, leaf=trial.leaf + b"\0")
    yield "LeafLength", replace(trial, leaf=trial.leaf[:-1])
    for field in range(5):
        step = (*trial.step[:field], trial.step[field] + (1 << 24), *trial.step[field + 1 :])
        yield "NoSuchStep", replace(trial, step=step)


def judge(steps: StepChain, made: list[Trial]) -> list[bytes]:
    return [
        verdict for at in range(0, len(made), 64) for verdict in steps.judge([x.call() for x in made[at : at + 64]])
    ]


def check_trials(steps: StepChain, program: Program, tensor: int, count: int, checks: int) -> None:
    """Right elements are right, one other bit is wrong; of the first `checks`, every spoilt proof is refused."""
    rng = Random(f"trial {program} {tensor}")
    errors = {error.name: selector.ljust(32, b"\0") for selector, error in interface("StepVerifier").errors.items()}
    for start in range(0, count, PER_CALL):
        made = list(trials(rng, program, tensor, min(PER_CALL, count - start)))
        assert judge(steps, made) == [RIGHT] * len(made)
        wrong = []
        for trial in made:
            size = element_size(trial)
            at = trial.step[4] * size
            wrong.append(replace(trial, leaf=flipped(rng, trial.leaf, at, at + size)))
        assert judge(steps, wrong) == [WRONG] * len(made)
        if start == 0:
            refused = [case for trial in made[:checks] for case in spoilt(rng, trial)]
            names = [name for name, _ in refused]
            found = judge(steps, [trial for _, trial in refused])
            assert found == [errors[name] for name in names]


TENSORS = [
    (Program.ENTRY, 0),
    *((Program.LAYER, tensor) for tensor in range(28)),
    *((Program.EXIT, tensor) for tensor in range(19)),
]


def label(value: object) -> str:
    return value.value if isinstance(value, Program) else str(value)


@pytest.mark.parametrize(("program", "tensor"), TENSORS, ids=label)
def test_elements_are_judged_as_the_reference_says(steps: StepChain, program: Program, tensor: int) -> None:
    check_trials(steps, program, tensor, 40, 4)


@pytest.mark.long
@pytest.mark.parametrize(("program", "tensor"), TENSORS, ids=label)
def test_many_elements_are_judged_as_the_reference_says(steps: StepChain, program: Program, tensor: int) -> None:
    check_trials(steps, program, tensor, 1_000, 100)


def test_operands_that_nothing_valid_holds_are_refused(steps: StepChain) -> None:
    cases = list(impossible())
    selector = next(key for key, error in interface("StepVerifier").errors.items() if error.name == "OperandOutOfRange")
    for case, verdict in zip(cases, judge(steps, [one.trial for one in cases]), strict=True):
        assert verdict == selector.ljust(32, b"\0"), case.name


def test_vectors_are_what_is_tested_here() -> None:
    assert make_steps.FILE.read_text() == make_steps.render()
