"""Writes steps.json: `python -m tests.vectors.make_steps` from the checkout's root.

`refused`: trials with an operand that no valid trace or model holds, `operand` says which one; `trial` is
`abi.encode(IStepVerifier.Case, IStepVerifier.Step, bytes leaf, IStepVerifier.Opening[])`.
`right`: trials of elements that are right, which the real traces of trace.json have no example of.
"""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from efedllm.chain.abi import encode_values, interface
from efedllm.protocol.trace_tensors import Layer
from tests.support.steps.filling import filled
from tests.support.steps.impossible import CUT, LAYER, SHAPE, impossible
from tests.support.steps.trial import Trial, trial_of

FILE = Path(__file__).parent / "steps.json"
STEEP = 1 << 20
STEP = SHAPE.step(LAYER, Layer.SWIGLU, 4, 0, 7)
GATES: dict[str, Callable[[int], bool]] = {
    "steep gate": lambda gate: gate >= STEEP,
    "steep gate downwards": lambda gate: gate <= -STEEP,
    "gate of the table": lambda gate: 0 < gate < STEEP,
    "gate of the table downwards": lambda gate: -STEEP < gate < 0,
}


def encoded(trial: Trial) -> str:
    return "0x" + encode_values(interface("StepVerifier").functions["isWrong"].inputs, trial.arguments()).hex()


def gated(name: str, wanted: Callable[[int], bool]) -> Trial:
    rng = Random(name)
    while not wanted((opened := filled(rng, SHAPE, CUT, STEP)).get(Layer.LINEAR_GATE, 0, 7)):
        pass
    return trial_of(rng, opened)


def render() -> str:
    refused = [{"name": one.name, "operand": one.operand, "trial": encoded(one.trial)} for one in impossible()]
    right = [encoded(gated(name, wanted)) for name, wanted in GATES.items()]
    return json.dumps({"refused": refused, "right": right}, indent=0) + "\n"


if __name__ == "__main__":
    FILE.write_text(render())
