"""Claim: checking an answer costs a fraction of giving it: one prefill of the shard, with hashing and signatures."""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path as Folder
from statistics import median

from efedllm.model.shard import Shard
from efedllm.numerics.backend import select
from efedllm.protocol import eip712
from efedllm.protocol.claims import channel_id
from efedllm.protocol.records import Record
from efedllm.protocol.requests import ModelLimits
from efedllm.protocol.vouchers import Leaf
from verifier.check import Case, Drawn, Setting, check
from verifier.recompute import Recomputer, Shelf
from verifier.verdict import Outcome

from .host import Model, dimensions_of, open_model
from .integer import random_prompts
from .path import Path, split
from .report import SCRATCH, Result, at_most, reported
from .requests import DOMAIN, MODEL_ID
from .shapes import HIDDEN_1024, SHIPPED, TOY
from .timing import one_thread, seconds

DRAWN = 0.01
"""Share of receipts that are drawn in a network of strangers."""
LIMIT_PERCENT = 0.2
"""Of the work that is checked, at that rate."""
WORKERS = 2
"""A first shard, whose rows are recomputed and hashed, and a last one, whose rows are hashed and tokens sampled."""


@dataclass(frozen=True)
class Size:
    """`tokens` generated behind `prompt` positions, `turns` times."""

    models: tuple[tuple[str, Model], ...]
    prompt: int
    tokens: int
    turns: int


FULL = Size((("shipped model", SHIPPED), (HIDDEN_1024.name, HIDDEN_1024)), 64, 256, 3)
QUICK = Size((("toy", TOY),), 8, 20, 1)


class Ready(Shelf):
    """Shards already in memory: loading is paid once, not per check."""

    def __init__(self, shards: list[Shard]) -> None:
        self._ready = {(shard.start, shard.end): shard for shard in shards}

    def take(self, start: int, end: int) -> Shard:
        return self._ready[start, end]


def run(quick: bool, tell: Callable[[str], None]) -> list[Result]:
    """An answer, then the check of the last receipt of each of its workers, turn by turn."""
    size = QUICK if quick else FULL
    with one_thread():
        return [result for name, model in size.models for result in asyncio.run(_model(name, model, size, tell))]


async def _model(name: str, model: Model, size: Size, tell: Callable[[str], None]) -> list[Result]:
    tell(f"{name}: {size.tokens} tokens behind {size.prompt}, {size.turns} times")
    checker = Checker(model)
    bounds = checker.bounds
    prompt = random_prompts(1, size.prompt, checker.setting.model.vocab)[0].tolist()
    generating: dict[int, list[float]] = defaultdict(list)
    checking: dict[int, list[float]] = defaultdict(list)
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        async with Path(model, bounds, Folder(folder) / "path") as path:
            for _ in range(size.turns):
                answer = await path.ask(prompt, size.tokens, checker.setting.model.vocab)
                records = [await path.record(shard, answer.request_id) for shard in range(WORKERS)]
                for shard, worker in enumerate(answer.computed):
                    generating[shard].append(worker.prompt + worker.generated)
                    checking[shard].append(seconds(partial(checker.check, records, shard)))
    results = []
    for shard, (start, end) in enumerate(pairwise(bounds)):
        what = f"{name}, layers {start}:{end}"
        gave, checked = median(generating[shard]), median(checking[shard])
        share = 100 * checked / gave
        results += [
            reported(f"{what}: generating", gave, "s"),
            reported(f"{what}: one check", checked, "s"),
            reported(f"{what}: check / generating", share, "%"),
            at_most(f"{what}: checks where {DRAWN:.0%} is drawn / generating", DRAWN * share, "%", LIMIT_PERCENT),
        ]
    return results


class Checker:
    """A verifier with every shard at hand."""

    def __init__(self, model: Model) -> None:
        d = dimensions_of(model)
        self.bounds = split(d.layers, WORKERS)
        shards = [Shard(open_model(model, start, end), select()) for start, end in pairwise(self.bounds)]
        self.setting = Setting(DOMAIN, ModelLimits(MODEL_ID, d.layers, d.vocab, d.context), d.hidden)
        self._compute = Recomputer(Ready(shards))

    def check(self, records: list[Record], shard: int) -> None:
        """Check the last receipt of a worker, which has to be found right."""
        record = records[shard]
        receipt, _ = record.receipts[-1]
        signer = eip712.recover(DOMAIN, record.request, record.request_signature)
        channel = channel_id(receipt.payer, receipt.worker, signer)
        leaf = Leaf(receipt.requestId, eip712.digest(DOMAIN, receipt), 0, receipt.fee)
        hot_keys = {
            each.receipts[-1][0].worker: frozenset({eip712.recover(DOMAIN, *each.receipts[-1])}) for each in records
        }
        upstream = records[shard - 1] if shard else None
        case = Case(Drawn(receipt.worker, channel, leaf), record, hot_keys, upstream)
        verdict = check(self.setting, case, self._compute)
        if verdict.outcome is not Outcome.OK:
            raise RuntimeError(f"an honest worker was not found right: {verdict}")
