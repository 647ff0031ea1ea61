"""Gas of every step check at large shapes, as whole transactions to the verifier: calldata, openings and arithmetic.

A model of hidden 4096, intermediate 14336, 32 heads of 128 over 8 key heads and vocabulary 151,936, at position 4,095
of 4,096; operands are random and as wide as they can be. Refresh the committed figures after a change of the contracts,
and look at what they say:

    make contracts && .venv/bin/python -m tests.gas.measure_steps
"""

import json
from pathlib import Path

from efedllm.chain.local import AnvilProcess
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Shape
from efedllm.protocol.trace_tensors import Exit, Layer, Program
from tests.support.shapes import model_spec
from tests.support.steps.chain import StepChain
from tests.support.steps.filling import filled
from tests.support.steps.trial import trial_of
from tests.support.steps.values import Dense

SNAPSHOT = Path(__file__).with_name("steps.json")
MODEL = model_spec(
    hidden=4096,
    intermediate=14336,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    vocab=151_936,
    context=4096,
)
SAMPLING = Sampling(temperature=60_000, topK=50, topP=60_000)
GREEDY = Sampling(temperature=0, topK=0, topP=65_536)
SHAPE = Shape(MODEL, 0, 32, 4096, 4000, 97)
LIMIT = 3_000_000
LINEAR_LIMIT = 650_000
LINEARS = ("layer 1 linear q", "layer 19 linear o", "layer 22 linear gate", "exit 1 logits")
"""Those of 4,096 columns."""


def measure(anvil: AnvilProcess) -> dict[str, int]:
    """Program, tensor and part -> gas of one check."""
    steps = StepChain(anvil)
    gas = {}
    for segment in (0, 2, SHAPE.segments - 1):
        program = SHAPE.program(segment)
        names = {Program.ENTRY: ["embed"], Program.LAYER: [x.name for x in Layer], Program.EXIT: [x.name for x in Exit]}
        for tensor, name in enumerate(names[program]):
            parts = SHAPE.parts(segment, tensor)
            for part in range(len(parts)):
                label = f"{program.value} {tensor} {name.lower().replace('_', ' ')}"
                label += f", part {part + 1}" if len(parts) > 1 else ""
                gas[label] = _check(steps, SAMPLING, segment, tensor, part)
    gas["exit 18 sample, greedy"] = _check(steps, GREEDY, SHAPE.segments - 1, Exit.SAMPLE, 0)
    return gas


def _check(steps: StepChain, sampling: Sampling, segment: int, tensor: int, part: int) -> int:
    row = SHAPE.rows(segment, tensor)[-1]
    count = SHAPE.parts(segment, tensor)[part].count
    step = SHAPE.step(segment, tensor, row, part, min(count - 1, count // 2 + 77))
    rng = Dense(f"{segment} {tensor} {part}")
    return steps.gas(trial_of(rng, filled(rng, SHAPE, sampling, step)).call())


def main() -> None:
    with AnvilProcess.start() as anvil:
        SNAPSHOT.write_text(json.dumps(measure(anvil), indent=1) + "\n")
    print(SNAPSHOT)


if __name__ == "__main__":
    main()
