"""Claim: anybody can check a ledger of 100,000 receipts in a minute, down to the signature of every receipt."""

import asyncio
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from multiprocessing.connection import Connection
from os import cpu_count
from pathlib import Path

import msgpack
from aiohttp import web
from eth_account import Account
from eth_account.signers.local import LocalAccount

from chain_scripts.audit import run_audit
from chain_scripts.ledger.books import BookKey, by_book, check_leaves
from chain_scripts.ledger.collect import Collector, tasks_of
from chain_scripts.ledger.fold import fold
from chain_scripts.ledger.receipts import check_record
from chain_scripts.ledger.snapshot import read_rules, read_snapshot
from chain_scripts.ledger.state import ChannelKey
from chain_scripts.ledger.vouchers import check_vouchers
from efedllm.chain.batch import transaction_inputs
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding, VoucherClaim
from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess, development_account
from efedllm.chain.model_registry import ModelSpec
from efedllm.chain.stake_registry import Role, Service
from efedllm.chain.transactions import UnlockedAccount
from efedllm.client.records import Reader
from efedllm.protocol import eip712
from efedllm.protocol.model_spec import model_id
from efedllm.protocol.objects import Fetch, Voucher
from efedllm.protocol.pricing import RECEIPT_TOKENS
from efedllm.protocol.records import Record, pack_leaves, unpack_leaves
from efedllm.protocol.values import ZERO_ADDRESS
from efedllm.protocol.vouchers import Leaf

from .books import Client, Worker
from .gas import ETHER, deploy
from .report import SCRATCH, Result, below, reported

LIMIT_SECONDS = 60
DEPOSIT = 10**18
STAKE = 10**24
HASH = bytes([1]) * 32
SPEC = ModelSpec(1, 64, 128, 8, 4, 2, 16, 60_000, 512, 42949, HASH, HASH, HASH, ZERO_ADDRESS)
PROMPT = 8
WORKERS = 2


@dataclass(frozen=True)
class Size:
    """`clients` with a channel to each worker; each asks for `requests`, two at a time, with `receipts` receipts."""

    clients: int
    requests: int
    receipts: int

    @property
    def paid(self) -> int:
        return self.clients * WORKERS * self.requests * self.receipts

    @property
    def counts(self) -> tuple[int, ...]:
        """Generated tokens at each receipt of a request."""
        return (1, *(RECEIPT_TOKENS * number for number in range(1, self.receipts)))


FULL = Size(50, 100, 10)
QUICK = Size(2, 4, 2)

Signed = tuple[Voucher, bytes]


@dataclass(frozen=True)
class Paid:
    """What one client signed for each worker: after half of its requests, and after all."""

    client: int
    vouchers: tuple[tuple[Signed, ...], ...]


def run(quick: bool, tell: Callable[[str], None]) -> list[Result]:
    """A ledger of real claims on a local chain, with books and records behind an endpoint."""
    SCRATCH.mkdir(exist_ok=True)
    with AnvilProcess.start() as anvil, tempfile.TemporaryDirectory(dir=SCRATCH) as name:
        folder, size = Path(name), QUICK if quick else FULL
        deployment = deploy(anvil.url, folder / "deployment.json")
        tell(f"signing {size.paid} receipts")
        paid = _sign(deployment.domain, size, folder)
        with _endpoint(folder) as url:
            return asyncio.run(_measure(anvil, deployment, size, paid, folder, url, tell))


# making the ledger


def key(name: str) -> LocalAccount:
    """The same in every process of a run."""
    account: LocalAccount = Account.from_key(sha256(f"audit benchmark {name}".encode()).digest())
    return account


def _path() -> list[Worker]:
    layers = SPEC.layers // WORKERS
    return [
        Worker(key(f"cold {at}").address, key(f"hot {at}"), at * layers, (at + 1) * layers, 3, 10)
        for at in range(WORKERS)
    ]


def _sign(domain: eip712.Domain, size: Size, folder: Path) -> list[Paid]:
    with ProcessPoolExecutor(cpu_count(), multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(partial(_sign_for, domain, size, folder), range(size.clients)))


def _sign_for(domain: eip712.Domain, size: Size, folder: Path, number: int) -> Paid:
    """One client's requests, answered and paid; books and records lie in `folder` as workers hand them out."""
    path = _path()
    session = key(f"session {number}")
    client = Client(domain, key(f"payer {number}").address, session, path, model_id(SPEC))
    vouchers: list[tuple[Signed, ...]] = []
    for pair in range(size.requests // 2):
        served = [client.ask(range(PROMPT), size.counts) for _ in range(2)]
        for receipt in range(size.receipts):
            for one in served:
                client.pay(one, receipt)
        for one in served:
            for shard, record in enumerate(one.records):
                (folder / _record(path[shard].cold, one.request_id)).write_bytes(record.pack())
        if pair + 1 in (size.requests // 4, size.requests // 2):
            vouchers.append(tuple(client.voucher(shard) for shard in range(WORKERS)))
    for book, (voucher, _) in zip(client.books, vouchers[-1], strict=True):
        (folder / voucher.receiptsRoot.hex()).write_bytes(pack_leaves(book.leaves))
    return Paid(number, tuple(vouchers))


def _record(worker: str, request_id: bytes) -> str:
    return f"{worker}-{request_id.hex()}"


@contextmanager
def _endpoint(folder: Path) -> Iterator[str]:
    """All workers' HTTP, in a process of its own; `<url>/<worker>` is an endpoint."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, folder), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join()


def _serve(connection: Connection, folder: Path) -> None:
    async def books(request: web.Request) -> web.Response:
        return web.Response(body=(folder / request.match_info["root"]).read_bytes())

    async def records(request: web.Request) -> web.Response:
        fetch = Fetch.from_wire(msgpack.unpackb(await request.read())["fetch"])
        return web.Response(body=(folder / _record(request.match_info["worker"], fetch.requestId)).read_bytes())

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/{worker}/v1/books/{root}", books)
        app.router.add_post("/{worker}/v1/receipts", records)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        connection.send(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await asyncio.to_thread(connection.recv)
        await runner.cleanup()

    asyncio.run(serve())


async def _claim_all(anvil: AnvilProcess, chain: Chain, size: Size, paid: list[Paid], url: str) -> Reader:
    """Everybody joins, opens channels, and workers claim; returns who may read records."""
    bank = chain.sender(UnlockedAccount(development_account(anvil.url)))
    await bank.send(chain.models.register(SPEC, "benchmark"))
    verifier = Reader(key("verifier").address, key("verifier hot"))
    await _join(anvil, chain, key("verifier"), verifier.key, Role.VERIFIER)
    path = _path()
    for at, worker in enumerate(path):
        await _join(anvil, chain, key(f"cold {at}"), worker.hot, Role.WORKER)
        service = Service(model_id(SPEC), worker.start, worker.end, 3, 10, f"{url}/{worker.cold}")
        await chain.sender(key(f"cold {at}")).send(chain.stakes.update_service(service))
    for one in paid:
        payer = key(f"payer {one.client}")
        anvil.rpc("anvil_setBalance", payer.address, hex(ETHER))
        await bank.send(chain.token.transfer(payer.address, WORKERS * DEPOSIT))
        sender = chain.sender(payer)
        await sender.send(chain.token.approve(chain.channels.address, WORKERS * DEPOSIT))
        funding = [Funding(worker.cold, DEPOSIT) for worker in path]
        await sender.send(chain.channels.fund(key(f"session {one.client}").address, funding))
    for turn in range(2):
        for shard, worker in enumerate(path):
            vouchers = [VoucherClaim.of(*one.vouchers[turn][shard]) for one in paid]
            await chain.sender(key(f"cold {shard}")).send(chain.channels.claim(worker.cold, vouchers))
    return verifier


async def _join(anvil: AnvilProcess, chain: Chain, cold: LocalAccount, hot: LocalAccount, role: Role) -> None:
    anvil.rpc("anvil_setBalance", cold.address, hex(ETHER))
    bank = chain.sender(UnlockedAccount(development_account(anvil.url)))
    await bank.send(chain.token.transfer(cold.address, STAKE))
    sender = chain.sender(cold)
    await sender.send(chain.stakes.register(role, hot.address))
    await sender.send(chain.token.approve(chain.stakes.address, STAKE))
    await sender.send(chain.stakes.stake(STAKE))


# auditing it


async def _measure(
    anvil: AnvilProcess,
    deployment: Deployment,
    size: Size,
    paid: list[Paid],
    folder: Path,
    url: str,
    tell: Callable[[str], None],
) -> list[Result]:
    async with await Chain.connect(anvil.url, deployment) as chain:
        tell("claiming on a local chain")
        reader = await _claim_all(anvil, chain, size, paid, url)
        tell("auditing: books")
        books = await _timed(lambda: _audit(chain, size, None))
        tell("auditing: books and records")
        records = await _timed(lambda: _audit(chain, size, reader))
        tell("auditing: step by step")
        steps = await _steps(chain, size)
    name = f"{size.paid:,} receipts" if size is FULL else f"toy: {size.paid} receipts"
    each = _per_receipt(folder, paid, deployment.domain)
    return [
        below(f"{name}: audit of books", books.wall, "s", LIMIT_SECONDS),
        reported(f"{name}: audit of books, processor time", books.processor, "s"),
        below(f"{name}: audit of books and all records", records.wall, "s", LIMIT_SECONDS),
        reported(f"{name}: audit of books and all records, processor time", records.processor, "s"),
        below(f"{name}: the same on 2 cores of its own", records.processor / 2, "s", LIMIT_SECONDS),
        *(reported(f"{name}: {step}", seconds, "s") for step, seconds in steps.items()),
        *(reported(f"one process: {step}, per receipt", value, "us") for step, value in each.items()),
    ]


@dataclass(frozen=True)
class _Spent:
    """Seconds; `processor`: of this process and of those it started, the workers' endpoint and the chain left out."""

    wall: float
    processor: float


async def _timed(work: Callable[[], Awaitable[None]]) -> _Spent:
    wall, processor = time.perf_counter(), _processor_seconds()
    await work()
    return _Spent(time.perf_counter() - wall, _processor_seconds() - processor)


def _processor_seconds() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


async def _audit(chain: Chain, size: Size, reader: Reader | None) -> None:
    audit = await run_audit(chain, reader)
    assert not audit.differences, audit.differences[0]
    assert (audit.collected.receipts, audit.collected.unavailable) == (size.paid, 0), "every receipt is checked"
    assert audit.collected.records == (0 if reader is None else size.paid), "every record is checked"


async def _steps(chain: Chain, size: Size) -> dict[str, float]:
    """Seconds of what comes before the books, and of the books alone."""
    taken: dict[str, float] = {}
    start = time.perf_counter()

    def done(step: str) -> None:
        nonlocal start
        taken[step] = time.perf_counter() - start
        start = time.perf_counter()

    block = await chain.confirmed_block()
    contracts = chain.deployment.contracts.names().values()
    events = [event async for page in chain.events(*contracts).read(last=block) for event in page.events]
    rules = await read_rules(chain, block)
    ledger = fold(events, rules)
    done("reading and folding events")
    await read_snapshot(chain, ledger, block, rules)
    done("reading the contracts")
    hashes = list({state.origin.transaction_hash for state in ledger.claims.values()})
    inputs = dict(zip(hashes, await transaction_inputs(chain.rpc.url, hashes), strict=True))
    vouchers = check_vouchers(chain.deployment.domain, rules.channels, ledger.claims, inputs)
    assert len(vouchers.paid) == 2 * WORKERS * size.clients
    done("vouchers of all claims")
    await Collector(chain.deployment.domain, {}).collect(tasks_of(ledger, by_book(vouchers.paid)))
    done("books")
    return taken


def _per_receipt(folder: Path, paid: list[Paid], domain: eip712.Domain) -> dict[str, float]:
    """Microseconds of processor time in one process, over the records of one channel."""
    (voucher, _), worker = paid[0].vouchers[-1][-1], _path()[-1]
    session = key(f"session {paid[0].client}").address
    book = BookKey(ChannelKey(voucher.payer, voucher.worker, session), voucher.epoch)
    leaves = unpack_leaves((folder / voucher.receiptsRoot.hex()).read_bytes())
    by_request: dict[bytes, list[Leaf]] = {}
    for leaf in leaves:
        by_request.setdefault(leaf.request_id, []).append(leaf)
    packed = [(folder / _record(worker.cold, request_id)).read_bytes() for request_id in by_request]

    def per_receipt(work: Callable[[], object]) -> float:
        start = time.process_time()
        work()
        return (time.process_time() - start) / len(leaves) * 1e6

    records: list[Record] = []
    signers = frozenset({worker.hot.address})
    return {
        "leaf and root": per_receipt(lambda: check_leaves(book, leaves, [voucher])),
        "reading the record": per_receipt(lambda: records.extend(map(Record.unpack, packed))),
        "hash, signature, fee, tokens, link": per_receipt(
            lambda: [
                check_record(domain, book, own, record, signers)
                for own, record in zip(by_request.values(), records, strict=True)
            ]
        ),
    }
