"""A market with everything in it, on a real chain: several clients and workers, two epochs, a rotated key, a full ring,
releases, disputes, withdrawals, fees. Workers hand out their books and records over HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import msgpack
from eth_account import Account
from eth_account.signers.local import LocalAccount

from benchmarks.books import Client, Served, Worker
from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding, VoucherClaim
from efedllm.chain.events import Claimed
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.local import AnvilProcess
from efedllm.chain.model_registry import ModelSpec
from efedllm.chain.stake_registry import Role, Service
from efedllm.protocol.model_spec import model_id
from efedllm.protocol.objects import Fetch
from efedllm.protocol.records import Record, pack_leaves
from efedllm.protocol.values import ZERO_ADDRESS
from efedllm.protocol.vouchers import Leaf
from tests.support.chain import WORK, fund
from tests.support.small_server import Handler, SmallServer

from .ledger_court import Case, Court

DEPOSIT = 10**9
FEE_BPS = 250
HASH = bytes([1]) * 32
SPEC = ModelSpec(1, 64, 128, 8, 4, 2, 16, 300, 512, 42949, HASH, HASH, HASH, ZERO_ADDRESS)
RING = 64
KEEP_PENDING = 1
"""The claim of the second worker that stays in the ring while the others go round."""


def key(name: str) -> LocalAccount:
    account: LocalAccount = Account.from_key(sha256(f"ledger market {name}".encode()).digest())
    return account


PAYERS = [key(f"payer {at}") for at in range(3)]
SESSIONS = [key(f"session {at}") for at in range(3)]
COLD = [key(f"cold {at}") for at in range(3)]
HOT = [key(f"hot {at}") for at in range(3)]
NEW_HOT, ANNOUNCED = key("new hot"), key("announced hot")
STRANGER, FEE_RECIPIENT, FRIEND = key("stranger"), key("fee recipient"), key("friend")
# There is time for every dispute in the window, and something is left for a second fault.
OPTIONS = ("--challenge-window", "60", "--withdrawal-delay", "100", "--first-slash", "400")


@dataclass
class Counter:
    """What workers hand out, and how it is altered on the way."""

    books: dict[bytes, list[Leaf]] = field(default_factory=dict)
    planted_books: dict[bytes, list[Leaf]] = field(default_factory=dict)
    records: dict[tuple[str, bytes], Record] = field(default_factory=dict)
    alter_book: Callable[[list[Leaf]], list[Leaf]] = list
    alter_record: Callable[[str, Record], Record] = lambda worker, record: record

    def honest(self) -> None:
        self.alter_book, self.alter_record = list, lambda worker, record: record
        self.planted_books.clear()


class CounterServer(SmallServer):
    """HTTP of all workers on a port of 127.0.0.1: `<url>/<worker>/v1/...`."""

    def __init__(self, counter: Counter) -> None:
        class Answers(Handler):
            def do_GET(self) -> None:
                root = bytes.fromhex(self.path.rpartition("/")[2])
                leaves = counter.planted_books.get(root, counter.books.get(root))
                self.answer(None if leaves is None else pack_leaves(counter.alter_book(leaves)))

            def do_POST(self) -> None:
                body = msgpack.unpackb(self.body())
                worker = self.path.split("/")[1]
                record = counter.records.get((worker, Fetch.from_wire(body["fetch"]).requestId))
                self.answer(None if record is None else counter.alter_record(worker, record).pack())

        super().__init__(Answers)


class LedgerMarket:
    """`build` makes the history. Workers 0 and 1 share a path, worker 2 has one of its own and is taken to court."""

    def __init__(self, chain: Chain, anvil: AnvilProcess, url: str, counter: Counter) -> None:
        self.chain, self.anvil, self.url, self.counter = chain, anvil, url, counter
        self.domain = chain.deployment.domain
        self.model_id = model_id(SPEC)

    async def build(self, verifier_dir: Path, password: str) -> None:
        """The verifier's keys are made in `verifier_dir`, so that the command can read records as the verifier."""
        chain = self.chain
        store = KeyStore(verifier_dir)
        verifier = store.load(store.create(KeyRole.COLD, password, light=True).role, password)
        verifier_hot = store.load(store.create(KeyRole.HOT, password, light=True).role, password)
        await fund(chain, PAYERS[0].address, WORK)
        await self._send(PAYERS[0], chain.models.register(SPEC, "ledger market"))
        for at in range(3):
            await self._join(COLD[at], HOT[at].address, Role.WORKER)
            await fund(chain, HOT[at].address)
            await self._send(COLD[at], chain.stakes.update_service(self._service(at, 7)))
        await self._join(verifier, verifier_hot.address, Role.VERIFIER)
        for at, payer in enumerate(PAYERS):
            await fund(chain, payer.address, WORK)
            await self._send(payer, chain.token.approve(chain.channels.address, WORK))
            await self._fund(at, [worker.address for worker in COLD], DEPOSIT)
        await self._fund(0, [COLD[0].address], DEPOSIT // 2)
        await self._trade()
        await self._fill_ring()
        await self._dispute(verifier)
        await self._end(verifier)

    async def _trade(self) -> None:
        """Two rounds of requests by all clients, interleaved, with a key rotated between them."""
        chain = self.chain
        pair = [self._worker(0), self._worker(1)]
        clients = [self._client(at, pair) for at in range(3)]
        for client in clients:
            served = [self._ask(client, range(5), (1, 4)), self._ask(client, range(7), (1, 16, 20))]
            self._pay(client, served[0], 0)
            self._pay(client, served[1], 0)
            self._pay(client, served[0], 1)
            self._pay(client, served[1], 1)
        await self._claim(0, clients, HOT[0])
        await self._claim(1, clients[:2], COLD[1])
        await self._send(COLD[0], chain.stakes.rotate_hot_key(NEW_HOT.address))
        await fund(chain, NEW_HOT.address)
        self.anvil.increase_time(chain.deployment.parameters.hot_key_delay_seconds + 1)
        rotated = [self._worker(0, NEW_HOT), self._worker(1)]
        for client in clients:
            client.path = rotated
            self._pay(client, self._ask(client, range(4), (3,)), 0)
        await self._claim(0, clients, NEW_HOT)
        await self._claim(1, clients, HOT[1])
        await self._wait_window()
        for worker, number in ((0, 0), (0, 1), (1, 0)):
            await self._send(PAYERS[0], chain.channels.release(COLD[worker].address, number))
        await self._send(COLD[0], chain.channels.withdraw_earnings(COLD[0].address))
        await self._send(PAYERS[1], chain.channels.withdraw_fees())
        self._clients = clients

    async def _fill_ring(self) -> None:
        """So many claims of the second worker that its ring goes round, past one that is still pending."""
        chain, client = self.chain, self._clients[0]
        for _ in range(2, RING):
            await self._claim_one(client)
        await self._wait_window()
        for number in (2, 3, 4):
            await self._send(PAYERS[0], chain.channels.release(COLD[1].address, number))
        assert await self._claim_one(client) == RING
        assert await self._claim_one(client) == RING + 2, "a slot in use is passed over"

    async def _claim_one(self, client: Client) -> int:
        self._pay(client, self._ask(client, range(2), (1,)), 0)
        return (await self._claim(1, [client], HOT[1])).claim_index

    async def _dispute(self, verifier: LocalAccount) -> None:
        """Worker 2 makes three claims, the first for tokens that its model does not have, and is taken to court."""
        chain, worker, cases = self.chain, [self._worker(2)], []
        for at in range(3):
            client = Client(
                self.domain, PAYERS[at].address, SESSIONS[at], worker, self.model_id, nonce=0 if at else SPEC.vocab
            )
            served = self._ask(client, range(9), (1, 5))
            self._pay(client, served, 1)
            claimed = await self._claim(2, [client], HOT[2])
            cases.append(Case.of(served, claimed, client.books[0].leaves[-1], SESSIONS[at].address))
        await self._send(COLD[2], chain.stakes.request_unbond(5 * WORK))
        for challenger in (verifier, FRIEND):
            await fund(chain, challenger.address, 1000 * WORK)
        self._court, self._wrong = Court(chain, self.anvil, HOT[2], verifier, FRIEND), cases[0]
        await self._court.hold(*cases)

    async def _end(self, verifier: LocalAccount) -> None:
        """A channel closes and is opened again; another is closing; stake is unbonded, taken back and withdrawn."""
        chain = self.chain
        payer, cold = PAYERS[2], COLD[0].address
        await self._send(payer, chain.channels.request_close(SESSIONS[2].address, [cold]))
        self.anvil.increase_time(chain.deployment.parameters.withdrawal_delay_seconds + 1)
        await self._send(payer, chain.channels.finish_close(SESSIONS[2].address, [cold]))
        await self._fund(2, [cold], DEPOSIT)
        again = Client(
            self.domain, payer.address, SESSIONS[2], [self._worker(0, NEW_HOT, whole=True)], self.model_id, 1
        )
        self._pay(again, self._ask(again, range(6), (2,)), 0)
        claimed = await self._claim(0, [again], NEW_HOT)
        candidate = await chain.beacon.first_candidate(claimed.origin.block_number)
        while await chain.rpc.block_number() <= candidate:
            self.anvil.mine()
        await self._send(payer, chain.beacon.record_beacon(candidate))
        await self._send(PAYERS[1], chain.channels.request_close(SESSIONS[1].address, [COLD[1].address]))
        await self._send(COLD[0], chain.stakes.request_unbond(3 * WORK))
        await self._send(COLD[0], chain.stakes.cancel_unbond())
        await self._send(COLD[1], chain.stakes.update_service(self._service(1, 9)))
        await self._send(COLD[0], chain.stakes.rotate_hot_key(ANNOUNCED.address))
        await self._send(verifier, chain.stakes.request_unbond(4 * WORK))
        self.anvil.increase_time(chain.deployment.parameters.unbonding_seconds + 1)
        await self._send(verifier, chain.stakes.withdraw_stake(verifier.address))
        await self._send(verifier, chain.stakes.request_unbond(WORK))
        await self._send(COLD[2], chain.stakes.end_service())
        await self._court.collect(self._wrong)

    # one step each

    def _worker(self, at: int, hot: LocalAccount | None = None, whole: bool = False) -> Worker:
        start, end = (0, 8) if at == 2 or whole else ((0, 4), (4, 8))[at]
        return Worker(COLD[at].address, hot or HOT[at], start, end, 1000 + at, 3000 + at)

    def _service(self, at: int, token_price: int) -> Service:
        worker = self._worker(at)
        return Service(self.model_id, worker.start, worker.end, 5, token_price, f"{self.url}/{COLD[at].address}")

    def _client(self, at: int, path: Sequence[Worker]) -> Client:
        return Client(self.domain, PAYERS[at].address, SESSIONS[at], path, self.model_id)

    def _ask(self, client: Client, prompt: Sequence[int], counts: Sequence[int]) -> Served:
        served = client.ask(prompt, counts)
        for worker, record in zip(client.path, served.records, strict=True):
            self.counter.records[worker.cold, served.request_id] = record
        return served

    def _pay(self, client: Client, served: Served, number: int) -> None:
        client.pay(served, number)
        for shard, book in enumerate(client.books):
            self.counter.books[client.voucher(shard)[0].receiptsRoot] = list(book.leaves)

    async def _claim(self, at: int, clients: Sequence[Client], sender: LocalAccount) -> Claimed:
        vouchers = [
            VoucherClaim.of(*client.voucher(shard))
            for client in clients
            for shard, worker in enumerate(client.path)
            if worker.cold == COLD[at].address
        ]
        receipt = await self.chain.sender(sender).send(self.chain.channels.claim(COLD[at].address, vouchers))
        return next(event for event in receipt.events if isinstance(event, Claimed))

    async def _fund(self, at: int, workers: Sequence[str], amount: int) -> None:
        funding = [Funding(worker, amount) for worker in workers]
        await self._send(PAYERS[at], self.chain.channels.fund(SESSIONS[at].address, funding))

    async def _join(self, cold: LocalAccount, hot: str, role: Role) -> None:
        chain = self.chain
        await fund(chain, cold.address, 1000 * WORK)
        await self._send(cold, chain.stakes.register(role, hot))
        await self._send(cold, chain.token.approve(chain.stakes.address, 1000 * WORK))
        await self._send(cold, chain.stakes.stake(1000 * WORK))

    async def _wait_window(self) -> None:
        self.anvil.increase_time(self.chain.deployment.parameters.challenge_window_seconds + 1)

    async def _send(self, account: LocalAccount, call: Call) -> None:
        await self.chain.sender(account).send(call)
