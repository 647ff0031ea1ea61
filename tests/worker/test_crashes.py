"""kill -9 of a worker whenever it keeps or sends something: nothing that left it is lost, and it goes on.

One paid request over two workers is recorded once; then each copy of their folders is opened and judged.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgpack
import pytest
from eth_account.signers.local import LocalAccount

from efedllm.protocol import eip712
from efedllm.protocol.frames import decode
from efedllm.protocol.messages import Credited, Message, Payment, Signed, parse
from efedllm.protocol.objects import Receipt, Request, Voucher
from efedllm.protocol.vouchers import Book
from tests.support.crashes import Crashes, Point, recorded, restored, some
from tests.worker.network import DOMAIN, RunningWorker, WorkerGroup
from tests.worker.payer import Answer, Payer, Refused, ask, payment_for
from worker.store import Store

RANGES = [(0, 1), (1, 3)]
HIDDEN = 48
PROMPT = [(5 * at) % 256 for at in range(70)]
MAX_TOKENS = 18


@dataclass
class Recording:
    """The undisturbed run, and every moment of it."""

    crashes: Crashes
    identities: list[tuple[str, LocalAccount]]
    payer: Payer
    request: Request
    answer: Answer
    built: Path

    def messages(self, point: Point, site: str) -> list[Message]:
        """What the modules at `site` had sent when the process was killed at `point`."""
        return [parse(decode(sent.data)) for sent in self.crashes.sent_before(point, site) if sent.kind == "send"]


@pytest.fixture(scope="module")
def recording(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return asyncio.run(record(built, tmp_path_factory.mktemp("recording")))


async def record(built: Path, folder: Path) -> Recording:
    data, payer = folder / "data", Payer()
    data.mkdir()
    with recorded(data, folder / "copies") as crashes:
        async with WorkerGroup(built, RANGES, data, voucher_seconds=60.0, stall_seconds=60.0) as group:
            group.open_channels(payer.account.address, payer.session.address)
            request = payer.request([worker.hop for worker in group.workers], PROMPT, MAX_TOKENS)
            answer = await ask(group, payer, request, PROMPT)
            identities = group.identities
        for worker in group.workers:
            worker.store.close()
    return Recording(crashes, identities, payer, request, answer, built)


def opened(point: Point, folder: Path, identities: list[tuple[str, LocalAccount]]) -> Iterator[tuple[str, Store]]:
    """The workers' stores as the next start finds them."""
    copy = restored(point, folder)
    for address, _ in identities:
        if (copy / f"{address}.sqlite").exists():
            store = Store(copy / f"{address}.sqlite")
            try:
                yield address, store
            finally:
                store.close()


def test_the_recording_has_every_kind_of_moment(recording: Recording) -> None:
    sites = {(point.kind, point.site) for point in recording.crashes.points}
    for kind, site in (
        ("commit", "worker/store.py begin_request"),
        ("commit", "worker/store.py keep_receipt"),
        ("commit", "worker/store.py keep_voucher"),
        ("commit", "worker/store.py end_request"),
        ("write", "worker/rows.py extend"),
        ("fsync", "worker/rows.py extend"),
        ("send", "worker/peer.py send"),
    ):
        assert (kind, site) in sites, sites


def test_whatever_left_a_worker_is_in_its_store(recording: Recording, tmp_path: Path) -> None:
    request_id = eip712.digest(DOMAIN, recording.request)
    judged = 0
    for point in recording.crashes.points:
        sent = recording.messages(point, "worker/")
        totals = []
        for address, store in opened(point, tmp_path / str(point.number), recording.identities):
            assert store.interrupt_open() in (0, 1), point
            record = store.record(request_id)
            receipts = {
                eip712.digest(DOMAIN, message.receipt): message
                for message in sent
                if isinstance(message, Signed) and message.receipt.worker == address
            }
            for digest, message in receipts.items():
                judged += 1
                assert store.receipt(digest) == message.receipt, point
                assert record is not None
                assert (message.receipt, message.signature) in record.receipts, point
            if record is not None:
                _judge_record(recording, record.receipts, record.generated, record.rows, point)
            held = store.best_vouchers()
            totals += [one.voucher.total for one in held]
            for one in held:
                assert eip712.recover(DOMAIN, one.voucher, one.signature) == recording.payer.session.address
                leaves = store.leaves_under(one.voucher.receiptsRoot)
                assert leaves is not None and leaves[-1].after == one.voucher.total
        # The two workers are paid the same amounts: each credit that was sent stands in a store of its own.
        credited = [message.total for message in sent if isinstance(message, Credited)]
        for total in set(credited):
            judged += 1
            assert sum(one >= total for one in totals) >= credited.count(total), point
    assert judged > 100


def _judge_record(
    recording: Recording, receipts: list[tuple[Receipt, bytes]], generated: list[int], rows: bytes, point: Point
) -> None:
    """Tokens and rows go exactly as far as the last receipt."""
    assert generated == recording.answer.tokens[: len(generated)], point
    if not receipts:
        assert (generated, rows) == ([], b""), point
        return
    last = receipts[-1][0]
    assert len(generated) == last.generated, point
    assert len(rows) == (4 * HIDDEN * last.positions if last.shard else 0), point


@pytest.mark.parametrize("each_site", [1, pytest.param(12, marks=pytest.mark.long)])
async def test_every_restart_serves_on(recording: Recording, tmp_path: Path, each_site: int) -> None:
    """The client, who was not killed, brings what it signed; a request that is not known is served again with the same
    bytes, a new one is served and paid, and both sides' books are equal."""
    points = some(recording.crashes.points[::-1], each_site)
    served_again = refused = healed = 0
    for point in points:
        folder = restored(point, tmp_path / str(point.number))
        payments = [m for m in recording.messages(point, "tests/worker/payer.py") if isinstance(m, Payment)]
        async with WorkerGroup(recording.built, RANGES, folder, recording.identities) as group:
            group.open_channels(recording.payer.account.address, recording.payer.session.address)
            books = {}
            for worker in group.workers:
                books[worker.address], brought = await reconcile(recording, worker, payments)
                healed += brought
            try:
                again = await ask(group, recording.payer, recording.request, PROMPT, books)
            except Refused as error:
                assert "served before" in str(error), point
                refused += 1
            else:
                assert again.tokens == recording.answer.tokens, point
                for address, receipts in again.receipts.items():
                    assert receipts == recording.answer.receipts[address], point
                served_again += 1
            path = [worker.hop for worker in group.workers]
            await ask(group, recording.payer, recording.payer.request(path, PROMPT[:9], 3), PROMPT[:9], books)
            for worker in group.workers:
                (held,) = worker.store.best_vouchers()
                assert held.voucher.total == books[worker.address].total, point
                await worker.service.drain(10)
                worker.store.close()
    assert min(served_again, refused, healed) > 0, (served_again, refused, healed)


async def reconcile(recording: Recording, worker: RunningWorker, payments: list[Payment]) -> tuple[Book, int]:
    """The client's book of everything that it had sent, after the worker was given what it lacks of that; and how many
    vouchers it lacked."""
    payer = recording.payer
    book = Book(payer.account.address, worker.address, 1)
    signed = [payment for payment in payments if payment.voucher.worker == worker.address]
    by_digest = {
        eip712.digest(DOMAIN, receipt): (receipt, signature)
        for receipt, signature in recording.answer.receipts[worker.address]
    }
    proofs = []
    for payment in signed:
        receipt, signature = by_digest[payment.receipt_digest]
        assert payment_for(payer, book, receipt) == payment
        proofs.append(
            {
                "voucher": payment.voucher.to_wire(),
                "signature": payment.signature,
                "receipt": receipt.to_wire(),
                "receipt_signature": signature,
            }
        )
    url = f"{worker.url}/v1/vouchers"
    async with aiohttp.ClientSession() as http:
        asked = f"{url}/{payer.account.address}/{payer.session.address}/1"
        async with http.get(asked) as response:
            held = 0
            if response.status == 200:
                held = Voucher.from_wire(msgpack.unpackb(await response.read())["voucher"]).total
        assert held in (0, *(payment.voucher.total for payment in signed))
        lacking = [proof for proof, payment in zip(proofs, signed, strict=True) if payment.voucher.total > held]
        if lacking:
            async with http.post(url, data=msgpack.packb(lacking)) as response:
                assert response.status == 200, await response.text()
                assert msgpack.unpackb(await response.read()) == {"total": str(book.total)}
    return book, len(lacking)
