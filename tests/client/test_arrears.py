"""What requests left unpaid is paid later: the decision as a table and by property, the doing with real workers."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from efedllm.client.api import Client
from efedllm.client.arrears import Owing, Unpayable, payable
from efedllm.client.checking import Approved, Party
from efedllm.client.errors import Violation, WorkerFailed
from efedllm.client.store import PastRequest
from efedllm.model.load import read_manifest
from efedllm.protocol import eip712
from efedllm.protocol.merkle import token_leaf, tree_root
from efedllm.protocol.messages import Message, Signed
from efedllm.protocol.objects import KIND_INFERENCE, Hop, Receipt, Request, Sampling
from efedllm.protocol.pricing import CHUNK_POSITIONS, fee_of, is_due, window_of
from efedllm.protocol.receipts import Progress, receipt_for
from efedllm.protocol.records import Record
from efedllm.protocol.values import ZERO_HASH
from tests.client.memory import DOMAIN, MODEL_ID, client_on
from tests.client.test_with_workers import JoinedNetwork, join, read
from tests.worker.network import CREDIT_TOKENS, RunningWorker, WorkerGroup
from worker.account import Account as WorkerAccount
from worker.errors import SessionError
from worker.session import Session as WorkerSession

KEYS = [Account.from_key(bytes([at + 1]) * 32) for at in range(3)]
STRANGER = Account.from_key(b"\x77" * 32)
WORKERS = ["0x" + f"{at + 1:02d}" * 20 for at in range(3)]
EPOCH = 4
PROMPT = [(3 * at) % 50 for at in range(100)]
TOKENS = [(7 * at + 1) % 50 for at in range(60)]
HOPS = tuple(Hop(worker, at, at + 1, 3, 10) for at, worker in enumerate(WORKERS))
REQUEST = Request(
    payer="0x" + "99" * 20,
    nonce=1,
    expiry=1,
    kind=KIND_INFERENCE,
    modelId=MODEL_ID,
    path=HOPS,
    promptRoot=b"\x05" * 32,
    promptCount=len(PROMPT),
    maxTokens=50,
    stopIds=(),
    seed=bytes(32),
    sampling=Sampling(0, 0, 65536),
)
REQUEST_ID = eip712.digest(DOMAIN, REQUEST)
ENOUGH = 10**6


def receipts_of(
    shard: int, up_to: int, tokens: Sequence[int] = TOKENS, prompt: Sequence[int] = PROMPT
) -> list[tuple[Receipt, bytes]]:
    """What an honest worker signs until there are `up_to` tokens, the last one included."""
    counts = [(at, 0) for at in range(CHUNK_POSITIONS, len(prompt), CHUNK_POSITIONS)]
    counts += [
        (len(prompt) + generated - 1, generated)
        for generated in range(1, up_to + 1)
        if generated == up_to or is_due(len(prompt), len(prompt) + generated - 1, generated)
    ]
    signed = []
    for positions, generated in counts:
        leaves = [token_leaf(token) for token in [*prompt, *tokens[:generated]]]
        inputs = tree_root(leaves[:positions]) if shard == 0 else bytes([shard, positions]) * 16
        outputs = tree_root(leaves[len(prompt) :]) if shard == len(HOPS) - 1 else bytes([shard + 1, positions]) * 16
        progress = Progress(positions, generated, tree_root(leaves), inputs, outputs)
        upstream = ZERO_HASH
        if shard:
            (before,) = [one for one, _ in receipts_of(shard - 1, up_to, tokens, prompt) if one.positions == positions]
            upstream = eip712.digest(DOMAIN, before)
        receipt = receipt_for(REQUEST, REQUEST_ID, shard, EPOCH, progress, upstream)
        signed.append((receipt, eip712.sign(DOMAIN, receipt, KEYS[shard])))
    return signed


def record_of(shard: int, up_to: int, tokens: Sequence[int] = TOKENS) -> Record:
    upstream = receipts_of(shard - 1, up_to, tokens) if shard else []
    return Record(
        REQUEST, bytes(65), bytes(32), PROMPT, list(tokens[:up_to]), receipts_of(shard, up_to, tokens), b"", upstream
    )


def owing(seen: int | None = None, paid: Sequence[tuple[Receipt, bytes]] = (), accused: Sequence[str] = ()) -> Owing:
    """`seen`: how many tokens were shown; None: the client was killed and does not know."""
    state, generated = ("open", []) if seen is None else ("failed", TOKENS[:seen])
    return Owing(REQUEST_ID, PastRequest(REQUEST, PROMPT, list(generated), state, list(paid)), frozenset(accused))


def decide(
    what: Owing, record: Record, shard: int, covered: int = 0, allowance: int = ENOUGH, **changes: Any
) -> Approved | None:
    party = replace(Party(WORKERS[shard], KEYS[shard].address, EPOCH), **changes)
    upstream = KEYS[shard - 1].address if shard else ""
    return payable(DOMAIN, what, party, upstream, record, covered, allowance)


def fee(generated: int, positions: int | None = None) -> int:
    at = len(PROMPT) + generated - 1 if positions is None else positions
    return fee_of(HOPS[0], len(PROMPT), at, generated)


@pytest.mark.parametrize("shard", [0, 1, 2])
def test_an_honest_record_is_paid(shard: int) -> None:
    """After a kill, and where everything was seen."""
    for what in (owing(), owing(20)):
        approved = decide(what, record_of(shard, 20), shard)
        assert approved is not None
        assert (approved.shard, approved.receipt) == (shard, receipts_of(shard, 20)[-1][0])
        assert approved.digest == eip712.digest(DOMAIN, approved.receipt)
        assert approved.receipt.fee == fee(20)


def test_what_is_paid_is_not_paid_again() -> None:
    assert decide(owing(), record_of(1, 20), 1, covered=fee(20)) is None
    assert decide(owing(), record_of(1, 20), 1, covered=fee(30)) is None


@pytest.mark.parametrize(
    ("allowance", "expected"),
    [
        (0, None),
        (191, None),
        (192, 192),
        (fee(1), fee(1)),
        (fee(16) - 1, fee(1)),
        (fee(16), fee(16)),
        (ENOUGH, fee(20)),
    ],
)
def test_never_more_than_is_allowed(allowance: int, expected: int | None) -> None:
    approved = decide(owing(), record_of(0, 20), 0, allowance=allowance)
    assert (approved and approved.receipt.fee) == expected


def test_the_last_worker_is_paid_for_what_it_showed() -> None:
    """The others cannot know what that was; and where nothing is known any more, the record counts."""
    assert [one and one.receipt.generated for one in (decide(owing(18), record_of(at, 40), at) for at in range(3))] == [
        40, 40, 16,
    ]  # fmt: skip
    assert decide(owing(0), record_of(2, 1), 2) == decide(owing(0), record_of(2, 1), 2, allowance=192)


def altered(by: int, key: Any = None, **changes: Any) -> Record:
    """The last receipt of the worker at `by` says something else, under a signature that fits."""
    record = record_of(by, 20)
    receipt = replace(record.receipts[-1][0], **changes)
    signature = eip712.sign(DOMAIN, receipt, key or KEYS[by])
    return replace(record, receipts=[*record.receipts[:-1], (receipt, signature)])


OTHER = [9, *TOKENS[1:]]
INVENTED: list[tuple[str, int, Record, str]] = [
    ("a higher fee", 1, altered(1, fee=fee(20) + 1), "receipt.fee is"),
    ("another request", 1, altered(1, requestId=b"\x01" * 32), "requestId is another"),
    ("another payer", 1, altered(1, payer=WORKERS[0]), "receipt.payer is"),
    ("another worker's share", 1, altered(1, shard=2), "receipt.worker is"),
    ("another epoch", 1, altered(1, epoch=3), "epoch 3"),
    ("more than was asked for", 1, record_of(1, 51), "exceeds maxTokens"),
    ("another prompt", 0, altered(0, promptCount=99, fee=fee(20)), "promptCount is"),
    ("other tokens than it tells", 1, replace(record_of(1, 20), generated=OTHER[:20]), "tokenRoot"),
    ("fewer tokens than it signed for", 1, replace(record_of(1, 20), generated=TOKENS[:19]), "exceeds the 19"),
    ("other tokens than were shown", 1, record_of(1, 20, OTHER), "other tokens than were shown"),
    ("other inputs", 0, altered(0, inputRoot=b"\x01" * 32), "inputRoot"),
    ("other outputs", 2, altered(2, outputRoot=b"\x01" * 32), "outputRoot"),
    ("a stranger's signature", 1, altered(1, key=STRANGER), "its hot key did not sign"),
    ("no link", 1, altered(1, upstream=b"\x01" * 32), "is not there"),
    ("no upstream receipt", 1, replace(record_of(1, 20), upstream=[]), "is not there"),
    ("other rows than it was sent", 1, altered(1, inputRoot=b"\x01" * 32), "received other rows"),
    (
        "an upstream receipt of its own making",
        1,
        replace(record_of(1, 20), upstream=[(one, eip712.sign(DOMAIN, one, KEYS[1])) for one, _ in receipts_of(0, 20)]),
        "the worker before it did not sign",
    ),
]


@pytest.mark.parametrize(("shard", "record", "reason"), [one[1:] for one in INVENTED], ids=[one[0] for one in INVENTED])
def test_an_invented_record_is_paid_nothing(shard: int, record: Record, reason: str) -> None:
    with pytest.raises(Unpayable, match=reason):
        decide(owing(20), record, shard)


def test_tokens_that_differ_from_those_of_a_paid_receipt() -> None:
    """After a kill, the receipts that were paid are what is known of the tokens."""
    paid = receipts_of(2, 16)[-1:]
    with pytest.raises(Unpayable, match="tokenRoot"):
        decide(owing(paid=paid), record_of(1, 20, OTHER), 1)
    assert decide(owing(paid=paid), record_of(1, 20), 1) is not None


def test_what_a_liar_showed_does_not_count_against_others() -> None:
    liar = WORKERS[2]
    assert decide(owing(20, accused=[liar]), record_of(1, 20, OTHER), 1) is not None
    with pytest.raises(Unpayable, match="other tokens"):
        decide(owing(20, accused=[WORKERS[0]]), record_of(1, 20, OTHER), 1)


CHANGES = st.sampled_from(
    [
        {},
        {"fee": 1},
        {"fee": ENOUGH},
        {"requestId": b"\x02" * 32},
        {"epoch": 9},
        {"shard": 0},
        {"generated": 50},
        {"positions": 1},
        {"tokenRoot": b"\x03" * 32},
        {"upstream": b"\x03" * 32},
        {"payer": WORKERS[0]},
        {"worker": WORKERS[0]},
    ]
)


@settings(max_examples=60)
@given(
    shard=st.integers(1, 2),
    up_to=st.integers(1, 50),
    seen=st.one_of(st.none(), st.integers(0, 50)),
    covered=st.one_of(st.just(0), st.integers(0, fee(50))),
    allowance=st.integers(0, 900),
    at=st.integers(-3, -1),
    changes=CHANGES,
)
def test_only_honest_receipts_within_the_allowance(
    shard: int, up_to: int, seen: int | None, covered: int, allowance: int, at: int, changes: dict[str, Any]
) -> None:
    record = record_of(shard, up_to)
    honest = [receipt for receipt, _ in record.receipts]
    if len(honest) >= -at:
        receipt = replace(honest[at], **changes)
        record.receipts[at] = (receipt, eip712.sign(DOMAIN, receipt, KEYS[shard]))
    try:
        approved = decide(owing(seen), record, shard, covered, allowance)
    except Unpayable:
        assert changes
        return
    limit = up_to if seen is None or shard < 2 else seen
    fees = [one.fee for one in honest if covered < one.fee <= covered + allowance and one.generated <= limit]
    if approved is None:
        assert changes or not fees
        return
    assert approved.receipt in honest
    assert 0 < approved.receipt.fee - covered <= allowance
    assert approved.receipt.fee in fees
    if not changes:
        assert approved.receipt.fee == max(fees)


# done


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()


def window(worker: RunningWorker) -> int:
    return window_of(worker.hop, CREDIT_TOKENS)


def check_books(group: WorkerGroup, client: Client) -> None:
    for worker in group.workers:
        (held,) = worker.store.best_vouchers()
        assert held.voucher.total == client._payments.channel(worker.address)._book.total


async def ended(group: WorkerGroup) -> None:
    """Every worker is through with every request, so that what is unpaid counts as arrears."""
    while any(worker.service.session_count for worker in group.workers):  # noqa: ASYNC110 - has no event
        await asyncio.sleep(0.01)


async def kill(client: Client) -> None:
    """As kill -9 leaves it, as far as one process can do that: nothing more is sent or kept."""
    for running in client._running:
        running.session._store = None  # type: ignore[assignment]
        running.task.cancel()
        running.session._end = _nothing  # type: ignore[method-assign,assignment]
    await asyncio.gather(*(running.task for running in client._running), return_exceptions=True)
    await client.__aexit__(None, None, None)


async def _nothing(*_: object) -> None:
    """In place of what a dead process does not do."""


def no_voucher(monkeypatch: pytest.MonkeyPatch) -> None:
    """None leaves the client any more; nothing is signed either, as where the process stands still."""

    async def wait(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("efedllm.client.payer.Payer._pay", wait)


async def killed_after_tokens(
    built: Path, tmp_path: Path, group: WorkerGroup, network: JoinedNetwork, signer: Any, tokens: int
) -> None:
    """A client takes tokens, pays for none, and dies."""
    with pytest.MonkeyPatch.context() as patch:
        no_voucher(patch)
        client = client_on(network, tmp_path / "client", signer)
        await client.__aenter__()
        generation = client.generate([1, 2, 3], max_tokens=100)
        pieces = aiter(generation)
        for _ in range(tokens):
            await anext(pieces)
        await kill(client)
    await ended(group)


@pytest.mark.parametrize("ranges", [[(0, 3)], [(0, 1), (1, 3)]], ids=["one", "two"])
async def test_a_client_that_was_killed_goes_on_with_its_channel(
    built: Path, tmp_path: Path, ranges: list[tuple[int, int]]
) -> None:
    signer = Account.create()
    async with WorkerGroup(built, ranges, tmp_path / "workers", voucher_seconds=10) as group:
        network = join(group, read_manifest(built))
        await killed_after_tokens(built, tmp_path, group, network, signer, 30)
        assert [worker.store.best_vouchers() for worker in group.workers] == [[] for _ in ranges]
        async with client_on(network, tmp_path / "client", signer) as client:
            generation = client.generate([1, 2, 3], max_tokens=20)
            await read(generation)
            assert generation.reason == "length"
            check_books(group, client)
            cost = generation.shares[0].cost
            paid = [client._payments.channel(worker.address).signed - cost for worker in group.workers]
            assert 0 < max(paid) <= window(group.workers[0])
            for worker in group.workers:
                assert client._store.arrears_paid(worker.address, str(signer.address), 0) == 0
            # Who did not ask for it is paid as well.
            done = await client.tend()
            assert done.problems == []
            for worker, before in zip(group.workers, paid, strict=True):
                assert 9 + 160 <= before + done.settled.get(worker.address, 0) <= window(worker)
            check_books(group, client)
        assert len(network.fundings) == 1


async def test_tending_pays_what_is_owed(built: Path, tmp_path: Path) -> None:
    signer = Account.create()
    async with WorkerGroup(built, [(0, 3)], tmp_path / "workers", voucher_seconds=10) as group:
        network = join(group, read_manifest(built))
        await killed_after_tokens(built, tmp_path, group, network, signer, 30)
        (worker,) = group.workers
        async with client_on(network, tmp_path / "client", signer) as client:
            done = await client.tend()
            assert done.problems == []
            assert list(done.settled) == [worker.address]
            (held,) = worker.store.best_vouchers()
            assert held.voucher.total == done.settled[worker.address] <= window(worker)
            assert (await client.tend()).settled == {}


async def test_a_worker_that_farms_gets_one_window(built: Path, tmp_path: Path) -> None:
    """It breaks every request off before its receipts, and serves nobody who has not paid for them. It gets a window
    in all, and is left alone then."""
    async with WorkerGroup(built, [(0, 3)], tmp_path / "workers") as group:
        network = join(group, read_manifest(built))
        (worker,) = group.workers
        async with client_on(network, tmp_path / "client") as client:
            with pytest.MonkeyPatch.context() as patch:
                farm(patch)
                refusals = 0
                for _ in range(40):
                    with pytest.raises(WorkerFailed) as caught:
                        await read(client.generate([1, 2, 3], max_tokens=100))
                    assert "\n" not in str(caught.value)
                    await ended(group)
                    refusals += caught.value.code == "credit"
                    if refusals == 3:
                        break
            key = (worker.address, str(client._signer.address), 0)
            paid = client._payments.channel(worker.address).signed
            assert paid == client._store.arrears_paid(*key) <= window(worker)
            assert window(worker) - paid < 100  # it was not far from a window
            print(f"\n    a worker that farms: paid {paid}, a window is {window(worker)}")
            await read(client.generate([1, 2, 3], max_tokens=5))  # honest again
            assert client._store.arrears_paid(*key) == 0


def farm(patch: pytest.MonkeyPatch) -> None:
    """What such a worker does."""
    tell = WorkerSession._tell_client

    async def break_off(self: WorkerSession, message: Message) -> None:
        if isinstance(message, Signed):
            if message.receipt.generated > 1:
                await self._client.close()
        else:
            await tell(self, message)

    def greedy(self: WorkerAccount, window: int, needed: int) -> None:
        if self.arrears > 100:
            raise SessionError("credit", "you owe me something of earlier requests")

    patch.setattr(WorkerSession, "_tell_client", break_off)
    patch.setattr(WorkerAccount, "check_credit", greedy)


async def test_an_honest_worker_is_paid_what_its_neighbour_kept_from_being_paid(built: Path, tmp_path: Path) -> None:
    """The last worker signs wrong receipts: the first one has delivered a window by the time that shows."""
    async with WorkerGroup(built, [(0, 1), (1, 3)], tmp_path / "workers") as group:
        network = join(group, read_manifest(built))
        honest, liar = group.workers
        async with client_on(network, tmp_path / "client") as client:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("worker.session.receipt_for", lies_about_outputs(liar.address))
                with pytest.raises(Violation) as caught:
                    await read(client.generate([1, 2, 3], max_tokens=100))
                assert caught.value.worker == liar.address
            await ended(group)
            record = honest.store.record(client._store.unsettled(honest.address, 1)[0])
            assert record is not None
            owed = record.receipts[-1][0].fee
            channel = client._payments.channel(honest.address)
            assert channel.signed < owed
            paid = await client._arrears.pay(network.offered[0])
            assert paid > 0
            assert channel.signed == owed
            assert honest.store.best_vouchers()[0].voucher.total == owed
            assert await client._arrears.pay(network.offered[1]) == 0
            assert client._payments.channel(liar.address).signed == 0
            generation = client.generate([1, 2, 3], max_tokens=5)
            await read(generation)
            assert generation.reason == "length"


def lies_about_outputs(liar: str) -> Callable[..., Receipt]:
    def receipt(request: Request, request_id: bytes, shard: int, *rest: Any) -> Receipt:
        honest = receipt_for(request, request_id, shard, *rest)
        return replace(honest, outputRoot=b"\x01" * 32) if honest.worker == liar else honest

    return receipt


async def test_a_worker_that_was_caught_is_not_paid_later(built: Path, tmp_path: Path) -> None:
    signer = Account.create()
    async with WorkerGroup(built, [(0, 3)], tmp_path / "workers", voucher_seconds=10) as group:
        network = join(group, read_manifest(built))
        (worker,) = group.workers
        await killed_after_tokens(built, tmp_path, group, network, signer, 30)
        async with client_on(network, tmp_path / "client", signer) as client:
            client._store.keep_evidence(b"\x01" * 32, worker.address, "it lied", [])
            with pytest.raises(WorkerFailed, match="of earlier requests unpaid"):
                await read(client.generate([1, 2, 3], max_tokens=20))
            assert (await client.tend()).settled == {}
            assert client._payments.channel(worker.address).signed == 0


async def test_another_path_is_taken_where_paying_is_not_enough(built: Path, tmp_path: Path) -> None:
    signer = Account.create()
    async with WorkerGroup(built, [(0, 3), (0, 3)], tmp_path / "workers", voucher_seconds=10) as group:
        network = join(group, read_manifest(built))
        both = network.offered
        network.offered = [min(both, key=lambda offer: offer.worker.lower())]  # who is asked first
        await killed_after_tokens(built, tmp_path, group, network, signer, 30)
        network.offered = both
        async with client_on(network, tmp_path / "client", signer) as client:
            client._store.note_arrears(network.offered[0].worker, signer.address, 0, 10**6)
            client._store.note_arrears(network.offered[1].worker, signer.address, 0, 10**6)
            generation = client.generate([1, 2, 3], max_tokens=20)
            await read(generation)
            (share,) = generation.shares
            assert share.worker == max(both, key=lambda offer: offer.worker.lower()).worker


async def test_a_worker_that_keeps_its_record_to_itself_is_not_waited_for(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def forever(*_: object) -> Record:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("efedllm.client.arrears.PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr("efedllm.client.arrears.fetch_record", forever)
    signer = Account.create()
    async with WorkerGroup(built, [(0, 3)], tmp_path / "workers", voucher_seconds=10) as group:
        network = join(group, read_manifest(built))
        await killed_after_tokens(built, tmp_path, group, network, signer, 30)
        async with client_on(network, tmp_path / "client", signer) as client:
            with pytest.raises(WorkerFailed, match="of earlier requests unpaid"):
                await read(client.generate([1, 2, 3], max_tokens=20))
            assert "could not be put right within 0.3 s" in caplog.text
            assert client._payments.channel(group.workers[0].address).signed == 0


async def test_a_record_that_the_worker_denies_is_not_asked_for_again(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Account.create()
    async with WorkerGroup(built, [(0, 3)], tmp_path / "workers", voucher_seconds=10) as group:
        network = join(group, read_manifest(built))
        await killed_after_tokens(built, tmp_path, group, network, signer, 30)
        (worker,) = group.workers
        monkeypatch.setattr(worker.store, "record", lambda _: None)
        async with client_on(network, tmp_path / "client", signer) as client:
            with pytest.raises(WorkerFailed, match="of earlier requests unpaid"):
                await read(client.generate([1, 2, 3], max_tokens=20))
            assert client._store.unsettled(worker.address, 9) == []


async def test_a_real_worker_that_changes_its_record_gets_nothing(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    signer = Account.create()
    async with WorkerGroup(built, [(0, 3)], tmp_path / "workers", voucher_seconds=10) as group:
        network = join(group, read_manifest(built))
        await killed_after_tokens(built, tmp_path, group, network, signer, 30)
        (worker,) = group.workers
        kept = worker.store.record

        def dearer(request_id: bytes) -> Record | None:
            record = kept(request_id)
            assert record is not None
            receipt = replace(record.receipts[-1][0], fee=record.receipts[-1][0].fee + 1)
            return replace(record, receipts=[(receipt, eip712.sign(DOMAIN, receipt, worker.hot_key))])

        monkeypatch.setattr(worker.store, "record", dearer)
        async with client_on(network, tmp_path / "client", signer) as client:
            with pytest.raises(WorkerFailed, match="of earlier requests unpaid"):
                await read(client.generate([1, 2, 3], max_tokens=20))
            assert "shows a receipt that is not paid: receipt.fee is" in caplog.text
            assert client._payments.channel(worker.address).signed == 0
            assert client._store.unsettled(worker.address, 9) == []
