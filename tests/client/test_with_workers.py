"""The SDK against real workers on real sockets: the same tokens as one process, money in equals money out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from eth_account import Account

from efedllm.chain.participants import Offer
from efedllm.client.api import Client
from efedllm.client.errors import WorkerFailed
from efedllm.client.generation import Generation
from efedllm.client.network import ChannelState, Top
from efedllm.client.peer import Peer
from efedllm.model.format import Manifest
from efedllm.model.generate import generate
from efedllm.model.load import load, read_manifest
from efedllm.model.shard import Shard
from efedllm.numerics.backend import select
from efedllm.numerics.sampling_parameters import SamplingParameters
from efedllm.protocol.messages import Message, Payment
from tests.client.memory import MemoryNetwork, client_on, spec_of
from tests.worker import network as workers
from tests.worker.network import PROMPT_PRICE, TOKEN_PRICE, WorkerGroup

PROMPT = [(7 * at) % 256 for at in range(150)]
SPLITS = [[(0, 3)], [(0, 1), (1, 3)], [(0, 1), (1, 2), (2, 3)]]
SEED = 7


class JoinedNetwork(MemoryNetwork):
    """One memory for both sides: what the client funds, the workers see."""

    group: WorkerGroup

    async def fund(self, session_key: str, tops: "list[Top]") -> None:  # type: ignore[override]
        await super().fund(session_key, tops)
        for top in tops:
            state = await self.channel(top.worker, session_key)
            self.group.chain.channels[self.payer, top.worker, session_key] = workers.ChannelState(
                state.deposit, state.claimed, state.closing, state.epoch
            )


def join(group: WorkerGroup, manifest: Manifest) -> JoinedNetwork:
    offers = [
        Offer(
            w.address, w.hot_key.address, workers.MODEL_ID, w.url, w.hop.start, w.hop.end, PROMPT_PRICE, TOKEN_PRICE, 1
        )
        for w in group.workers
    ]
    d = manifest.dimensions
    network = JoinedNetwork(offers, spec_of(d.layers, d.vocab, d.context))
    network.group = group
    network.hot_keys = {w.address: w.hot_key.address for w in group.workers}
    return network


def alone(built: Path, prompt: list[int], max_tokens: int) -> list[int]:
    shard = Shard(load(built), select("exact"))
    return list(generate(shard, prompt, max_tokens, SamplingParameters(65536), SEED.to_bytes(32), ()))


async def read(generation: Generation) -> list[int]:
    return [piece.token async for piece in generation]


@asynccontextmanager
async def running(
    built: Path, tmp_path: Path, ranges: list[tuple[int, int]], **options: object
) -> AsyncIterator[tuple[WorkerGroup, JoinedNetwork, Client]]:
    async with WorkerGroup(built, ranges, tmp_path / "workers") as group:
        network = join(group, read_manifest(built))
        async with client_on(network, tmp_path / "client", **options) as client:
            yield group, network, client


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()


@pytest.mark.parametrize("ranges", SPLITS, ids=["one", "two", "three"])
async def test_the_answer_is_that_of_one_process_and_is_paid(
    built: Path, tmp_path: Path, ranges: list[tuple[int, int]]
) -> None:
    async with running(built, tmp_path, ranges) as (group, network, client):
        generation = client.generate(PROMPT, max_tokens=40, temperature=1.0, seed=SEED)
        assert await read(generation) == alone(built, PROMPT, 40)
        assert generation.reason == "length"
        fee = len(PROMPT) * PROMPT_PRICE + 40 * TOKEN_PRICE
        assert [share.cost for share in generation.shares] == [fee] * len(ranges)
        assert generation.cost == fee * len(ranges)
        assert len(network.fundings) == 1
        for worker, share in zip(group.workers, generation.shares, strict=True):
            (held,) = worker.store.best_vouchers()
            assert held.voucher.total == fee
            assert share.receipt is not None
            assert share.receipt.receipt.fee == fee
        # A second request uses the same channels and grows the same books.
        again = client.generate(PROMPT[:20], max_tokens=5, temperature=1.0, seed=SEED)
        assert await read(again) == alone(built, PROMPT[:20], 5)
        assert len(network.fundings) == 1
        (held,) = group.workers[0].store.best_vouchers()
        assert (held.voucher.count, held.voucher.total) == (2, fee + 20 * PROMPT_PRICE + 5 * TOKEN_PRICE)


async def test_requests_at_once_share_the_channels(built: Path, tmp_path: Path) -> None:
    async with running(built, tmp_path, SPLITS[1]) as (group, _, client):
        prompts = [PROMPT[: 30 + at] for at in range(3)]
        answers = await asyncio.gather(
            *(read(client.generate(prompt, max_tokens=20, temperature=1.0, seed=SEED)) for prompt in prompts)
        )
        assert answers == [alone(built, prompt, 20) for prompt in prompts]
        fee = sum(len(prompt) * PROMPT_PRICE + 20 * TOKEN_PRICE for prompt in prompts)
        for worker in group.workers:
            (held,) = worker.store.best_vouchers()
            assert held.voucher.total == fee


async def test_a_new_client_goes_on_with_the_same_channel(built: Path, tmp_path: Path) -> None:
    signer = Account.create()
    async with running(built, tmp_path, SPLITS[0], signer=signer) as (group, network, client):
        await read(client.generate(PROMPT, max_tokens=20))
        await client.__aexit__(None, None, None)
        async with client_on(network, tmp_path / "client", signer) as other:
            generation = other.generate(PROMPT, max_tokens=20)
            await read(generation)
            assert generation.reason
        (held,) = group.workers[0].store.best_vouchers()
        assert held.voucher.count == 2


async def test_leaving_early_pays_what_was_delivered(built: Path, tmp_path: Path) -> None:
    async with running(built, tmp_path, SPLITS[1]) as (group, _, client):
        generation = client.generate(PROMPT[:20], max_tokens=100)
        pieces = aiter(generation)
        for _ in range(3):
            await anext(pieces)
        await generation.aclose()
        assert generation.cost >= 3
        for worker, share in zip(group.workers, generation.shares, strict=True):
            (held,) = worker.store.best_vouchers()
            assert share.receipt is not None
            assert held.voucher.total == share.cost == share.receipt.receipt.fee
            assert 3 <= share.receipt.receipt.generated < 100
        assert generation.reason == ""


async def test_a_voucher_that_was_signed_but_never_sent_is_sent_by_the_next_request(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(built, tmp_path, SPLITS[1]) as (group, _, client):
        send, payments = Peer.send, 0

        async def break_at_the_third_payment(peer: Peer, message: Message) -> None:
            nonlocal payments
            payments += isinstance(message, Payment)
            if isinstance(message, Payment) and payments == 3:
                await peer.close()
            await send(peer, message)

        monkeypatch.setattr(Peer, "send", break_at_the_third_payment)
        with pytest.raises(WorkerFailed):
            await read(client.generate(PROMPT, max_tokens=40))
        generation = client.generate(PROMPT, max_tokens=20)
        await read(generation)
        for worker in group.workers:
            (held,) = worker.store.best_vouchers()
            assert held.voucher.total == client._payments.channel(worker.address)._book.total
            assert held.voucher.total > generation.shares[0].cost


async def test_a_worker_that_is_gone_is_avoided(built: Path, tmp_path: Path) -> None:
    async with running(built, tmp_path, [(0, 3), (0, 3)]) as (_, network, client):
        first = min(network.offered, key=lambda offer: offer.worker.lower())
        at = network.offered.index(first)
        network.offered[at] = Offer(**{**vars(first), "endpoint": "http://127.0.0.1:9"})
        generation = client.generate(PROMPT, max_tokens=5)
        await read(generation)
        (share,) = generation.shares
        assert share.worker == network.offered[1 - at].worker
        assert [top.worker for tops in network.fundings for top in tops] == [share.worker]


async def test_deposit_that_the_worker_does_not_see(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("efedllm.client.api.TRY_AGAIN_SECONDS", 0)
    async with running(built, tmp_path, SPLITS[0]) as (group, network, client):
        (worker,) = group.workers
        key = (worker.address, str(client._signer.address))
        network.channels[key] = ChannelState(10**6, 0, False, 0)
        with pytest.raises(Exception, match="no deposit"):
            await read(client.generate(PROMPT, max_tokens=5))
