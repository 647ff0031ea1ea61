"""Writes steps.json: `python -m tests.vectors.make_steps` from the checkout's root.

`refused`: trials with an operand that no valid trace or model holds, `operand` says which one; `trial` is
`abi.encode(IStepVerifier.Case, IStepVerifier.Step, bytes leaf, IStepVerifier.Opening[])`.
`right`: trials of elements that are right, which the real traces of trace.json have no example of.
"""

import json
from collections.abc import Callable
from math import isqrt
from pathlib import Path
from random import Random

from efedllm.chain.abi import encode_values, interface
from efedllm.numerics import reference as ref
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace_tensors import Exit, Layer
from tests.support.steps.answers import answer, read_scale
from tests.support.steps.filling import filled
from tests.support.steps.impossible import CUT, ENTRY, EXIT, LAYER, SHAPE, impossible
from tests.support.steps.opened import Opened
from tests.support.steps.trial import Trial, trial_of

FILE = Path(__file__).parent / "steps.json"
STEEP = 1 << 20
FAR = 25 << 16
ALL = Sampling(temperature=60_000, topK=SHAPE.model.vocab, topP=50_000)
Wanted = Callable[[Opened], bool]


def _gate(low: int, high: int) -> Wanted:
    return lambda opened: low <= opened.get(Layer.LINEAR_GATE, 0, 7) < high


def _distance(opened: Opened) -> int:
    return opened.get(Layer.MAXIMA, 1, 0) - opened.get(Layer.SCORES, 0, 3)


def _shift(opened: Opened) -> int:
    _, (_, exponent, _) = opened.weight("q")
    return exponent + read_scale(opened.get(Layer.ATTENTION_NORM, 0, 0))[1][1] - 29


def _query_product(opened: Opened) -> int:
    """Of the two scales' integers, before it is cut to 16 bits."""
    head_dim = SHAPE.model.head_dim
    largest = max(1, *(abs(value) for value in opened.many(Layer.ROTARY_Q, 0, 0, head_dim)))
    constant, _ = ref.scale_of(ref.LOG2_E, isqrt(head_dim << 32))
    return ref.scale_of(largest, ref.ACTIVATION)[0] * constant


RIGHT: dict[str, tuple[Sampling, int, int, int, int, Wanted]] = {
    "steep gate": (CUT, LAYER, Layer.SWIGLU, 0, 7, _gate(STEEP, 1 << 31)),
    "steep gate downwards": (CUT, LAYER, Layer.SWIGLU, 0, 7, _gate(-1 << 31, 1 - STEEP)),
    "gate of the table": (CUT, LAYER, Layer.SWIGLU, 0, 7, _gate(1, STEEP)),
    "gate of the table downwards": (CUT, LAYER, Layer.SWIGLU, 0, 7, _gate(1 - STEEP, 0)),
    "far score": (CUT, LAYER, Layer.WEIGHTS, 0, 3, lambda opened: _distance(opened) >= FAR),
    "near score": (CUT, LAYER, Layer.WEIGHTS, 0, 3, lambda opened: _distance(opened) < FAR),
    "embedding without a shift": (CUT, ENTRY, 0, 0, 3, lambda opened: opened.weight("embedding")[1][1] == 16),
    "linear shifted away": (CUT, LAYER, Layer.LINEAR_Q, 0, 2, lambda opened: _shift(opened) >= 63),
    "saturated sum": (CUT, LAYER, Layer.ADD_ATTENTION, 0, 2, lambda opened: answer(opened) == 2**31 - 1),
    "saturated sum downwards": (CUT, LAYER, Layer.ADD_ATTENTION, 0, 2, lambda opened: answer(opened) == 2**31),
    "query's scale of 14 bits more": (CUT, LAYER, Layer.QUERY, 0, 0, lambda opened: _query_product(opened) < 2**30),
    "query's scale of 16 bits more": (CUT, LAYER, Layer.QUERY, 0, 0, lambda opened: _query_product(opened) >= 2**30),
    "no weights at all": (CUT, LAYER, Layer.LARGEST, 1, 0, lambda opened: answer(opened) == 1),
    "top-k of all": (ALL, EXIT, Exit.COUNTS_0, 0, 3, lambda _: True),
    "masses without top-k": (ALL, EXIT, Exit.MASSES_0, 0, 3, lambda _: True),
}
"""Found among drawn operands."""


def encoded(trial: Trial) -> str:
    return "0x" + encode_values(interface("StepVerifier").functions["isWrong"].inputs, trial.arguments()).hex()


def found(name: str) -> Trial:
    sampling, segment, tensor, part, index, wanted = RIGHT[name]
    rng = Random(name)
    step = SHAPE.step(segment, tensor, SHAPE.rows(segment, tensor)[-1], part, index)
    while not wanted(opened := filled(rng, SHAPE, sampling, step)):
        pass
    return trial_of(rng, opened)


def render() -> str:
    refused = [{"name": one.name, "operand": one.operand, "trial": encoded(one.trial)} for one in impossible()]
    right = [encoded(found(name)) for name in RIGHT]
    return json.dumps({"refused": refused, "right": right}, indent=0) + "\n"


if __name__ == "__main__":
    FILE.write_text(render())
