"""Workers in this process on real sockets, over an in-memory chain: what worker tests run against."""

import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web
from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.model.load import load
from efedllm.model.shard import Shard
from efedllm.numerics.backend import select
from efedllm.protocol.eip712 import Domain
from efedllm.protocol.objects import Hop
from efedllm.protocol.requests import ModelLimits
from worker.admission import Offer
from worker.context import Context
from worker.engine import Engine
from worker.http import application
from worker.network import ChannelState
from worker.service import Service
from worker.store import Store

DOMAIN = Domain(31337, "0x" + "c0" * 20)
MODEL_ID = b"\x11" * 32
PROMPT_PRICE, TOKEN_PRICE = 3, 10
CREDIT_TOKENS = 32


@dataclass
class MemoryChain:
    """The state that workers read; tests change it."""

    channels: dict[tuple[str, str, str], ChannelState] = field(default_factory=dict)
    hot_keys: dict[str, str] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)
    verifiers: dict[str, str] = field(default_factory=dict)
    old_keys: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class MemoryNetwork:
    chain: MemoryChain
    worker: str

    async def channel(self, payer: str, session_key: str) -> ChannelState:
        return self.chain.channels.get((payer, self.worker, session_key), ChannelState(0, 0, False, 0))

    async def hot_key(self, worker: str) -> str:
        return self.chain.hot_keys[worker]

    async def was_own_key(self, key: str) -> bool:
        return key in self.chain.old_keys.get(self.worker, ()) or key == self.chain.hot_keys[self.worker]

    async def endpoint(self, worker: str) -> str:
        return self.chain.endpoints[worker]

    async def is_verifier_key(self, verifier: str, key: str) -> bool:
        return self.chain.verifiers.get(verifier) == key


@dataclass
class RunningWorker:
    address: str
    hot_key: LocalAccount
    context: Context
    service: Service
    store: Store
    url: str
    hop: Hop
    stack: AsyncExitStack

    async def stop(self) -> None:
        """End it at once, and let others open its store."""
        await self.stack.aclose()
        self.store.close()


class WorkerGroup:
    """`ranges`: one worker per layer range of the built model in `folder`. `identities`: address and hot key of each,
    where they are not to be new ones; their stores lie in `data` under their addresses. `model_id`: what the model is
    registered as."""

    def __init__(
        self,
        folder: Path,
        ranges: list[tuple[int, int]],
        data: Path,
        identities: list[tuple[str, LocalAccount]] | None = None,
        model_id: bytes = MODEL_ID,
        **changes: Any,
    ) -> None:
        self.folder, self.ranges, self.data, self.changes = folder, ranges, data, changes
        self.model_id = model_id
        self.identities = identities or [(Account.create().address, Account.create()) for _ in ranges]
        self.chain = MemoryChain()
        self.workers: list[RunningWorker] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for (start, end), (address, hot_key) in zip(self.ranges, self.identities, strict=True):
            self.workers.append(await self._start(start, end, address, hot_key, self.data / f"{address}.sqlite"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def restart(self, worker: RunningWorker, store: Path) -> RunningWorker:
        """Stop a worker, and let another one with its keys take its place, that starts from `store`."""
        await worker.stop()
        again = await self._start(worker.hop.start, worker.hop.end, worker.address, worker.hot_key, store)
        self.workers[self.workers.index(worker)] = again
        return again

    async def _start(self, start: int, end: int, address: str, hot_key: LocalAccount, path: Path) -> RunningWorker:
        stack = await self._stack.enter_async_context(AsyncExitStack())
        shard = Shard(load(self.folder, start, end), select("exact"))
        d = shard.dimensions
        limits = ModelLimits(self.model_id, d.layers, d.vocab, d.context)
        store = Store(path)
        store.interrupt_open()
        engine = Engine(shard, 4)
        stack.callback(engine.close)
        context = Context(
            offer=Offer(address, limits, start, end, PROMPT_PRICE, TOKEN_PRICE),
            engine=engine,
            store=store,
            hot_key=hot_key,
            hidden=d.hidden,
            credit_tokens=CREDIT_TOKENS,
            **{
                "domain": DOMAIN,
                "network": MemoryNetwork(self.chain, address),
                "stall_seconds": 5.0,
                "voucher_seconds": 2.0,
                "link_seconds": 3.0,
                **self.changes,
            },
        )
        http = await stack.enter_async_context(aiohttp.ClientSession())
        service = Service(context, http)
        runner = web.AppRunner(application(context, service, b"tokenizer"), shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.chain.hot_keys[address] = hot_key.address
        self.chain.endpoints[address] = url
        hop = Hop(address, start, end, PROMPT_PRICE, TOKEN_PRICE)
        return RunningWorker(address, hot_key, context, service, store, url, hop, stack)

    def open_channels(self, payer: str, session_key: str, deposit: int = 10**6, epoch: int = 1) -> None:
        for worker in self.workers:
            self.chain.channels[payer, worker.address, session_key] = ChannelState(deposit, 0, False, epoch)


def random_salt() -> bytes:
    return secrets.token_bytes(32)
