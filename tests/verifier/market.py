"""A network on a real chain: staked workers whose HTTP is served in this process, a client who pays, claims."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgpack
from aiohttp import web
from eth_account.signers.local import LocalAccount

from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding, VoucherClaim
from efedllm.chain.events import Claimed
from efedllm.chain.stake_registry import Role, Service
from efedllm.model.load import read_manifest
from efedllm.model.spec import model_spec
from efedllm.protocol import eip712
from efedllm.protocol.objects import Fetch, Sampling, Voucher
from efedllm.protocol.records import Record, pack_leaves
from efedllm.protocol.vouchers import Book, Leaf
from tests.support.chain import WORK, fund

from .path import PAYER, SESSION, Cheat, cold, hot, key, make_request, serve

VERIFIER_COLD, VERIFIER_HOT = key("verifier cold"), key("verifier hot")
DEPOSIT = 10**9


@dataclass
class Shop:
    """What one worker hands out; `silent` answers nothing, `answer` alters its records."""

    worker: str
    book: Book
    records: dict[bytes, Record] = field(default_factory=dict)
    books: dict[bytes, list[Leaf]] = field(default_factory=dict)
    voucher: tuple[Voucher, bytes] | None = None
    silent: bool = False
    fetches: int = 0


class Market:
    """`bounds`: layers at which the path is cut."""

    def __init__(self, chain: Chain, model: Path, bounds: tuple[int, ...], url: str) -> None:
        self.chain, self.model, self.bounds, self.url = chain, model, bounds, url
        self.domain = chain.deployment.domain
        self.shops = [Shop(cold(at).address, Book(PAYER.address, cold(at).address, 0)) for at in range(len(bounds) - 1)]
        self._nonce = 0

    async def open(self) -> None:
        """Register the model, workers and the verifier; open the channels."""
        chain = self.chain
        spec = model_spec(read_manifest(self.model), chain.deployment.contracts.step_verifier)
        await fund(chain, PAYER.address, WORK)
        payer = chain.sender(PAYER)
        await payer.send(chain.models.register(spec, "tiny"))
        model_id = await chain.models.id_of(spec)
        for at, (start, end) in enumerate(zip(self.bounds, self.bounds[1:], strict=False)):
            await self._join(cold(at), hot(at), Role.WORKER)
            service = Service(model_id, start, end, 5 + at, 7 + at, f"{self.url}/{at}")
            await chain.sender(cold(at)).send(chain.stakes.update_service(service))
        await self._join(VERIFIER_COLD, VERIFIER_HOT, Role.VERIFIER)
        await payer.send(chain.token.approve(chain.deployment.contracts.channels, WORK))
        funding = [Funding(shop.worker, DEPOSIT) for shop in self.shops]
        await payer.send(chain.channels.fund(SESSION.address, funding))

    async def _join(self, cold_key: LocalAccount, hot_key: LocalAccount, role: Role) -> None:
        chain = self.chain
        await fund(chain, cold_key.address, 1000 * WORK)
        await fund(chain, hot_key.address)
        sender = chain.sender(cold_key)
        await sender.send(chain.stakes.register(role, hot_key.address))
        await sender.send(chain.token.approve(chain.deployment.contracts.stake_registry, 1000 * WORK))
        await sender.send(chain.stakes.stake(1000 * WORK))

    def ask(
        self, prompt: list[int], max_tokens: int, cheats: dict[int, Cheat] | None = None, paid: int | None = None
    ) -> list[Record]:
        """A request served by all workers, every receipt of it (or the first `paid`) paid for by a voucher."""
        self._nonce += 1
        sampling, judge = Sampling(60_000, 40, 60_000), self.chain.deployment.contracts.step_verifier
        request = make_request(self.model, prompt, self.bounds, max_tokens, sampling, (), self._nonce, judge)
        records = serve(self.model, request, prompt, cheats, self.domain, epoch=0)
        for shop, record in zip(self.shops, records, strict=True):
            shop.records[eip712.digest(self.domain, request)] = record
            for receipt, _ in record.receipts[:paid]:
                leaf, replaces = shop.book.next_leaf(
                    receipt.requestId, eip712.digest(self.domain, receipt), receipt.fee
                )
                voucher = shop.book.voucher_after(leaf, replaces)
                shop.book.add(leaf, replaces)
                shop.voucher = voucher, eip712.sign(self.domain, voucher, SESSION)
                shop.books[voucher.receiptsRoot] = list(shop.book.leaves)
        return records

    async def claim(self, at: int) -> Claimed:
        """Worker `at` claims its best voucher."""
        voucher = self.shops[at].voucher
        assert voucher is not None
        call = self.chain.channels.claim(self.shops[at].worker, [VoucherClaim.of(*voucher)])
        receipt = await self.chain.sender(hot(at)).send(call)
        return next(event for event in receipt.events if isinstance(event, Claimed))

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/{at}/v1/receipts", self._receipts)
        app.router.add_get("/{at}/v1/books/{root}", self._books)
        return app

    async def _receipts(self, request: web.Request) -> web.Response:
        shop = self._shop(request)
        shop.fetches += 1
        body = msgpack.unpackb(await request.read())
        fetch = Fetch.from_wire(body["fetch"])
        signer = eip712.recover(self.domain, fetch, body["signature"])
        if (fetch.reader, signer) != (VERIFIER_COLD.address, VERIFIER_HOT.address):
            raise web.HTTPForbidden(text="not a verifier")
        if fetch.requestId not in shop.records:
            raise web.HTTPNotFound(text="unknown request")
        return web.Response(body=shop.records[fetch.requestId].pack())

    async def _books(self, request: web.Request) -> web.Response:
        leaves = self._shop(request).books.get(bytes.fromhex(request.match_info["root"]))
        if leaves is None:
            raise web.HTTPNotFound(text="no such voucher")
        return web.Response(body=pack_leaves(leaves))

    def _shop(self, request: web.Request) -> Shop:
        shop = self.shops[int(request.match_info["at"])]
        if shop.silent:
            raise web.HTTPServiceUnavailable(text="busy")
        return shop

    def alter(self, at: int, how: Callable[[Record], Record]) -> None:
        """Worker `at` hands out altered records from now on."""
        shop = self.shops[at]
        shop.records = {request_id: how(record) for request_id, record in shop.records.items()}


@asynccontextmanager
async def open_market(chain: Chain, model: Path, bounds: tuple[int, ...]) -> AsyncIterator[Market]:
    """A market whose workers answer on a port of 127.0.0.1."""
    market = Market(chain, model, bounds, "")
    runner = web.AppRunner(market.app(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        market.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await market.open()
        yield market
    finally:
        await runner.cleanup()


def without_rows(record: Record) -> Record:
    return replace(record, rows=b"")
