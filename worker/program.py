"""Start-up and shutdown of a worker: everything that can be wrong is found before the port opens."""

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import msgpack
from aiohttp import web
from eth_account.signers.local import LocalAccount

from efedllm.chain.amounts import format_amount, parse_amount
from efedllm.chain.chain import Chain
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.stake_registry import Participant, Role, Service
from efedllm.protocol.model_spec import model_id
from efedllm.protocol.requests import ModelLimits

from .admission import Offer
from .context import Context
from .contracts import ContractNetwork
from .errors import StartError
from .http import application
from .service import Service as Sessions
from .store import Store, store_path

if TYPE_CHECKING:
    from efedllm.model.shard import Shard

log = logging.getLogger("efedllm.worker")

Announce = Callable[[str, dict[str, object]], None]
"""Tells the operator one line, and machines the same as a map."""


@dataclass(frozen=True)
class Options:
    """What the operator chose; prices in whole payment tokens as typed, times in seconds; `end` None: to the last."""

    model: Path
    start: int
    end: int | None
    data_dir: Path
    rpc: str
    deployment: Path | None
    password: str
    host: str
    port: int
    endpoint: str | None
    prompt_price: str
    token_price: str
    backend: str | None
    device: str
    threads: int
    sessions: int
    grace_seconds: float


def load_shard(options: Options, end: int) -> "Shard":
    """Checked weights behind a back end that passed its self-test. Raises ModelError or NumericsError."""
    import torch

    from efedllm.model.load import load
    from efedllm.model.shard import Shard
    from efedllm.numerics.backend import select

    torch.set_num_threads(options.threads)
    backend = select(options.backend, options.device)
    return Shard(load(options.model, options.start, end), backend, options.device)


async def run(options: Options, announce: Announce, load: Callable[[Options, int], "Shard"] = load_shard) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError, ChainError, ModelError or NumericsError if it cannot start."""
    from efedllm.model.load import read_manifest
    from efedllm.model.spec import model_spec
    from efedllm.model.tokenizer_files import read_tokenizer_files

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    keys = KeyStore(options.data_dir)
    cold, hot = keys.find(KeyRole.COLD).address, keys.load(KeyRole.HOT, options.password)
    manifest = read_manifest(options.model)
    end = manifest.dimensions.layers if options.end is None else options.end
    identity = model_id(model_spec(manifest))
    async with await Chain.connect(options.rpc, options.deployment) as chain, AsyncExitStack() as stack:
        if not await chain.models.is_registered(identity):
            raise StartError(
                f"model {manifest.name} is not registered here: run `efedllm model register {options.model}`"
            )
        _check_participant(await chain.stakes.participant_of(cold), cold, hot.address)
        store = Store(store_path(options.data_dir, chain.deployment.chain_id, chain.deployment.contracts.channels))
        stack.callback(store.close)
        if interrupted := store.interrupt_open():
            log.info("%d requests were interrupted when this worker last ended", interrupted)
        shard = await asyncio.to_thread(load, options, end)
        d = manifest.dimensions
        limits = ModelLimits(identity, d.layers, d.vocab, d.context)
        decimals = chain.deployment.token_decimals
        prices = parse_amount(options.prompt_price, decimals), parse_amount(options.token_price, decimals)
        offer = Offer(cold, limits, options.start, end, *prices)
        context = _context(options, chain, offer, store, shard, hot)
        files = {name: bytes(data) for name, data in read_tokenizer_files(options.model).items()}
        tokenizer: bytes = msgpack.packb({"files": files, "stop_ids": list(manifest.stop_ids)})
        async with aiohttp.ClientSession() as http:
            sessions = Sessions(context, http)
            runner = web.AppRunner(application(context, sessions, tokenizer), access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, options.host, options.port)
            await site.start()
            try:
                port = runner.addresses[0][1]
                endpoint = options.endpoint or f"http://{options.host}:{port}"
                service = Service(identity, options.start, end, *prices, endpoint)
                if await chain.stakes.service_of(cold) != service:
                    owner = keys.load(KeyRole.COLD, options.password)
                    await chain.sender(owner).send(chain.stakes.update_service(service))
                announce(
                    f"worker {cold} serves layers {options.start}:{end} of {manifest.name} at {endpoint}",
                    {"event": "serving", "worker": cold, "layers": [options.start, end], "endpoint": endpoint},
                )
                await stop.wait()
                announce("ending: no new requests; running ones may finish", {"event": "draining"})
                await sessions.drain(options.grace_seconds)
            finally:
                await runner.cleanup()
                context.engine.close()
        await _tell_owed(chain, cold, store, announce)


def _check_participant(participant: Participant, cold: str, hot: str) -> None:
    if participant.role is not Role.WORKER:
        raise StartError(f"{cold} is not registered as a worker: run `efedllm stake AMOUNT` first")
    if participant.jailed:
        raise StartError(f"{cold} is jailed for a proven fault: it cannot serve any more")
    if participant.stake == 0:
        raise StartError(f"{cold} has no stake: run `efedllm stake AMOUNT` first")
    if hot not in (participant.hot_key, participant.next_hot_key):
        raise StartError(f"the hot key {hot} is not the registered one, {participant.hot_key}: use that data directory")


def _context(options: Options, chain: Chain, offer: Offer, store: Store, shard: "Shard", hot: LocalAccount) -> Context:
    from .engine import Engine

    return Context(
        offer=offer,
        domain=chain.deployment.domain,
        engine=Engine(shard, options.sessions),
        store=store,
        network=ContractNetwork(chain, offer.worker),
        hot_key=hot,
        hidden=shard.dimensions.hidden,
        credit_tokens=chain.deployment.parameters.credit_tokens,
        max_sessions=options.sessions,
    )


async def _tell_owed(chain: Chain, cold: str, store: Store, announce: Announce) -> None:
    """What clients signed for and was not claimed yet."""
    owed = channels = 0
    for held in store.best_vouchers():
        state = await chain.channels.channel_of(held.payer, cold, held.session_key)
        if state.epoch == held.voucher.epoch and held.voucher.total > state.claimed:
            owed += min(held.voucher.total, state.deposit) - state.claimed
            channels += 1
    deployment = chain.deployment
    amount = format_amount(owed, deployment.token_decimals)
    advice = "; collect it with `efedllm claim`" if owed else ""
    announce(
        f"ended: {amount} {deployment.token_symbol} owed by {channels} channels{advice}",
        {"event": "ended", "owed": str(owed), "channels": channels},
    )
