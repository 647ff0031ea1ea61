"""`make test-long`: random requests over random splits, each with the tokens of one process and money to the unit."""

import random
from pathlib import Path

import pytest

from efedllm.model.generate import generate
from efedllm.model.load import load
from efedllm.model.shard import Shard
from efedllm.numerics.backend import select
from efedllm.numerics.sampling_parameters import SamplingParameters
from efedllm.protocol.objects import Sampling
from tests.worker.network import PROMPT_PRICE, TOKEN_PRICE, WorkerGroup
from tests.worker.payer import Payer, ask

SPLITS = [[(0, 3)], [(0, 1), (1, 3)], [(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]]
REQUESTS_PER_SPLIT = 25


@pytest.mark.long
@pytest.mark.parametrize("ranges", SPLITS, ids=str)
async def test_random_requests_equal_one_process(built: Path, tmp_path: Path, ranges: list[tuple[int, int]]) -> None:
    choose = random.Random(f"{ranges}")
    alone = Shard(load(built), select())
    payer = Payer()
    owed: dict[str, int] = {}
    async with WorkerGroup(built, ranges, tmp_path, voucher_seconds=60.0, stall_seconds=60.0) as group:
        group.open_channels(payer.account.address, payer.session.address, 10**9)
        books = {}
        for _ in range(REQUESTS_PER_SPLIT):
            prompt = [choose.randrange(300) for _ in range(choose.choice([1, 2, 63, 64, 65, 100, 128, 140]))]
            max_tokens = choose.randint(1, 200 - len(prompt))
            temperature = choose.choice([0, 656, 40000, 65536, 200000])
            top_k, top_p = choose.choice([0, 1, 5, 299]), choose.choice([1, 30000, 65536])
            seed = choose.randbytes(32)
            stop_ids = tuple(sorted(choose.sample(range(300), choose.choice([0, 3]))))
            request = payer.request(
                [worker.hop for worker in group.workers],
                prompt,
                max_tokens,
                seed=seed,
                stopIds=stop_ids,
                sampling=Sampling(temperature, top_k, top_p),
            )
            answer = await ask(group, payer, request, prompt, books)
            parameters = SamplingParameters(temperature, top_p, top_k)
            assert answer.tokens == list(generate(alone, prompt, max_tokens, parameters, seed, stop_ids))
            fee = len(prompt) * PROMPT_PRICE + len(answer.tokens) * TOKEN_PRICE
            for worker in group.workers:
                owed[worker.address] = owed.get(worker.address, 0) + fee
        for worker in group.workers:
            (held,) = worker.store.best_vouchers()
            assert held.voucher.total == owed[worker.address]
