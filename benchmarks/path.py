"""A path of worker processes on this machine, and the client's own session that asks and pays them."""

import asyncio
import multiprocessing
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path as Folder
from time import perf_counter
from types import TracebackType
from typing import Self

import aiohttp

from efedllm.chain.participants import Offer
from efedllm.client.errors import StoreError
from efedllm.client.job import Job, Timeouts
from efedllm.client.network import ChannelState, History, Token, Top
from efedllm.client.payments import Payments
from efedllm.client.records import Reader, RecordSource
from efedllm.client.routing import Route
from efedllm.client.session import Session
from efedllm.client.store import Store
from efedllm.protocol.eip712 import Domain
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.records import Record
from efedllm.storage.witness import Witness

from .host import Computed, Directory, Model, Started, Task, serve
from .requests import CREDIT_TOKENS, DEPOSIT, DOMAIN, EPOCH, MODEL_ID, PROMPT_PRICE, TOKEN_PRICE, Payer, hop

START_SECONDS = 180.0


@dataclass(frozen=True)
class Answer:
    """`arrivals`: when each token reached the client, in seconds of `perf_counter`; `computed`: by each
    worker."""

    request_id: bytes
    tokens: list[int]
    arrivals: list[float]
    computed: list[Computed]

    @property
    def seconds_per_token(self) -> float:
        """Between tokens, from the first to the last."""
        return (self.arrivals[-1] - self.arrivals[0]) / (len(self.arrivals) - 1)


class Path:
    """Workers that together hold a model; an async context manager that ends every process it started."""

    def __init__(self, model: Model, bounds: Sequence[int], data: Folder) -> None:
        """`bounds`: 0, the layers at which the model is cut, and the number of layers; `data`: an empty folder."""
        self.hosts: list[Started] = []
        self.bounds = bounds
        self._model, self._data = model, data
        self._connections: list[Connection] = []
        self._payer = Payer()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self._data.mkdir()
        context = multiprocessing.get_context("spawn")
        for at, (start, end) in enumerate(pairwise(self.bounds)):
            ours, theirs = context.Pipe()
            task = Task(self._model, start, end, self._data / str(at))
            process = context.Process(target=serve, args=(theirs, task), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process is the end of the pipe
            self._connections.append(ours)
            self._stack.push_async_callback(_end, process, ours)
        for connection in self._connections:
            if not await asyncio.to_thread(connection.poll, START_SECONDS):
                raise TimeoutError(f"a worker process did not start within {START_SECONDS:g} s")
            self.hosts.append(connection.recv())
        directory = Directory(
            {host.worker: host.hot_key for host in self.hosts}, {host.worker: host.endpoint for host in self.hosts}
        )
        for connection in self._connections:
            connection.send(directory)
        self._offers = tuple(
            Offer(host.worker, host.hot_key, MODEL_ID, host.endpoint, start, end, PROMPT_PRICE, TOKEN_PRICE, 1)
            for host, (start, end) in zip(self.hosts, pairwise(self.bounds), strict=True)
        )
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession())
        self._store = Store(self._data / "client.sqlite")
        self._stack.callback(self._store.close)
        self._network = MemoryNetwork(self._payer.account.address, directory)
        key = self._payer.session.address
        witness = Witness(DOMAIN.chain_id, DOMAIN.verifying_contract, key, StoreError, self._data)
        self._stack.callback(witness.close)
        self._payments = Payments(self._network, self._store, witness, self._payer.session)
        reader = Reader(self._payer.account.address, self._payer.session)
        self._records = await self._stack.enter_async_context(RecordSource(DOMAIN, reader))

    async def ask(self, prompt: list[int], max_tokens: int, vocab: int) -> Answer:
        """One paid request. Raises what ended it, if it failed."""
        path = tuple(hop(offer.worker, offer.start, offer.end) for offer in self._offers)
        opened = self._payer.open(path, prompt, max_tokens)
        job = Job(opened.request_id, opened.request, opened.signature, opened.salt, prompt, self._offers, vocab)
        await self._payments.prepare(job.request_id, Route(self._offers, 0), len(prompt), max_tokens)
        session = Session(job, self._network, self._payments, self._store, self._http, Timeouts())
        running = asyncio.create_task(session.run())
        arrivals: list[float] = []
        while await session.tokens.get() is not None:
            arrivals.append(perf_counter())
        await running
        if session.error is not None:
            raise session.error
        computed: list[Computed] = []
        for connection in self._connections:
            connection.send(True)
            computed.append(await asyncio.to_thread(connection.recv))
        return Answer(job.request_id, session.shown.tokens, arrivals, computed)

    async def record(self, shard: int, request_id: bytes) -> Record:
        """What a worker keeps about a request, asked for as its client may."""
        return await self._records.record(self.hosts[shard].endpoint, request_id)


class MemoryNetwork:
    """`efedllm.client.network.Network` where every channel holds money enough."""

    domain: Domain = DOMAIN
    token = Token("WORK", 18)
    credit_tokens = CREDIT_TOKENS

    def __init__(self, payer: str, directory: Directory) -> None:
        self.payer, self._directory = payer, directory

    async def offers(self) -> Sequence[Offer]:
        return ()

    async def spec(self, model_id: bytes) -> ModelSpec:
        raise AssertionError("paths are given, nothing is looked up")

    async def model_names(self) -> dict[bytes, str]:
        return {}

    async def hot_key(self, worker: str) -> str:
        return self._directory.hot_keys[worker]

    async def channel(self, worker: str, session_key: str) -> ChannelState:
        return ChannelState(DEPOSIT, 0, False, EPOCH)

    async def balance(self) -> int:
        return DEPOSIT

    async def fund(self, session_key: str, tops: Sequence[Top]) -> None:
        raise AssertionError("channels are full from the start")

    async def confirmation(self) -> None:
        """Everything is."""

    async def history(self, session_key: str) -> History:
        return History((), 0)

    async def close(self, session_key: str, workers: Sequence[str]) -> None:
        raise AssertionError("channels stay open")

    async def finish(self, session_key: str, workers: Sequence[str]) -> int:
        raise AssertionError("channels stay open")

    async def now(self) -> int:
        return 0


def split(layers: int, workers: int) -> list[int]:
    """Bounds of equal ranges."""
    return [layers * at // workers for at in range(workers + 1)]


async def _end(process: BaseProcess, connection: Connection) -> None:
    if process.is_alive():
        connection.send(False)
    await asyncio.to_thread(process.join, 10)
    if process.is_alive():
        process.kill()
        process.join()
    connection.close()
