"""A paid request over two workers, killed at every moment: nothing that left is lost, nothing is signed twice.

One undisturbed run is recorded. Every copy is then judged at rest; and from some of every kind everybody starts again,
or one side does beside others that lived on, as with a backup put back. Another request must bring all books together.
"""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.client.errors import ClientError, StoreError
from efedllm.client.job import Timeouts
from efedllm.client.peer import Peer
from efedllm.client.store import Store, store_path
from efedllm.model.format import Manifest
from efedllm.model.load import read_manifest
from efedllm.protocol import eip712
from efedllm.protocol.frames import decode
from efedllm.protocol.messages import Credited, Message, Open, Payment, Signed, parse
from efedllm.protocol.objects import Voucher
from efedllm.storage.state import STATE_VARIABLE
from efedllm.storage.witness import Witness
from tests.client.memory import client_on
from tests.client.test_with_workers import JoinedNetwork, join, read
from tests.support.crashes import COMMIT, SEND, Crashes, Point, in_memory, recorded, restored, some
from tests.worker.network import DOMAIN, WorkerGroup
from worker.store import Store as WorkerStore

PROMPT = [(11 * at) % 256 for at in range(70)]
TOKENS = 18
RANGES = [(0, 1), (1, 3)]
PATIENT = Timeouts()  # copies take time
WORDS = "efedllm/client/peer.py"


@pytest.fixture
def fast() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


@dataclass
class Run:
    """Three parties below `folder`, what they did, and the network that goes on."""

    folder: Path
    group: WorkerGroup
    network: JoinedNetwork
    manifest: Manifest
    signer: LocalAccount
    crashes: Crashes

    def sent(self, point: Point, side: str) -> list[Message]:
        return [parse(decode(one.data)) for one in self.crashes.sent_before(point, side) if one.kind == SEND]

    def vouchers(self, point: Point) -> list[Voucher]:
        return [message.voucher for message in self.sent(point, WORDS) if isinstance(message, Payment)]


@asynccontextmanager
async def paid_request(built: Path, fast: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    """The undisturbed run. Everything it keeps is below `fast`/all."""
    folder, signer, manifest = fast / "all", Account.create(), read_manifest(built)
    (folder / "workers").mkdir(parents=True)
    monkeypatch.setenv(STATE_VARIABLE, str(folder / "state"))
    with recorded(folder, fast / "copies") as crashes:
        group = WorkerGroup(built, RANGES, folder / "workers", stall_seconds=30.0, voucher_seconds=30.0)
        await group.__aenter__()
        network = join(group, manifest)
        async with client_on(network, folder / "client", signer, PATIENT) as client:
            await read(client.generate(PROMPT, max_tokens=TOKENS))
    try:
        yield Run(folder, group, network, manifest, signer, crashes)
    finally:
        await group.__aexit__(None, None, None)


@contextmanager
def stores(run: Run, folder: Path) -> Iterator[tuple[Store, Witness, dict[str, WorkerStore]]]:
    """What the parties would find in `folder`."""
    store = Store(store_path(folder / "client", DOMAIN.chain_id, DOMAIN.verifying_contract))
    key = run.signer.address
    witness = Witness(DOMAIN.chain_id, DOMAIN.verifying_contract, key, StoreError, folder / "state")
    workers = {one.address: WorkerStore(folder / "workers" / f"{one.address}.sqlite") for one in run.group.workers}
    yield store, witness, workers
    for opened in (store, witness, *workers.values()):
        opened.close()


async def test_everything_that_left_is_in_every_copy(built: Path, fast: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with paid_request(built, fast, monkeypatch) as run:
        kinds = {(point.kind, point.site) for point in run.crashes.points}
        for expected in (
            (COMMIT, "efedllm/client/store.py begin_request"), (COMMIT, "efedllm/client/store.py keep_voucher"),
            (COMMIT, "worker/store.py begin_request"), (COMMIT, "worker/store.py keep_receipt"),
            (COMMIT, "worker/store.py keep_voucher"), (COMMIT, "efedllm/client/channel.py _note"),
            (SEND, f"{WORDS} send"),
        ):  # fmt: skip
            assert expected in kinds, sorted(kinds)
        assert len(run.vouchers(run.crashes.points[-1])) >= 6
        for number, point in enumerate(run.crashes.points):
            folder = restored(point, fast / "at" / str(number))
            with stores(run, folder) as (store, witness, workers):
                judge(run, point, store, witness, workers)
            shutil.rmtree(folder)


def judge(run: Run, point: Point, store: Store, witness: Witness, workers: dict[str, WorkerStore]) -> None:
    for message in run.sent(point, WORDS):
        match message:
            case Open():
                past = store.request(message.request_id)
                assert past is not None and past.request == message.request, point
            case Payment(voucher=voucher):
                key = (voucher.worker, run.signer.address, voucher.epoch)
                assert store.root_of(*key, voucher.total) == voucher.receiptsRoot, point
                highest = witness.highest(voucher.worker, voucher.epoch)
                assert highest is not None and highest.total >= voucher.total, point
    for message in run.sent(point, "worker/"):
        match message:
            case Signed(receipt=receipt):
                kept = workers[receipt.worker].receipt(eip712.digest(DOMAIN, receipt))
                assert kept == receipt, point
            case Credited():
                books = (held.voucher.total for one in workers.values() for held in one.best_vouchers())
                assert max(books, default=0) >= message.total, point


def signed_by(monkeypatch: pytest.MonkeyPatch) -> list[Voucher]:
    """Vouchers that leave from now on."""
    vouchers: list[Voucher] = []
    send = Peer.send

    async def watched(peer: Peer, message: Message) -> None:
        if isinstance(message, Payment):
            vouchers.append(message.voucher)
        await send(peer, message)

    monkeypatch.setattr(Peer, "send", watched)
    return vouchers


async def goes_on(run: Run, folder: Path) -> None:
    """Another request by whoever starts on `folder`; both books of every channel are equal then."""
    run.network.offered = join(run.group, run.manifest).offered
    async with client_on(run.network, folder / "client", run.signer, PATIENT) as client:
        await read(client.generate(PROMPT[:30], max_tokens=3))
        for worker in run.group.workers:
            book = client._payments.channel(worker.address)._book
            (held,) = worker.store.best_vouchers()
            assert (held.voucher.total, held.voucher.count) == (book.total, len(book.leaves))
            theirs = worker.store.book(run.network.payer, run.signer.address, worker.address, book.epoch)
            assert [leaf.hash() for leaf in theirs.leaves] == [leaf.hash() for leaf in book.leaves]


def check_once(before: list[Voucher], after: list[Voucher]) -> None:
    """No sum was signed twice differently, and none below an earlier one."""
    for worker in {voucher.worker for voucher in before}:
        earlier = [voucher for voucher in before if voucher.worker == worker]
        for voucher in after:
            if voucher.worker == worker and voucher not in earlier:
                assert voucher.total > max(one.total for one in earlier)
                assert voucher.count >= max(one.count for one in earlier)


@pytest.mark.parametrize("each", [1, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.parametrize("who", ["everybody", "the client", "the workers"])
async def test_from_every_copy_it_goes_on(
    built: Path, fast: Path, monkeypatch: pytest.MonkeyPatch, who: str, each: int
) -> None:
    """`who` starts from the copy; the others are where the undisturbed run left them."""
    async with paid_request(built, fast, monkeypatch) as run:
        last = run.crashes.points[-1]
        opened = next(point.number for point in run.crashes.points if isinstance_open(run, point))
        points = [point for point in run.crashes.points if point.number > opened]
        vouchers = signed_by(monkeypatch)
        for number, point in enumerate(some(points, each)):
            folder = restored(last, fast / "again" / str(number))
            names = {
                "everybody": ("client", "state", "workers"),
                "the client": ("client",),
                "the workers": ("workers",),
            }
            for name in names[who]:
                shutil.rmtree(folder / name)
                shutil.copytree(point.copy / name, folder / name)
            monkeypatch.setenv(STATE_VARIABLE, str(folder / "state"))
            for worker in list(run.group.workers):
                await run.group.restart(worker, folder / "workers" / f"{worker.address}.sqlite")
            vouchers.clear()
            try:
                await goes_on(run, folder)
            except ClientError as error:
                raise AssertionError(f"{who} from {point}: {error}") from error
            check_once(run.vouchers(point if who == "everybody" else last), vouchers)
            shutil.rmtree(folder)


def isinstance_open(run: Run, point: Point) -> bool:
    return any(isinstance(message, Open) for message in run.sent(point, WORDS))
