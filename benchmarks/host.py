"""A worker in a process of its own: the worker program's service on a real socket, with a chain in memory."""

import asyncio
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

import aiohttp
import torch
from aiohttp import web

from efedllm.model.cache import Cache
from efedllm.model.config import Dimensions
from efedllm.model.load import Loaded, load, read_manifest
from efedllm.model.shard import Shard
from efedllm.numerics.backend import select
from efedllm.protocol.objects import Request
from efedllm.protocol.requests import ModelLimits
from worker.admission import Offer
from worker.context import Context
from worker.engine import Engine, StepResult
from worker.http import application
from worker.network import ChannelState
from worker.service import Service
from worker.store import Store

from .requests import CREDIT_TOKENS, DEPOSIT, DOMAIN, EPOCH, MODEL_ID, PROMPT_PRICE, TOKEN_PRICE, new_key
from .shapes import Shape

Model = Shape | Path
"""Random weights of a shape, or the folder of a built model."""

SESSIONS = 2


@dataclass(frozen=True)
class Task:
    """What a host is to serve; `data`: a folder of its own."""

    model: Model
    start: int
    end: int
    data: Path


@dataclass(frozen=True)
class Started:
    """Where it serves, and the address that signs for it."""

    worker: str
    hot_key: str
    endpoint: str


@dataclass(frozen=True)
class Directory:
    """What a chain would know: hot keys and endpoints by worker. Everybody has a channel with everybody."""

    hot_keys: dict[str, str]
    endpoints: dict[str, str]

    async def channel(self, payer: str, session_key: str) -> ChannelState:
        return ChannelState(DEPOSIT, 0, False, EPOCH)

    async def hot_key(self, worker: str) -> str:
        return self.hot_keys[worker]

    async def endpoint(self, worker: str) -> str:
        return self.endpoints[worker]

    async def was_own_key(self, key: str) -> bool:
        return key in self.hot_keys.values()

    async def is_verifier_key(self, verifier: str, key: str) -> bool:
        return False


@dataclass(frozen=True)
class Computed:
    """Seconds that a worker computed: for prompt positions, and for generated ones."""

    prompt: float = 0.0
    generated: float = 0.0


class TimedEngine(Engine):
    """An engine that knows how long it computed; waiting and sending are not counted."""

    computed = Computed()

    def _step(
        self, cache: Cache, inputs: list[int] | bytes | memoryview, request: Request, sample_position: int | None
    ) -> StepResult:
        is_prompt = cache.length < request.promptCount
        start = perf_counter()
        result = super()._step(cache, inputs, request, sample_position)
        seconds = perf_counter() - start
        before = self.computed
        self.computed = (
            Computed(before.prompt + seconds, before.generated)
            if is_prompt
            else Computed(before.prompt, before.generated + seconds)
        )
        return result


def open_model(model: Model, start: int = 0, end: int | None = None) -> Loaded:
    """Layers `start .. end`, all by default."""
    return load(model, start, end) if isinstance(model, Path) else model.loaded(start, end)


def dimensions_of(model: Model) -> Dimensions:
    return read_manifest(model).dimensions if isinstance(model, Path) else model.dimensions


def serve(connection: Connection, task: Task) -> None:
    """The process: sends Started, receives the Directory, then answers every `True` with what it computed since the
    one before, and ends on `False` or when its parent is gone."""
    torch.set_num_threads(1)
    asyncio.run(_serve(connection, task))


async def _serve(connection: Connection, task: Task) -> None:
    worker, hot_key = new_key(), new_key()
    shard = Shard(open_model(task.model, task.start, task.end), select())
    engine = TimedEngine(shard, SESSIONS)
    dimensions = shard.dimensions
    limits = ModelLimits(MODEL_ID, dimensions.layers, dimensions.vocab, dimensions.context)
    directory = Directory({}, {})
    task.data.mkdir()
    context = Context(
        offer=Offer(worker.address, limits, task.start, task.end, PROMPT_PRICE, TOKEN_PRICE),
        domain=DOMAIN,
        engine=engine,
        store=Store(task.data / "store.sqlite"),
        network=directory,
        hot_key=hot_key,
        hidden=dimensions.hidden,
        credit_tokens=CREDIT_TOKENS,
    )
    async with aiohttp.ClientSession() as http:
        runner = web.AppRunner(application(context, Service(context, http), b""), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            connection.send(Started(worker.address, hot_key.address, f"http://127.0.0.1:{port}"))
            known: Directory = await asyncio.to_thread(connection.recv)
            directory.hot_keys.update(known.hot_keys)
            directory.endpoints.update(known.endpoints)
            while await asyncio.to_thread(_is_asked, connection):
                connection.send(engine.computed)
                engine.computed = Computed()
        finally:
            await runner.cleanup()
            engine.close()
            context.store.close()


def _is_asked(connection: Connection) -> bool:
    try:
        return bool(connection.recv())
    except EOFError:
        return False
