"""The SDK: `async with Client() as client: async for piece in client.generate("..."): ...`."""

import asyncio
import os
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from eth_account.signers.local import LocalAccount

from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.participants import Offer
from efedllm.client.arrears import CREDIT, Arrears, PayingUp
from efedllm.client.contracts import ContractNetwork
from efedllm.client.errors import ClientError, ModelError, OldCopy, RoutingError, StoreError, Violation, WorkerFailed
from efedllm.client.generation import Generation, Running
from efedllm.client.job import Job, Timeouts
from efedllm.client.model_files import ModelFiles, model_files
from efedllm.client.network import Network
from efedllm.client.payments import CLOSING, Payments
from efedllm.client.peer import GONE
from efedllm.client.routing import Route, cheapest
from efedllm.client.sampling import sampling_of, seed_of, stop_ids_of
from efedllm.client.session import Session
from efedllm.client.store import Store, store_path
from efedllm.client.tending import Tended, Tender
from efedllm.client.trust import CAUGHT
from efedllm.client.upkeep import DAY_SECONDS, Policy
from efedllm.options import DEFAULT_DATA_DIR, DEFAULT_MAX_GAS_PRICE, DEFAULT_RPC
from efedllm.protocol import eip712
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.objects import KIND_INFERENCE, Request, Sampling
from efedllm.protocol.requests import ModelLimits, check_prompt, check_request, prompt_root
from efedllm.storage.witness import Witness

DEFAULT_MAX_TOKENS = 256
EXPIRY_SECONDS = 600
ATTEMPTS = 4
"""Paths that are tried before a request is given up; nothing is owed for those that do not begin."""
TRY_ELSEWHERE = GONE | {"busy", "draining", "internal", CREDIT, CLOSING}
TRY_AGAIN = frozenset({"channel", "epoch"})
"""A worker behind another node may not have seen yet that its channel was funded."""
TRY_AGAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Spending:
    """Base units. `deposit`: for a channel that has to be filled (default: a few requests' worth); `max_cost`: the most
    that one request may cost; `low_water`: channels in use are filled up when they have less (default: only when a
    request needs it).

    `budget`: the most that all channels of this data directory's session key together may ever hold or have paid, over
    all programs that used it, as the chain tells. What comes back from a closed channel can be spent again.

    Channels without a payment for `idle_seconds`, and those with workers that left, are closed.
    """

    deposit: int | None = None
    budget: int | None = None
    max_cost: int | None = None
    low_water: int | None = None
    idle_seconds: int = 30 * DAY_SECONDS


@dataclass(frozen=True)
class Access:
    """A network and the session key that signs for its payer."""

    network: Network
    signer: eip712.Signer


@dataclass(frozen=True)
class Model:
    """A registered model as a client needs it."""

    model_id: bytes
    spec: ModelSpec
    files: ModelFiles

    @property
    def limits(self) -> ModelLimits:
        return ModelLimits(self.model_id, self.spec.layers, self.spec.vocab, self.spec.context)


@dataclass(frozen=True)
class Ask:
    """What an answer is to be; `stop_ids` None: the model's own, `max_tokens` None: DEFAULT_MAX_TOKENS or what fits."""

    prompt: str | Sequence[int]
    model: str | None
    max_tokens: int | None
    sampling: Sampling
    seed: bytes
    stop_ids: tuple[int, ...] | None


class Client:
    """Finds workers, pays them, streams text. Use with `async with`; one client per data directory at a time.

    The payer is the cold key in `data_dir`, opened only to move money into channels; requests and vouchers are signed
    by its session key, which is made if there is none. `password` defaults to EFEDLLM_PASSWORD. While it is open, it
    looks after its channels every `upkeep_seconds` (None: never). `access` replaces chain and keys, as tests do.
    """

    def __init__(
        self,
        rpc: str = DEFAULT_RPC,
        deployment: Deployment | Path | None = None,
        data_dir: Path | str = DEFAULT_DATA_DIR,
        password: str | None = None,
        spending: Spending | None = None,
        timeouts: Timeouts | None = None,
        access: Access | None = None,
        upkeep_seconds: float | None = 60.0,
        max_gas_price: int = DEFAULT_MAX_GAS_PRICE,
    ) -> None:
        """`max_gas_price` in wei: transactions wait while gas is dearer."""
        self.last: Generation | None = None
        """The latest generation, for its cost and receipts."""
        self._rpc, self._deployment, self._password = rpc, deployment, password
        self._data_dir = Path(data_dir).expanduser()
        self._spending, self._timeouts = spending or Spending(), timeouts or Timeouts()
        self._max_gas_price = max_gas_price
        self._given_access, self._upkeep_seconds = access, upkeep_seconds
        self._stack = AsyncExitStack()
        self._running: set[Running] = set()
        self._models: dict[bytes, Model] = {}

    async def __aenter__(self) -> Self:
        try:
            access = self._given_access or await self._unlock()
            self._network, self._signer = access.network, access.signer
            domain = self._network.domain
            path = store_path(self._data_dir, domain.chain_id, domain.verifying_contract)
            self._store = await asyncio.to_thread(Store, path)
            self._stack.callback(self._store.close)
            spending = self._spending
            session_key = str(self._signer.address)
            witness = await asyncio.to_thread(
                Witness, domain.chain_id, domain.verifying_contract, session_key, StoreError
            )
            self._stack.callback(witness.close)
            self._payments = Payments(
                self._network, self._store, witness, self._signer, spending.deposit, spending.budget
            )
            self._http = await self._stack.enter_async_context(aiohttp.ClientSession())
            policy = Policy(spending.low_water, spending.deposit, spending.idle_seconds)
            self._arrears = Arrears(self._network, self._store, self._payments, self._http)
            self._tender = Tender(self._network, self._store, self._payments, self._arrears, self._http, policy)
            if self._upkeep_seconds is not None:
                self._stack.push_async_callback(_end, asyncio.create_task(self._tender.run(self._upkeep_seconds)))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(running.end() for running in self._running))
        await self._stack.aclose()

    @property
    def network(self) -> Network:
        """The deployment as this client sees it: token, offers, models."""
        return self._network

    def generate(
        self,
        prompt: str | Sequence[int],
        model: str | None = None,
        max_tokens: int | None = None,
        temperature: float = 0.8,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | bytes | None = None,
        stop_ids: Iterable[int] | None = None,
    ) -> Generation:
        """The answer to a text, or to token ids. Nothing happens before it is iterated.

        `model`: a registered name or 0x-id; may be left out where workers offer only one. `temperature` 0 is greedy.
        `seed`: an int (as uint256, big-endian) or 32 bytes; the same seed gives the same answer, bit for bit.
        `stop_ids` default to the model's. Iterating raises ClientError, ChainError or ProtocolError.
        """
        ask = Ask(
            prompt,
            model,
            max_tokens,
            sampling_of(temperature, top_p, top_k),
            seed_of(seed),
            None if stop_ids is None else stop_ids_of(stop_ids),
        )
        self.last = Generation(partial(self._begin, ask), lambda worker, of: self._payments.channel(worker).paid(of))
        return self.last

    async def tend(self) -> Tended:
        """Look after all channels now: deliver vouchers that workers lack, fill up, close, end what was closing.

        Raises ChainError, FundingError or StoreError; what concerns one worker is in the result's `problems`.
        """
        return await self._tender.tend()

    async def model(self, name: str | None = None) -> Model:
        """A model that workers offer, with its tokenizer. Raises ModelError."""
        return await self._model(name, await self._network.offers())

    # beginning

    async def _begin(self, ask: Ask) -> Running:
        """Route, fund and open the request; another path where a worker does not take it."""
        offers = await self._network.offers()
        model = await self._model(ask.model, offers)
        prompt = model.files.tokenizer.encode(ask.prompt) if isinstance(ask.prompt, str) else list(ask.prompt)
        room = model.spec.context + 1 - len(prompt)
        max_tokens = min(DEFAULT_MAX_TOKENS, max(room, 1)) if ask.max_tokens is None else ask.max_tokens
        avoid: set[str] = set()
        failure: ClientError | None = None
        for _ in range(ATTEMPTS):
            try:
                route = self._route(offers, model, len(prompt), max_tokens, avoid)
            except RoutingError as error:
                raise failure or error from error
            try:
                return await self._open_paid_up(ask, model, prompt, max_tokens, route)
            except WorkerFailed as error:
                failure = error
                if error.code in TRY_AGAIN:
                    await asyncio.sleep(TRY_AGAIN_SECONDS)
                elif error.code in TRY_ELSEWHERE:
                    avoid.add(error.worker)
                else:
                    raise
            except (OldCopy, Violation) as error:  # nothing was signed for it
                failure = error
                avoid.add(error.worker)
        assert failure is not None
        raise failure

    def _route(
        self, offers: Sequence[Offer], model: Model, prompt_count: int, max_tokens: int, avoid: set[str]
    ) -> Route:
        """Workers that were caught before, or broke off lately, are chosen only where it does not go without them: each
        request that they spoil can cost up to a window. Raises RoutingError."""
        now = _now()
        against = {
            worker: CAUGHT if self._store.is_accused(worker) else self._store.breaks(worker).objection(now)
            for worker in {offer.worker for offer in offers}
        }
        return cheapest(
            offers,
            model.model_id,
            model.spec.layers,
            prompt_count,
            max_tokens,
            avoid,
            self._spending.max_cost,
            {worker: objection for worker, objection in against.items() if objection},
        )

    async def _open_paid_up(self, ask: Ask, model: Model, prompt: list[int], max_tokens: int, route: Route) -> Running:
        """Open the request; where a worker refuses it for what earlier ones left unpaid, pay that and open it again."""
        paying_up = PayingUp(self._arrears, route.offers)
        while True:
            try:
                return await self._open(ask, model, prompt, max_tokens, route)
            except WorkerFailed as error:
                if not await paying_up.helps(error):
                    raise

    async def _open(self, ask: Ask, model: Model, prompt: list[int], max_tokens: int, route: Route) -> Running:
        leave = await self._payments.enter(route)
        try:
            job = self._job(ask, model, prompt, max_tokens, route)
        except BaseException:
            leave()
            raise
        fund = partial(self._payments.prepare, job.request_id, route, len(prompt), max_tokens)
        session = Session(job, self._network, self._payments, self._store, self._http, self._timeouts, fund)
        running = Running(session, asyncio.create_task(session.run()), route, model.files.tokenizer)
        self._running.add(running)
        running.task.add_done_callback(lambda _: self._running.discard(running))
        running.task.add_done_callback(lambda _: leave())
        try:
            await asyncio.shield(session.opened)
        except asyncio.CancelledError:
            running.task.cancel()
            raise
        return running

    def _job(self, ask: Ask, model: Model, prompt: list[int], max_tokens: int, route: Route) -> Job:
        """Signed, and checked here as workers will check it. Raises RequestError."""
        salt, now = os.urandom(32), _now()
        request = Request(
            payer=self._network.payer,
            nonce=secrets.randbits(64),
            expiry=now + EXPIRY_SECONDS,
            kind=KIND_INFERENCE,
            modelId=model.model_id,
            path=route.hops(),
            promptRoot=prompt_root(salt, prompt),
            promptCount=len(prompt),
            maxTokens=max_tokens,
            stopIds=model.files.stop_ids if ask.stop_ids is None else ask.stop_ids,
            seed=ask.seed,
            sampling=ask.sampling,
        )
        check_request(request, model.limits, now)
        check_prompt(request, salt, prompt, model.spec.vocab)
        domain = self._network.domain
        signature = eip712.sign(domain, request, self._signer)
        request_id = eip712.digest(domain, request)
        return Job(request_id, request, signature, salt, prompt, route.offers, model.spec.vocab)

    # finding

    async def _model(self, name: str | None, offers: Sequence[Offer]) -> Model:
        model_id = await self._model_id(name, offers)
        if model_id not in self._models:
            spec = await self._network.spec(model_id)
            endpoints = [offer.endpoint for offer in offers if offer.model_id == model_id]
            files = await model_files(self._http, self._data_dir, spec.tokenizer_hash, endpoints)
            self._models[model_id] = Model(model_id, spec, files)
        return self._models[model_id]

    async def _model_id(self, name: str | None, offers: Sequence[Offer]) -> bytes:
        offered = sorted({offer.model_id for offer in offers})
        if name is None:
            if len(offered) == 1:
                return offered[0]
            if not offered:
                raise ModelError("no worker offers any model here: start some with `efedllm worker`")
            names = await self._network.model_names()
            listed = ", ".join(sorted(names.get(model_id, "0x" + model_id.hex()) for model_id in offered))
            raise ModelError(f"several models are offered: choose one of {listed}")
        if name.startswith("0x"):
            try:
                model_id = bytes.fromhex(name[2:])
            except ValueError:
                model_id = b""
            if len(model_id) != 32:
                raise ModelError(f"{name} is no model id: it has 0x and 64 hexadecimal digits")
            return model_id
        found = [model_id for model_id, known in (await self._network.model_names()).items() if known == name]
        if len(found) > 1:  # anybody may register any name
            found = [model_id for model_id in found if model_id in offered]
            if len(found) > 1:
                ids = ", ".join("0x" + model_id.hex() for model_id in found)
                raise ModelError(f"several models are called {name}: choose one by its id, {ids}")
        if not found:
            raise ModelError(f"no model called {name} is registered here: `efedllm status` lists those that are")
        return found[0]

    # keys

    async def _unlock(self) -> Access:
        keys = KeyStore(self._data_dir)
        payer = keys.find(KeyRole.COLD).address
        password = os.environ.get("EFEDLLM_PASSWORD") if self._password is None else self._password
        if not password:
            raise ClientError("no password: pass one to Client, or set EFEDLLM_PASSWORD")
        if not keys.has(KeyRole.SESSION):
            await asyncio.to_thread(keys.create, KeyRole.SESSION, password)
        signer = await asyncio.to_thread(keys.load, KeyRole.SESSION, password)

        async def cold() -> LocalAccount:
            return await asyncio.to_thread(keys.load, KeyRole.COLD, password)

        connecting = Chain.connect(self._rpc, self._deployment, max_fee_wei=self._max_gas_price)
        chain = await self._stack.enter_async_context(await connecting)
        return Access(ContractNetwork(chain, payer, cold), signer)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _now() -> int:
    return int(time.time())
