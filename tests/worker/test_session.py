"""A request over one to three workers: the tokens of one process, receipts that link, vouchers that pay for them."""

from pathlib import Path

import pytest

from efedllm.model.generate import generate
from efedllm.model.load import load
from efedllm.model.shard import Shard
from efedllm.numerics.backend import select
from efedllm.numerics.sampling_parameters import SamplingParameters
from efedllm.protocol import eip712
from efedllm.protocol.objects import Sampling
from efedllm.protocol.receipts import check_link, check_shape, check_tokens
from tests.worker.network import DOMAIN, PROMPT_PRICE, TOKEN_PRICE, WorkerGroup
from tests.worker.payer import Payer, ask

PROMPT = [(7 * at) % 256 for at in range(150)]
SPLITS = [[(0, 3)], [(0, 1), (1, 3)], [(0, 1), (1, 2), (2, 3)]]


def alone(built: Path, prompt: list[int], max_tokens: int, stop_ids: tuple[int, ...] = ()) -> list[int]:
    shard = Shard(load(built), select("exact"))
    return list(generate(shard, prompt, max_tokens, SamplingParameters(65536), b"\x07" * 32, stop_ids))


@pytest.mark.parametrize("ranges", SPLITS, ids=["one", "two", "three"])
async def test_tokens_equal_one_process_and_everything_links(
    built: Path, tmp_path: Path, ranges: list[tuple[int, int]]
) -> None:
    payer = Payer()
    async with WorkerGroup(built, ranges, tmp_path) as group:
        group.open_channels(payer.account.address, payer.session.address)
        request = payer.request([worker.hop for worker in group.workers], PROMPT, 40)
        answer = await ask(group, payer, request, PROMPT)
        assert answer.tokens == alone(built, PROMPT, 40)
        assert answer.reason == "length"
        fee = len(PROMPT) * PROMPT_PRICE + 40 * TOKEN_PRICE
        request_id = eip712.digest(DOMAIN, request)
        previous = None
        for worker in group.workers:
            receipts = [receipt for receipt, _ in answer.receipts[worker.address]]
            assert [(r.positions, r.generated) for r in receipts] == [
                (64, 0),
                (128, 0),
                (150, 1),
                (165, 16),
                (181, 32),
                (189, 40),
            ]
            for receipt, signature in answer.receipts[worker.address]:
                check_shape(request, request_id, receipt)
                check_tokens(request, receipt, PROMPT, answer.tokens)
                assert eip712.recover(DOMAIN, receipt, signature) == worker.hot_key.address
            if previous is not None:
                for mine, theirs in zip(receipts, previous, strict=True):
                    check_link(theirs, eip712.digest(DOMAIN, theirs), mine)
            previous = receipts
            assert receipts[-1].fee == answer.books[worker.address].total == fee
            (held,) = worker.store.best_vouchers()
            assert held.voucher.total == fee
            record = worker.store.record(request_id)
            assert record is not None
            assert record.generated == answer.tokens
            before = [] if worker.hop.start == 0 else [receipt.upstream for receipt in receipts]
            assert {eip712.digest(DOMAIN, receipt) for receipt, _ in record.upstream} == set(before)
            hidden = worker.context.hidden
            assert len(record.rows) == (0 if worker.hop.start == 0 else 4 * hidden * 189)


async def test_stop_id_ends_and_is_paid(built: Path, tmp_path: Path) -> None:
    free_run = alone(built, PROMPT, 40)
    stop = free_run[20]
    expected = free_run[: free_run.index(stop) + 1]
    payer = Payer()
    async with WorkerGroup(built, SPLITS[1], tmp_path) as group:
        group.open_channels(payer.account.address, payer.session.address)
        request = payer.request([w.hop for w in group.workers], PROMPT, 40, stopIds=(stop,))
        answer = await ask(group, payer, request, PROMPT)
    assert answer.tokens == expected
    assert answer.reason == "stop"
    for book in answer.books.values():
        assert book.total == len(PROMPT) * PROMPT_PRICE + len(expected) * TOKEN_PRICE


async def test_second_request_continues_the_channel(built: Path, tmp_path: Path) -> None:
    payer = Payer()
    async with WorkerGroup(built, SPLITS[1], tmp_path) as group:
        group.open_channels(payer.account.address, payer.session.address)
        path = [w.hop for w in group.workers]
        first = await ask(group, payer, payer.request(path, PROMPT[:5], 3), PROMPT[:5])
        greedy = payer.request(path, PROMPT[:9], 20, sampling=Sampling(0, 0, 65536))
        second = await ask(group, payer, greedy, PROMPT[:9], first.books)
        for worker in group.workers:
            (held,) = worker.store.best_vouchers()
            leaves = worker.store.leaves_under(held.voucher.receiptsRoot)
            assert leaves is not None
            assert [leaf.after - leaf.before for leaf in leaves] == [
                5 * PROMPT_PRICE + 3 * TOKEN_PRICE,
                9 * PROMPT_PRICE + 20 * TOKEN_PRICE,
            ]
            restored = worker.store.book(payer.account.address, payer.session.address, worker.address, 1)
            assert restored.leaves == second.books[worker.address].leaves


async def test_prompt_of_one_token_and_one_answer(built: Path, tmp_path: Path) -> None:
    payer = Payer()
    async with WorkerGroup(built, SPLITS[2], tmp_path) as group:
        group.open_channels(payer.account.address, payer.session.address)
        answer = await ask(group, payer, payer.request([w.hop for w in group.workers], [5], 1), [5])
    assert answer.tokens == alone(built, [5], 1)
