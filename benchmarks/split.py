"""Claim: cutting a model into pieces on several processes costs little. Batch 1, paid requests, real sockets."""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path as Folder
from statistics import median
from time import perf_counter

from efedllm.model.generate import generate
from efedllm.model.shard import Shard
from efedllm.numerics.backend import select

from .host import Model, open_model
from .integer import random_prompts
from .path import Answer, Path, split
from .report import SCRATCH, Result, at_most, reported
from .shapes import LLAMA_134M, SHIPPED, TOY
from .timing import one_thread


@dataclass(frozen=True)
class Subject:
    """A model to be cut. `limits`: by number of workers, the share of speed in percent that may be lost."""

    name: str
    model: Model
    limits: dict[int, float]


@dataclass(frozen=True)
class Size:
    """`tokens` are generated behind `prompt` positions, `turns` times by every contender."""

    subjects: tuple[Subject, ...]
    workers: tuple[int, ...]
    prompt: int
    tokens: int
    turns: int


HOP_LIMIT_MS = 1.0
FULL = Size(
    (Subject("134 M Llama", LLAMA_134M, {2: 10.0, 4: 20.0}), Subject("shipped model", SHIPPED, {})),
    (1, 2, 4),
    prompt=32,
    tokens=48,
    turns=7,
)
QUICK = Size((Subject("toy", TOY, {2: 10.0}),), (1, 2), prompt=70, tokens=18, turns=2)


def run(quick: bool, tell: Callable[[str], None]) -> list[Result]:
    """One process without any network against paths of workers, turn by turn."""
    size = QUICK if quick else FULL
    with one_thread():
        return [result for subject in size.subjects for result in asyncio.run(_subject(subject, size, tell))]


async def _subject(subject: Subject, size: Size, tell: Callable[[str], None]) -> list[Result]:
    tell(f"{subject.name}: one process against {', '.join(map(str, size.workers))} workers")
    alone = Alone(subject.model)
    prompt = random_prompts(1, size.prompt, alone.vocab)[0].tolist()
    SCRATCH.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        folder = Folder(stack.enter_context(tempfile.TemporaryDirectory(dir=SCRATCH)))
        paths = {}
        for workers in size.workers:
            path = Path(subject.model, split(alone.layers, workers), folder / str(workers))
            paths[workers] = await stack.enter_async_context(path)
        single: list[float] = []
        answers: dict[int, list[Answer]] = defaultdict(list)
        for turn in range(size.turns + 1):
            expected, seconds = alone.ask(prompt, size.tokens)
            turns = {workers: await path.ask(prompt, size.tokens, alone.vocab) for workers, path in paths.items()}
            if any(answer.tokens != expected for answer in turns.values()):
                raise RuntimeError(f"{subject.name}: a path gave other tokens than one process")
            if turn:  # the first one warms everything up
                single.append(seconds)
                for workers, answer in turns.items():
                    answers[workers].append(answer)
    return _results(subject, median(single), answers)


class Alone:
    """The whole model in this process, asked without a network, a payment or a receipt."""

    def __init__(self, model: Model) -> None:
        self._shard = Shard(open_model(model), select())
        self.layers, self.vocab = self._shard.dimensions.layers, self._shard.dimensions.vocab

    def ask(self, prompt: list[int], tokens: int) -> tuple[list[int], float]:
        """The tokens, and seconds per token from the first to the last."""
        stream = generate(self._shard, prompt, tokens)
        found = [next(stream)]
        start = perf_counter()
        found += stream
        return found, (perf_counter() - start) / (tokens - 1)


def _results(subject: Subject, single: float, answers: dict[int, list[Answer]]) -> list[Result]:
    results = [reported(f"{subject.name}: one process", 1 / single, "tokens/s")]
    for workers, turns in answers.items():
        name = f"{subject.name}: {workers} worker{'s' if workers > 1 else ''}"
        taken = median(answer.seconds_per_token for answer in turns)
        waiting = 1e3 * median(map(_not_computing, turns)) / workers
        results.append(reported(name, 1 / taken, "tokens/s"))
        limit = subject.limits.get(workers)
        numbers = (
            (f"{name}, share lost", 100 * (1 - single / taken), "%", limit),
            (f"{name}, not computing, per hop and token", waiting, "ms", HOP_LIMIT_MS if limit else None),
        )
        for what, value, unit, most in numbers:
            results.append(reported(what, value, unit) if most is None else at_most(what, value, unit, most))
    return results


def _not_computing(answer: Answer) -> float:
    """Seconds per token in which no worker computed; a token takes as many hops as the path has workers."""
    computed = sum(worker.generated for worker in answer.computed) / (len(answer.tokens) - 1)
    return answer.seconds_per_token - computed
