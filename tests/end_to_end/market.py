"""One network of real processes for all tests of cheats at the till, and what those tests measure about it."""

import asyncio
import json
import secrets
import sqlite3
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from chain_scripts.local_network import PASSWORD, LocalNetwork, set_up
from chain_scripts.processes import Processes
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.participants import Offer, find_offers
from efedllm.client.records import Reader, RecordSource, Unanswered
from efedllm.protocol.eip712 import Domain
from efedllm.protocol.objects import Hop, Voucher
from efedllm.protocol.pricing import fee_of, window_of
from efedllm.protocol.vouchers import Book
from tests.end_to_end import losses
from tests.support.cheating_till import LIE_FILE
from tests.support.raw_client import Answer, RawClient, Wallet
from worker.ledger import best_vouchers
from worker.store import store_path

MODEL = Path(__file__).resolve().parents[2] / "models" / "shakespeare" / "built"
PRICES, DEARER = ("0.0001", "0.0004"), ("0.00011", "0.00044")
"""Who chooses by price alone chooses the honest ones."""
RANGES = ("0:3", "3:6", "6:8")
HONEST, LIARS = ("first", "middle", "last"), ("false-first", "false-middle", "false-last")
PAYER = "treasury"
"""Whose money pays in tests that play the client; the client of the network's own commands is another one."""
DEPOSIT = 10**18
WALLETS = 40
PROMPT, TOKENS = [5, 17, 40, 3, 9, 28, 11, 60, 2, 33], 24
"""What bystanders ask."""


@dataclass
class Market:
    """Three honest workers that cover the model, and a cheat beside each of them."""

    network: LocalNetwork
    offers: dict[str, Offer]
    payer: LocalAccount
    wallets: list[Wallet]
    lie: Path
    deposit: int = DEPOSIT
    used: int = 1
    undisturbed: list[int] | None = None

    def wallet(self) -> Wallet:
        """One that nothing was signed with."""
        self.used += 1
        return self.wallets[self.used - 1]

    def path(self, *names: str) -> list[Offer]:
        return [self.offers[name] for name in names]

    @property
    def domain(self) -> Domain:
        return self.network.deployment.domain

    def window(self, name: str) -> int:
        """The most that this worker advances, in base units."""
        return window_of(hop_of(self.offers[name]), self.network.deployment.parameters.credit_tokens)

    def names(self) -> dict[str, str]:
        """Names by address."""
        return {offer.worker: name for name, offer in self.offers.items()}

    def held(self, name: str, session_key: str, epoch: int = 0) -> Voucher | None:
        """The best voucher that the worker holds, read from its store beside it."""
        deployment = self.network.deployment
        directory = Path(self.network.data_dir(name))
        for held in best_vouchers(directory, deployment.chain_id, deployment.contracts.channels):
            if (held.session_key, held.voucher.epoch) == (session_key, epoch):
                return held.voucher
        return None

    async def paid(self, name: str, wallet: Wallet, request_id: bytes) -> int:
        """What the worker's best voucher pays for a request, in base units; also checks that it is one book."""
        voucher = self.held(name, wallet.session.address)
        if voucher is None:
            return 0
        async with RecordSource(self.domain) as source:
            leaves = await source.leaves(self.offers[name].endpoint, voucher.receiptsRoot)
        book = Book.restore(voucher.payer, voucher.worker, voucher.epoch, leaves)
        assert book.total == voucher.total
        return book.covered(request_id)

    async def receipted(self, name: str, wallet: Wallet, request_id: bytes) -> int:
        """The fee of the last receipt that the worker signed for a request, as it hands it out to the client."""
        async with RecordSource(self.domain, Reader(wallet.payer, wallet.session)) as source:
            try:
                record = await source.record(self.offers[name].endpoint, request_id)
            except Unanswered as error:
                assert "holds nothing about that request" in str(error)
                return 0
        return max((receipt.fee for receipt, _ in record.receipts), default=0)

    async def measure(self, cheat: str, names: Sequence[str], wallet: Wallet, answer: Answer) -> int:
        """Record what each of these workers delivered to a client and what it was paid. Returns the greatest loss."""
        lost = 0
        for name, offer in ((name, self.offers[name]) for name in names):
            generated = len(answer.tokens)
            positions = answer.prompt_count + generated - 1 if generated else 0
            delivered = fee_of(hop_of(offer), answer.prompt_count, positions, generated)
            given = max(delivered, await self.receipted(name, wallet, answer.request_id))
            got = await self.paid(name, wallet, answer.request_id)
            lost = max(lost, losses.record(cheat, f"{name} worker", given, got, self.window(name)).lost)
        return lost

    @asynccontextmanager
    async def bystander(self) -> AsyncIterator[None]:
        """Another client of the honest workers: it gets its whole answer, whatever happens meanwhile, and again
        afterwards."""
        running = asyncio.create_task(self._ask_honestly())
        try:
            yield
        finally:
            tokens = await running
        assert self.undisturbed in (None, tokens)
        self.undisturbed = tokens

    async def _ask_honestly(self) -> list[int]:
        async with RawClient(self.domain, self.wallets[0], self.path(*HONEST)) as client:
            answer = await client.run(await client.open(PROMPT, TOKENS))
        assert answer.failures == {}
        assert (answer.reason, len(answer.tokens)) == ("length", TOKENS)
        return answer.tokens

    async def check_still_usable(self, wallet: Wallet, *names: str) -> None:
        """The cheat's own channel serves an honest request."""
        async with RawClient(self.domain, wallet, self.path(*names)) as client:
            answer = await client.run(await client.open(PROMPT, TOKENS))
        assert answer.failures == {}
        assert answer.tokens == self.undisturbed

    @contextmanager
    def lying(self, lie: str) -> Iterator[None]:
        """Requests that begin meanwhile meet this lie at the cheats."""
        self.lie.write_text(lie)
        try:
            yield
        finally:
            self.lie.write_text("")

    def query(self, path: Path, statement: str) -> list[Any]:
        """The first column of what a store of a running program answers."""
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return [row[0] for row in db.execute(statement)]

    def store(self, name: str) -> Path:
        deployment = self.network.deployment
        return store_path(Path(self.network.data_dir(name)), deployment.chain_id, deployment.contracts.channels)

    def open_requests(self) -> int:
        statement = "SELECT COUNT(*) FROM requests WHERE state = 'open'"
        return sum(self.query(self.store(name), statement)[0] for name in self.offers)

    async def until_idle(self) -> None:
        """Until every worker has ended every request."""
        async with asyncio.timeout(120):
            while self.open_requests():  # noqa: ASYNC110 - other processes have no event to wait for
                await asyncio.sleep(0.1)

    def check_stores(self) -> None:
        """Every worker's store is sound, and no request is left open in it."""
        assert self.open_requests() == 0
        for name in self.offers:
            assert self.query(self.store(name), "PRAGMA integrity_check") == ["ok"]

    # the chain

    async def claim(self, *names: str) -> None:
        """Every one of these workers brings its vouchers to the chain."""
        run, command = self.network.processes.run, ("claim", "--key", "cold", "--data-dir")
        await asyncio.gather(*(asyncio.to_thread(run, *command, self.network.data_dir(name)) for name in names))

    async def until(self, chain: Chain, time_seconds: int) -> None:
        """Until the chain's clock has reached that time."""
        async with asyncio.timeout(120):
            while (await chain.rpc.block()).timestamp < time_seconds:  # noqa: ASYNC110 - nor has the chain
                await asyncio.sleep(0.2)

    async def audit(self) -> list[object]:
        """The differences that `efedllm audit` finds."""
        result = await asyncio.to_thread(self.network.processes.run, "audit", check=False)
        differences: list[object] = result["differences"]
        return differences

    def set_block_time(self, seconds: int) -> None:
        """0: no block is made any more."""
        body = {"jsonrpc": "2.0", "id": 1, "method": "evm_setIntervalMining", "params": [seconds]}
        headers = {"content-type": "application/json"}
        asked = urllib.request.Request(self.network.rpc, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(asked) as response:
            assert "error" not in json.load(response)


def hop_of(offer: Offer) -> Hop:
    return Hop(offer.worker, offer.start, offer.end, offer.prompt_price, offer.token_price)


@contextmanager
def open_market(folder: Path) -> Iterator[Market]:
    """Everything started and staked, channels open; ended in order."""
    lie = folder / "lie"
    lie.write_text("")
    environment = {
        PASSWORD: secrets.token_hex(16),
        "EFEDLLM_DEPLOYMENT": str(folder / "deployment.json"),
        "EFEDLLM_STATE_DIR": str(folder / "state"),
        "OMP_NUM_THREADS": "1",
        LIE_FILE: str(lie),
    }
    with Processes(folder, environment) as processes:
        network = set_up(processes, folder, MODEL, [*HONEST, *LIARS])
        programs = {}
        for names, module, prices in ((HONEST, "impatient_worker", PRICES), (LIARS, "cheating_till", DEARER)):
            for name, layers in zip(names, RANGES, strict=True):
                programs[name] = network.start_worker(name, layers, prices, [f"tests.support.{module}"])
        addresses = {name: str(program.wait_for("serving", 120)["worker"]) for name, program in programs.items()}
        yield asyncio.run(_furnish(network, addresses, lie))


async def _furnish(network: LocalNetwork, addresses: dict[str, str], lie: Path) -> Market:
    password = network.processes.environment[PASSWORD]
    payer = KeyStore(Path(network.data_dir(PAYER))).load(KeyRole.COLD, password)
    async with await Chain.connect(network.rpc, network.deployment) as chain:
        by_address = {offer.worker: offer for offer in await find_offers(chain)}
        offers = {name: by_address[address] for name, address in addresses.items()}
        wallets = [Wallet(payer.address, Account.create()) for _ in range(WALLETS)]
        sender = chain.sender(payer)
        await sender.send(chain.token.approve(chain.channels.address, 2**256 - 1))
        fundings = [Funding(offer.worker, DEPOSIT) for offer in offers.values()]
        await sender.send_all([chain.channels.fund(wallet.session.address, fundings) for wallet in wallets])
    return Market(network, offers, payer, wallets, lie)
