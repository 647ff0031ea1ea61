"""Claim: exact integer inference is no slower than float inference. Tokens/s on one thread, random weights."""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from .floats import FloatModel, build
from .integer import IntegerModel, random_prompts
from .report import Result, reported
from .shapes import HIDDEN_1024, HIDDEN_2048, TOY, Shape
from .timing import alternate, one_thread, seconds, steps

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


class Model(Protocol):
    """What every contender can do."""

    def start(self, prompts: Tensor, positions: int) -> None: ...

    def step(self) -> None: ...


@dataclass(frozen=True)
class Size:
    """How much is measured: counts of positions, tokens per turn, turns."""

    shapes: tuple[Shape, ...]
    batches: tuple[int, ...]
    prompt: int
    turn_tokens: int
    turns: int
    prefill: int
    prefill_turns: int


FULL = Size((HIDDEN_1024, HIDDEN_2048), (1, 8), 64, 4, 15, 512, 3)
QUICK = Size((TOY,), (1, 2), 8, 2, 2, 32, 1)


def run(quick: bool, tell: Callable[[str], None]) -> list[Result]:
    """Decode and prefill of every shape; `tell` says what is going on."""
    size = QUICK if quick else FULL
    with one_thread():
        return [result for shape in size.shapes for result in _shape(shape, size, tell)]


def _shape(shape: Shape, size: Size, tell: Callable[[str], None]) -> list[Result]:
    tell(f"{shape.name}, {shape.layers} layers: {shape.parameters / 1e6:.0f} M parameters")
    gc.collect()  # the models of the shape before
    ours = IntegerModel(shape.loaded())
    single, half = build(shape)
    results = []
    for batch in size.batches:
        tell(f"  decode, batch {batch}")
        floats = {name: _faster_cache(model, batch, shape, size) for name, model in (("fp32", single), ("bf16", half))}
        labels = {name: f"transformers {name}, {model.cache_name} cache" for name, model in floats.items()}
        contenders: dict[str, Model] = {ours.name: ours} | {labels[name]: floats[name] for name in floats}
        rates = _decode(contenders, batch, shape, size)
        results += _results(f"{shape.name}: decode, batch {batch}", ours.name, rates)
    tell(f"  prefill of {size.prefill}")
    contenders = {ours.name: ours, "transformers fp32": FloatModel(single, False)}
    contenders["transformers bf16"] = FloatModel(half, False)
    rates = _prefill(contenders, shape, size)
    return results + _results(f"{shape.name}: prefill of {size.prefill}", ours.name, rates)


def _faster_cache(model: "LlamaForCausalLM", batch: int, shape: Shape, size: Size) -> FloatModel:
    """The same model with the cache that decodes faster here."""
    candidates = {is_static: FloatModel(model, is_static) for is_static in (False, True)}
    positions = size.prompt + 3 * size.turn_tokens
    for candidate in candidates.values():
        candidate.start(random_prompts(batch, size.prompt, shape.vocab), positions)
        candidate.step()
    turns = {str(key): partial(seconds, candidate.step) for key, candidate in candidates.items()}
    taken = alternate(turns, size.turn_tokens)
    return candidates[taken["True"] < taken["False"]]


def _decode(contenders: Mapping[str, Model], batch: int, shape: Shape, size: Size) -> dict[str, float]:
    """Tokens/s of each over all sequences, from `prompt` positions on."""
    positions = size.prompt + 1 + size.turns * size.turn_tokens
    for model in contenders.values():
        model.start(random_prompts(batch, size.prompt, shape.vocab), positions)
        model.step()

    def turn(model: Model) -> float:
        return seconds(lambda: steps(model, size.turn_tokens))

    taken = alternate({name: partial(turn, model) for name, model in contenders.items()}, size.turns)
    return {name: batch * size.turn_tokens / elapsed for name, elapsed in taken.items()}


def _prefill(contenders: Mapping[str, Model], shape: Shape, size: Size) -> dict[str, float]:
    """Prompt tokens/s of each, to the first generated token."""
    prompts = random_prompts(1, size.prefill, shape.vocab)
    for model in contenders.values():
        model.start(prompts[:, : size.prompt], size.prompt)

    def turn(model: Model) -> float:
        return seconds(lambda: model.start(prompts, size.prefill))

    taken = alternate({name: partial(turn, model) for name, model in contenders.items()}, size.prefill_turns)
    return {name: size.prefill / elapsed for name, elapsed in taken.items()}


def _results(what: str, ours: str, rates: Mapping[str, float]) -> list[Result]:
    best = max(rate for name, rate in rates.items() if name != ours)
    return [
        *(reported(f"{what}: {name}", rate, "tokens/s") for name, rate in rates.items()),
        reported(f"{what}: ours / better of fp32 and bf16", rates[ours] / best, "x"),
    ]
