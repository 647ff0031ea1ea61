"""Vouchers that a worker lost come back from their signer; strangers and liars bring nothing, and no book shrinks."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest
from eth_account import Account

from efedllm.protocol import eip712
from efedllm.protocol.objects import Receipt, Voucher
from efedllm.protocol.vouchers import Book
from tests.worker.network import DOMAIN, PROMPT_PRICE, TOKEN_PRICE, RunningWorker, WorkerGroup
from tests.worker.payer import Payer, ask, payment_for
from worker.healing import MAX_HEALING_BYTES, MAX_PROOFS

PROMPT = [1, 2, 3, 4, 5]
Proofs = list[dict[str, Any]]


@pytest.fixture
async def group(built: Path, tmp_path: Path) -> AsyncIterator[WorkerGroup]:
    async with WorkerGroup(built, [(0, 3)], tmp_path) as running:
        yield running


@pytest.fixture
def payer() -> Payer:
    return Payer()


def proof(voucher: Voucher, signature: bytes, receipt: Receipt, receipt_signature: bytes) -> dict[str, Any]:
    return {
        "voucher": voucher.to_wire(),
        "signature": signature,
        "receipt": receipt.to_wire(),
        "receipt_signature": receipt_signature,
    }


async def served(group: WorkerGroup, payer: Payer, *max_tokens: int) -> Proofs:
    """Requests served and paid; all that the client signed, with the receipts, oldest first."""
    worker = group.workers[0]
    if (payer.account.address, worker.address, payer.session.address) not in group.chain.channels:
        group.open_channels(payer.account.address, payer.session.address)
    book = Book(payer.account.address, worker.address, 1)
    proofs: Proofs = []
    books: dict[str, Book] = {}
    for count in max_tokens:
        answer = await ask(group, payer, payer.request([worker.hop], PROMPT, count), PROMPT, books)
        for receipt, signature in answer.receipts[worker.address]:
            payment = payment_for(payer, book, receipt)
            proofs.append(proof(payment.voucher, payment.signature, receipt, signature))
    return proofs


async def forget(group: WorkerGroup, folder: Path) -> RunningWorker:
    """The worker goes on from an empty store."""
    return await group.restart(group.workers[0], folder / "worker.sqlite")


async def post(worker: RunningWorker, body: object) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else msgpack.packb(body)
    async with aiohttp.ClientSession() as http, http.post(worker.url + "/v1/vouchers", data=data) as response:
        answer = await response.read()
        return response.status, msgpack.unpackb(answer) if response.status == 200 else answer.decode()


async def get(worker: RunningWorker, payer: Payer, epoch: int = 1) -> tuple[int, Any]:
    url = f"{worker.url}/v1/vouchers/{payer.account.address}/{payer.session.address.lower()}/{epoch}"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        answer = await response.read()
        return response.status, msgpack.unpackb(answer) if response.status == 200 else answer.decode()


def held(worker: RunningWorker) -> int:
    return sum(one.voucher.total for one in worker.store.best_vouchers())


async def test_the_best_voucher_of_a_channel(group: WorkerGroup, payer: Payer) -> None:
    assert (await get(group.workers[0], payer))[0] == 404
    proofs = await served(group, payer, 20)
    status, best = await get(group.workers[0], payer)
    assert status == 200
    assert best == {"voucher": proofs[-1]["voucher"], "signature": proofs[-1]["signature"]}
    assert (await get(group.workers[0], payer, epoch=2))[0] == 404


async def test_everything_that_was_lost_comes_back(group: WorkerGroup, payer: Payer, tmp_path: Path) -> None:
    proofs = await served(group, payer, 20, 3)
    total = held(group.workers[0])
    worker = await forget(group, tmp_path / "empty")
    assert await post(worker, proofs[:2]) == (200, {"total": str(proofs[1]["voucher"]["total"])})
    # Again, and more: what is there already is passed over.
    for _ in range(2):
        assert await post(worker, proofs) == (200, {"total": str(total)})
    assert await post(worker, proofs[:1]) == (200, {"total": str(total)})
    (best,) = worker.store.best_vouchers()
    assert best.voucher.to_wire() == proofs[-1]["voucher"]
    leaves = worker.store.leaves_under(best.voucher.receiptsRoot)
    assert leaves is not None and len(leaves) == 2
    # The channel goes on where it was.
    request = payer.request([worker.hop], PROMPT, 7)
    book = worker.store.book(payer.account.address, payer.session.address, worker.address, 1)
    await ask(group, payer, request, PROMPT, {worker.address: book})
    assert held(worker) == total + len(PROMPT) * PROMPT_PRICE + 7 * TOKEN_PRICE


async def test_a_request_that_was_lost_and_healed_is_signed_and_paid_once(
    group: WorkerGroup, payer: Payer, tmp_path: Path
) -> None:
    """Served again it gives the same bytes: inference is exact. It is covered already, so nothing more is owed."""
    worker = group.workers[0]
    group.open_channels(payer.account.address, payer.session.address)
    request = payer.request([worker.hop], PROMPT, 20)
    first = await ask(group, payer, request, PROMPT)
    book, proofs = Book(payer.account.address, worker.address, 1), []
    for receipt, signature in first.receipts[worker.address]:
        payment = payment_for(payer, book, receipt)
        proofs.append(proof(payment.voucher, payment.signature, receipt, signature))
    worker = await forget(group, tmp_path / "empty")
    assert (await post(worker, proofs))[0] == 200
    again = await ask(group, payer, request, PROMPT, paying=False)
    assert again.tokens == first.tokens
    assert again.receipts == first.receipts
    assert held(worker) == book.total
    with pytest.raises(Exception, match="served before"):
        await ask(group, payer, request, PROMPT, paying=False)


async def test_a_backup_that_was_put_back(group: WorkerGroup, payer: Payer, tmp_path: Path) -> None:
    """An older copy of the folder: the newest vouchers are missing, and are brought back."""
    worker = group.workers[0]
    early = await served(group, payer, 5)
    worker.store.close()
    shutil.copytree(group.data, tmp_path / "backup", ignore=shutil.ignore_patterns("backup"))
    worker = await group.restart(worker, group.data / f"{worker.address}.sqlite")
    book = worker.store.book(payer.account.address, payer.session.address, worker.address, 1)
    request = payer.request([worker.hop], PROMPT, 30)
    answer = await ask(group, payer, request, PROMPT, {worker.address: book})
    total = held(worker)
    worker = await group.restart(worker, tmp_path / "backup" / f"{worker.address}.sqlite")
    assert held(worker) == early[-1]["voucher"]["total"] < total
    book, proofs = worker.store.book(payer.account.address, payer.session.address, worker.address, 1), []
    for receipt, signature in answer.receipts[worker.address]:
        payment = payment_for(payer, book, receipt)
        proofs.append(proof(payment.voucher, payment.signature, receipt, signature))
    assert await post(worker, proofs) == (200, {"total": str(total)})


async def refused(worker: RunningWorker, proofs: object, reason: str) -> None:
    before = held(worker)
    status, message = await post(worker, proofs)
    assert status == 403, message
    assert reason in message
    assert "\n" not in message
    assert held(worker) == before


async def test_what_does_not_prove_itself_is_refused(group: WorkerGroup, payer: Payer, tmp_path: Path) -> None:
    worker = group.workers[0]
    proofs = await served(group, payer, 40, 2)
    stranger, other = Payer(), Payer()
    theirs = await served(group, other, 20)
    worker = await forget(group, tmp_path / "empty")
    first = proofs[0]
    voucher = Voucher.from_wire(first["voucher"])
    receipt = Receipt.from_wire(first["receipt"])

    def signed(changed: Voucher, by: Payer = payer) -> dict[str, Any]:
        return first | {"voucher": changed.to_wire(), "signature": eip712.sign(DOMAIN, changed, by.session)}

    def receipted(changed: Receipt, by: Any) -> dict[str, Any]:
        return first | {"receipt": changed.to_wire(), "receipt_signature": eip712.sign(DOMAIN, changed, by)}

    # Vouchers of somebody without a channel, of another epoch, deployment or payer.
    await refused(worker, [signed(voucher, stranger)], "signs for no channel")
    await refused(worker, [signed(replace(voucher, epoch=2))], "in epoch 2 here")
    await refused(worker, [signed(replace(voucher, payer=stranger.account.address))], "signs for no channel")
    elsewhere = eip712.sign(replace(DOMAIN, chain_id=1), voucher, payer.session)
    await refused(worker, [first | {"signature": elsewhere}], "signs for no channel")
    # Vouchers that do not continue the book.
    await refused(worker, proofs[-1:], "does not pay for exactly")
    await refused(worker, [signed(replace(voucher, total=voucher.total + 1))], "does not pay for exactly")
    await refused(worker, [signed(replace(voucher, receiptsRoot=bytes(32)))], "does not pay for exactly")
    await refused(worker, [first, signed(replace(voucher, total=voucher.total - 1))][1:], "does not pay for exactly")
    # Receipts that this worker did not sign, or not for this channel.
    forged = replace(receipt, fee=receipt.fee + 10**5)
    await refused(worker, [receipted(forged, payer.session)], "was never a hot key of this worker")
    await refused(worker, [first | {"receipt": forged.to_wire()}], "was never a hot key of this worker")
    mixed = {name: theirs[0][name] for name in ("receipt", "receipt_signature")}
    await refused(worker, [first | mixed], "was not signed for this channel")
    # The vouchers of two channels at once.
    await refused(worker, [first, theirs[0]], "not all signed by the channel's session key")
    # A deposit that is not there any more.
    key = (payer.account.address, worker.address, payer.session.address)
    state = group.chain.channels[key]
    group.chain.channels[key] = replace(state, deposit=voucher.total - 1)
    await refused(worker, [first], "exceeds the deposit")
    group.chain.channels[key] = state
    # A different past of the same channel: what is held stays.
    assert (await post(worker, proofs[:1]))[0] == 200
    other_past = replace(voucher, receiptsRoot=b"\x01" * 32)
    await refused(worker, [signed(other_past)], "is not above")
    assert (await post(worker, proofs))[0] == 200


async def test_one_channel_does_not_pay_for_anothers_request(group: WorkerGroup, payer: Payer) -> None:
    """Else a payer with two session keys could make any worker look as if it had been paid twice."""
    proofs = await served(group, payer, 4)
    worker, other = group.workers[0], Payer(payer.account)
    group.open_channels(other.account.address, other.session.address)
    receipt = Receipt.from_wire(proofs[0]["receipt"])
    payment = payment_for(other, Book(payer.account.address, worker.address, 1), receipt)
    again = proof(payment.voucher, payment.signature, receipt, proofs[0]["receipt_signature"])
    await refused(worker, [again], "for a request of another channel")


async def rotated(group: WorkerGroup, store: Path) -> RunningWorker:
    """The worker goes on with `store` and another hot key."""
    worker = group.workers[0]
    group.chain.old_keys[worker.address] = [worker.hot_key.address]
    worker.hot_key = Account.create()
    return await group.restart(worker, store)


async def test_receipts_of_an_earlier_hot_key_bring_nothing_that_is_not_known(
    group: WorkerGroup, payer: Payer, tmp_path: Path
) -> None:
    """It may be stolen: whoever has it could invent work that this worker would claim, and answer for."""
    proofs = await served(group, payer, 40, 3)
    assert len(proofs) > 2
    worker = await rotated(group, tmp_path / "empty.sqlite")
    del group.chain.old_keys[worker.address]
    await refused(worker, proofs, "was never a hot key")
    group.chain.old_keys[worker.address] = [proof_key(proofs[0])]
    await refused(worker, proofs, "counts no more")
    # What is claimed already cannot be claimed again: it only makes the book whole.
    key = (payer.account.address, worker.address, payer.session.address)
    claimed = proofs[1]["voucher"]["total"]
    group.chain.channels[key] = replace(group.chain.channels[key], claimed=int(claimed))
    worker = await group.restart(worker, tmp_path / "empty.sqlite")
    await refused(worker, proofs, "counts no more")
    assert await post(worker, proofs[:2]) == (200, {"total": str(claimed)})


async def test_receipts_of_an_earlier_hot_key_that_are_known_count(
    group: WorkerGroup, payer: Payer, tmp_path: Path
) -> None:
    """The key was rotated before the client could hand in its last voucher."""
    worker = group.workers[0]
    group.open_channels(payer.account.address, payer.session.address)
    request = payer.request([worker.hop], PROMPT, 20)
    answer = await ask(group, payer, request, PROMPT, paying=False)
    book, proofs = Book(payer.account.address, worker.address, 1), []
    for receipt, signature in answer.receipts[worker.address]:
        payment = payment_for(payer, book, receipt)
        proofs.append(proof(payment.voucher, payment.signature, receipt, signature))
    worker = await rotated(group, group.data / f"{worker.address}.sqlite")
    assert await post(worker, proofs) == (200, {"total": str(book.total)})


def proof_key(one: dict[str, Any]) -> str:
    return eip712.recover(DOMAIN, Receipt.from_wire(one["receipt"]), one["receipt_signature"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        {},
        [],
        [1],
        [{}],
        [{"voucher": 1, "signature": b"", "receipt": {}, "receipt_signature": b""}],
        [{"voucher": {}, "signature": "x", "receipt": {}, "receipt_signature": b""}],
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000,
    ],
    ids=str,
)
async def test_malformed_bodies(group: WorkerGroup, body: object) -> None:
    status, message = await post(group.workers[0], body)
    assert status == 403
    assert message.count("\n") == 0


async def test_bodies_are_bounded(group: WorkerGroup, payer: Payer) -> None:
    proofs = await served(group, payer, 2)
    assert await post(group.workers[0], b"\xc4" * (MAX_HEALING_BYTES + 1)) == (
        403,
        f"a body of more than {MAX_HEALING_BYTES} bytes: send less at a time",
    )
    many = proofs[:1] * MAX_PROOFS
    assert len(msgpack.packb(many)) < MAX_HEALING_BYTES
    assert (await post(group.workers[0], many))[0] == 200
    status, message = await post(group.workers[0], many + proofs[:1])
    assert (status, f"1 to {MAX_PROOFS} vouchers" in message) == (403, True)
