"""Sessions against workers that lie: each lie is named and not paid for, and nobody loses more than a window."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from eth_account import Account

from efedllm.chain.participants import Offer
from efedllm.client.api import Client
from efedllm.client.errors import ClientError, StoreError, Violation, WorkerFailed
from efedllm.client.generation import Generation
from efedllm.client.network import ChannelState
from efedllm.client.store import Store, store_path
from efedllm.protocol.messages import Credited, End, Failure, Opened, Token
from efedllm.protocol.objects import Receipt
from tests.client.memory import DOMAIN, MODEL_ID, TIMEOUTS, MemoryNetwork, client_on, spec_of
from tests.support.fake_worker import FakePath, FakeWorker, Lies, altered

LAYERS = [0, 2, 3, 5]
PROMPT = [(5 * at) % 1000 for at in range(150)]
TOKENS = [(at * 7919 + 1) % 1000 for at in range(200)]
WRONG = b"\xee" * 32


@dataclass
class Market:
    """A path of fake workers and a client before it."""

    path: FakePath
    network: MemoryNetwork
    client: Client

    @property
    def workers(self) -> list[FakeWorker]:
        return self.path.workers

    def generate(self, max_tokens: int = 60, prompt: list[int] = PROMPT, **options: object) -> Generation:
        return self.client.generate(prompt, max_tokens=max_tokens, **options)

    def losses(self) -> None:
        """No worker computed more than a window beyond what it was paid; the two books are equal."""
        for worker in self.workers:
            assert worker.worked - worker.paid <= worker.window
            assert self.client._payments.channel(worker.address)._book.total >= worker.paid


@asynccontextmanager
async def market(
    tmp_path: Path, layers: list[int] = LAYERS, tokens: list[int] = TOKENS, **options: object
) -> AsyncIterator[Market]:
    async with FakePath(DOMAIN, tokens, layers) as path:
        offers = [
            Offer(w.address, w.hot_key.address, MODEL_ID, w.url, w.hop.start, w.hop.end, 3, 10, 1) for w in path.workers
        ]
        network = MemoryNetwork(offers, spec_of(layers[-1], 1000, 4096))
        network.hot_keys = {w.address: w.hot_key.address for w in path.workers}
        signer = Account.create()
        path.session_key = signer.address
        async with client_on(network, tmp_path, signer, **options) as client:
            yield Market(path, network, client)


async def read(generation: Generation) -> list[int]:
    return [piece.token async for piece in generation]


def fee(positions: int, generated: int) -> int:
    return 3 * min(positions, len(PROMPT)) + 10 * generated


@pytest.mark.parametrize("layers", [[0, 5], [0, 2, 5], LAYERS], ids=["one", "two", "three"])
async def test_honest_path_is_paid_in_full(tmp_path: Path, layers: list[int]) -> None:
    async with market(tmp_path, layers) as m:
        generation = m.generate()
        assert await read(generation) == TOKENS[:60]
        assert generation.reason == "length"
        assert [share.cost for share in generation.shares] == [fee(150, 60)] * len(m.workers)
        for worker, share in zip(m.workers, generation.shares, strict=True):
            assert worker.paid == worker.worked == fee(150, 60)
            assert share.receipt is not None
            assert share.receipt.receipt.generated == 60
        m.losses()


async def test_stop_id_ends_the_answer(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        generation = m.generate(stop_ids=[TOKENS[16], 999])
        assert await read(generation) == TOKENS[:17]
        assert generation.reason == "stop"
        assert generation.cost == 3 * fee(150, 17)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 129])
async def test_prompts_of_every_shape(tmp_path: Path, count: int) -> None:
    async with market(tmp_path) as m:
        generation = m.generate(16, PROMPT[:count])
        assert await read(generation) == TOKENS[:16]
        assert generation.cost == 3 * (3 * count + 160)


async def test_a_wrong_signature_is_not_paid(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        stranger = Account.create()
        m.workers[1].lies = Lies(signer=stranger)
        with pytest.raises(Violation, match=f"signed by {stranger.address}, not by its hot key") as caught:
            await read(m.generate())
        assert caught.value.worker == m.workers[1].address
        assert [worker.paid for worker in m.workers] == [fee(64, 0), 0, 0]
        m.losses()


async def test_a_rotated_hot_key_is_accepted(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        new, asked = Account.create(), 0
        m.workers[1].lies = Lies(signer=new)
        before = m.network.hot_key

        async def hot_key(worker: str) -> str:
            nonlocal asked
            asked += 1
            return new.address if worker == m.workers[1].address and asked > 0 else await before(worker)

        m.network.hot_key = hot_key  # type: ignore[method-assign]
        assert await read(m.generate()) == TOKENS[:60]
        assert asked == 1


LIES: list[tuple[str, Callable[[Receipt], Receipt | None], str]] = [
    ("fee", lambda r: replace(r, fee=r.fee + 1), "receipt.fee is"),
    ("payer", lambda r: replace(r, payer="0x" + "12" * 20), "receipt.payer is"),
    ("prompt count", lambda r: replace(r, promptCount=1, fee=r.fee), "receipt.promptCount is"),
    ("other request", lambda r: replace(r, requestId=WRONG), "receipt.requestId is another"),
    ("other shard", lambda r: replace(r, shard=0), "its place is 1"),
    ("epoch", lambda r: replace(r, epoch=9), "epoch 9 of the channel"),
    ("link", lambda r: replace(r, upstream=WRONG), "is not the receipt of shard 0"),
    ("no link", lambda r: replace(r, upstream=bytes(32)), "receipt.upstream must be zero"),
    ("input root", lambda r: replace(r, inputRoot=WRONG), "received other rows than shard 0 committed to"),
    ("token root", lambda r: replace(r, tokenRoot=WRONG), "receipt.tokenRoot of shard 1 differs"),
    (
        "over-counting positions",
        lambda r: replace(r, positions=r.positions + 1, fee=r.fee + (3 if r.positions < 150 else 0)),
        "receipt.positions is|where 64 and 0 were due",
    ),
    (
        "over-counting tokens",
        lambda r: replace(r, positions=r.positions + 1, generated=r.generated + 1, fee=r.fee + 10),
        "where 150 and 1 were due",
    ),
]


@pytest.mark.parametrize(("lie", "message"), [case[1:] for case in LIES], ids=[case[0] for case in LIES])
async def test_a_lying_receipt_in_the_middle(
    tmp_path: Path, lie: Callable[[Receipt], Receipt | None], message: str
) -> None:
    async with market(tmp_path) as m:
        late = message.startswith("where 150")
        m.workers[1].lies = Lies(receipt=lambda r: lie(r) if r.generated or not late else r)
        with pytest.raises(Violation, match=message) as caught:
            await read(m.generate())
        assert caught.value.worker == m.workers[1].address
        before = fee(128, 0) if late else 0
        assert m.workers[0].paid <= fee(150, 16)
        assert m.workers[1].paid == before
        assert m.workers[2].paid <= before
        m.losses()


async def test_evidence_is_kept(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        m.workers[1].lies = Lies(receipt=altered(inputRoot=WRONG))
        generation = m.generate()
        with pytest.raises(Violation):
            await read(generation)
        assert generation.request_id is not None
        ((worker, reason, receipts),) = m.client._store.evidence(generation.request_id)
        assert worker == m.workers[1].address
        assert "received other rows" in reason
        assert receipts[-1][0].inputRoot == WRONG
        past = m.client._store.request(generation.request_id)
        assert past is not None
        assert past.state == "failed"


async def test_first_shard_that_committed_to_other_inputs(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        m.workers[0].lies = Lies(receipt=altered(inputRoot=WRONG))
        with pytest.raises(Violation, match="the inputRoot of its receipt") as caught:
            await read(m.generate())
        assert caught.value.worker == m.workers[0].address
        assert [worker.paid for worker in m.workers] == [fee(128, 0)] * 3
        m.losses()


async def test_last_shard_that_committed_to_other_outputs(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        m.workers[2].lies = Lies(receipt=altered(outputRoot=WRONG))
        with pytest.raises(Violation, match="the outputRoot of its receipt") as caught:
            await read(m.generate())
        assert caught.value.worker == m.workers[2].address
        assert m.workers[2].paid == fee(128, 0)
        m.losses()


async def test_first_shard_with_a_wrong_token_root_is_named_by_the_refusal_of_the_next(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        m.workers[0].lies = Lies(receipt=altered(tokenRoot=WRONG))
        with pytest.raises(Violation, match="speaks of other tokens than were shown") as caught:
            await read(m.generate())
        assert caught.value.worker == m.workers[0].address
        assert m.workers[0].paid == fee(128, 0)
        assert all(worker.paid <= fee(128, 0) for worker in m.workers)
        m.losses()


@pytest.mark.parametrize("layers", [[0, 5], [0, 2, 5], LAYERS], ids=["one", "two", "three"])
async def test_other_tokens_shown_than_signed(tmp_path: Path, layers: list[int]) -> None:
    async with market(tmp_path, layers) as m:
        last = m.workers[-1]
        last.lies = Lies(token=lambda t: [replace(t, token=t.token + 1) if t.position == 160 else t])
        with pytest.raises(Violation, match="showed other tokens than it signed for") as caught:
            await read(m.generate())
        assert caught.value.worker == last.address
        assert last.paid == fee(150, 1)
        assert all(worker.paid - last.paid <= worker.window for worker in m.workers)
        m.losses()


async def test_tokens_that_nobody_signs_for(tmp_path: Path) -> None:
    """The last worker shows other tokens and then signs for neither."""
    async with market(tmp_path, timeouts=replace(TIMEOUTS, receipt=1)) as m:
        m.workers[2].lies = Lies(
            token=lambda t: [replace(t, token=t.token + 1) if t.position == 160 else t],
            receipt=lambda r: r if r.generated < 16 else None,
        )
        with pytest.raises(Violation, match="signed for neither") as caught:
            await read(m.generate())
        assert caught.value.worker == m.workers[2].address
        assert all(worker.paid == fee(150, 1) for worker in m.workers)
        m.losses()


@pytest.mark.parametrize("shard", [0, 1, 2])
async def test_silence_about_receipts(tmp_path: Path, shard: int) -> None:
    async with market(tmp_path, timeouts=replace(TIMEOUTS, receipt=1)) as m:
        m.workers[shard].lies = Lies(receipt=lambda r: r if r.generated < 16 else None)
        with pytest.raises(Violation, match="sent no receipt for 165 positions and 16 tokens") as caught:
            await read(m.generate())
        assert caught.value.worker == m.workers[shard].address
        assert m.workers[shard].paid == fee(150, 1)
        m.losses()


@pytest.mark.parametrize("shard", [0, 1])
async def test_a_prompt_that_gets_stuck_is_paid_by_one_receipt(tmp_path: Path, shard: int) -> None:
    """A worker signs for all of a long prompt, and nobody behind it for any: it may have kept its rows to itself."""
    async with market(tmp_path, timeouts=replace(TIMEOUTS, stall=3)) as m:
        m.workers[shard + 1].lies = Lies(receipt=lambda r: None)
        with pytest.raises(WorkerFailed, match="no token came"):
            await read(m.generate(prompt=[(5 * at) % 1000 for at in range(640)]))
        assert [worker.paid for worker in m.workers[: shard + 1]] == [fee(64, 0)] * (shard + 1)
        m.losses()


async def test_receipts_ahead_of_the_tokens(tmp_path: Path) -> None:
    """The last worker withholds tokens that everybody signs for."""
    async with market(tmp_path, timeouts=replace(TIMEOUTS, receipt=1)) as m:
        m.workers[2].lies = Lies(token=lambda t: [t] if t.position < 160 else [])
        with pytest.raises(Violation, match="signed for 16 tokens, 10 were shown"):
            await read(m.generate())
        assert all(worker.paid == fee(150, 1) for worker in m.workers)
        m.losses()


TOKEN_LIES: list[tuple[str, Callable[[Token], list[object]], str]] = [
    ("position", lambda t: [replace(t, position=t.position + 1)], "where 150 was due"),
    ("vocabulary", lambda t: [replace(t, token=1000)], "outside the vocabulary of 1000"),
    ("reason", lambda t: [replace(t, reason="bored")], "gave the reason 'bored'"),
    ("stop without a stop id", lambda t: [replace(t, reason="stop")], "gave the reason 'stop'"),
    ("past a stop id", lambda t: [replace(t, token=999, reason="")], "gave the reason ''"),
    ("past the last", lambda t: [replace(t, reason="length"), t], "after the last one"),
    ("past all", lambda t: [replace(t, reason="")], "goes on after all 60 tokens"),
    ("another request", lambda t: [replace(t, request_id=WRONG)], "a message of another request"),
    ("a message between workers", lambda t: [End(t.request_id, 1, [], "")], r"no client expects \(End\)"),
    ("a second answer", lambda t: [Opened(t.request_id, 0, 0, 0)], r"no client expects \(Opened\)"),
]


@pytest.mark.parametrize(("lie", "message"), [case[1:] for case in TOKEN_LIES], ids=[case[0] for case in TOKEN_LIES])
async def test_tokens_that_cannot_be(tmp_path: Path, lie: Callable[[Token], list[object]], message: str) -> None:
    async with market(tmp_path) as m:
        m.workers[2].lies = Lies(token=lie)  # type: ignore[arg-type]
        with pytest.raises(Violation, match=message) as caught:
            await read(m.generate(stop_ids=[999]))
        assert caught.value.worker == m.workers[2].address
        m.losses()


async def test_credit_for_another_sum(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        m.workers[1].lies = Lies(credited=lambda total: total - 1)
        with pytest.raises(Violation, match="it credits 191 base units for a voucher of 192"):
            await read(m.generate())
        m.losses()


async def test_credit_that_was_not_paid_for(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        m.workers[2].lies = Lies(token=lambda t: [Credited(t.request_id, 10**6), t])
        with pytest.raises(Violation, match=r"credits a voucher that was not sent|it credits 1000000 base units"):
            await read(m.generate())
        m.losses()


async def test_a_refusal_is_told_and_nothing_is_owed(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        m.workers[1].lies = Lies(opened=lambda o: Failure(o.request_id, "request", "not\ntoday"))
        with pytest.raises(WorkerFailed, match=f"worker {m.workers[1].address}: not today"):
            await read(m.generate())
        assert [worker.paid for worker in m.workers] == [0, 0, 0]


async def test_silence_at_the_door(tmp_path: Path) -> None:
    async with market(tmp_path, timeouts=replace(TIMEOUTS, open=1)) as m:
        m.workers[1].lies = Lies(opened=lambda _: None)
        with pytest.raises(WorkerFailed, match=r"did not accept the request within 1 s"):
            await read(m.generate())


async def test_a_wrong_answer_at_the_door(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        m.workers[1].lies = Lies(opened=lambda o: Credited(o.request_id, 1))
        with pytest.raises(Violation, match="did not answer the request"):
            await read(m.generate())


async def test_no_tokens(tmp_path: Path) -> None:
    async with market(tmp_path, timeouts=replace(TIMEOUTS, stall=1)) as m:
        m.workers[2].lies = Lies(token=lambda _: [], receipt=lambda r: None if r.generated else r)
        m.workers[0].lies = m.workers[1].lies = Lies(receipt=lambda r: None if r.generated else r)
        with pytest.raises(WorkerFailed, match=r"no token came for 1 s"):
            await read(m.generate())
        m.losses()


async def test_a_broken_connection(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        m.workers[1].lies = Lies(hang_up_after=4)
        with pytest.raises(WorkerFailed, match="closed the connection"):
            await read(m.generate())
        m.losses()


async def test_leaving_early_pays_what_was_signed(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        generation = m.generate(200)
        async for piece in generation:
            if piece.token == TOKENS[20]:
                break
        await generation.aclose()
        assert all(worker.paid == worker.worked for worker in m.workers)
        assert generation.reason == ""
        assert generation.request_id is not None
        past = m.client._store.request(generation.request_id)
        assert past is not None
        assert past.state == "cancelled"
        assert past.generated[:20] == TOKENS[:20]


async def test_cancelled_task_pays_what_was_signed(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        started = asyncio.Event()

        async def consume() -> None:
            async for _ in m.generate(200):
                started.set()
                await asyncio.sleep(0)

        task = asyncio.create_task(consume())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await m.client.__aexit__(None, None, None)
        assert all(worker.paid == worker.worked for worker in m.workers)


async def test_a_generation_is_iterated_once(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        generation = m.generate(5)
        await read(generation)
        with pytest.raises(ClientError, match="iterated once"):
            await read(generation)


# channels over several requests


async def test_a_voucher_that_was_never_credited_is_sent_again(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        m.workers[1].lies = Lies(swallow_payment=3)
        with pytest.raises(WorkerFailed):
            await read(m.generate())
        channel = m.client._payments.channel(m.workers[1].address)
        assert channel._book.total > m.workers[1].paid
        m.workers[1].lies = Lies()
        generation = m.generate()
        assert await read(generation) == TOKENS[:60]
        assert m.workers[1].paid == channel._book.total
        assert m.workers[1].memory.book is not None
        assert m.workers[1].memory.book.leaves == channel._book.leaves


async def test_it_is_sent_again_by_the_next_program_too(tmp_path: Path) -> None:
    signer = Account.create()
    async with market(tmp_path) as m:
        m.path.session_key = signer.address
        m.workers[1].lies = Lies(swallow_payment=3)
        await m.client.__aexit__(None, None, None)
        async with client_on(m.network, tmp_path, signer) as first:
            with pytest.raises(WorkerFailed):
                await read(first.generate(PROMPT, max_tokens=60))
        m.workers[1].lies = Lies()
        async with client_on(m.network, tmp_path, signer) as second:
            assert await read(second.generate(PROMPT, max_tokens=60)) == TOKENS[:60]
        assert m.workers[1].memory.book is not None
        leaves = m.workers[1].memory.book.leaves
        assert m.workers[1].paid == leaves[-1].after


async def test_a_worker_that_names_a_voucher_that_was_never_signed(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        m.workers[1].lies = Lies(opened=lambda o: replace(o, total=12345))
        with pytest.raises(Violation, match="it names vouchers of 12345 base units, and shows none"):
            await read(m.generate())
        assert [worker.paid for worker in m.workers] == [0, 0, 0]


async def test_a_worker_in_another_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efedllm.client.api.TRY_AGAIN_SECONDS", 0)
    async with market(tmp_path) as m:
        m.workers[1].lies = Lies(opened=lambda o: replace(o, epoch=3))
        with pytest.raises(WorkerFailed, match="it sees epoch 3 of the channel, we 0"):
            await read(m.generate())


async def test_a_closed_channel_begins_anew(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        await read(m.generate())
        for worker in m.workers:
            m.network.channels[worker.address, m.path.session_key] = ChannelState(0, 0, False, 1)
            worker.epoch, worker.memory.book = 1, None
        generation = m.generate()
        await read(generation)
        assert all(worker.paid == fee(150, 60) for worker in m.workers)
        assert len(m.network.fundings) == 2


async def test_one_data_directory_pays_from_one_program(tmp_path: Path) -> None:
    async with market(tmp_path) as m:
        with pytest.raises(StoreError, match=r"another program \(process \d+\) uses"):
            Store(store_path(tmp_path, DOMAIN.chain_id, DOMAIN.verifying_contract))
        assert await read(m.generate(5)) == TOKENS[:5]
