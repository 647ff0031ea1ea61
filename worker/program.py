"""Start-up and shutdown of a worker: everything that can be wrong is found before the port opens."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiohttp
import msgpack
from aiohttp import web
from eth_account.signers.local import LocalAccount

from efedllm.chain.amounts import format_amount, parse_amount
from efedllm.chain.chain import Chain
from efedllm.chain.errors import ChainError, ChainUnreachable, GasTooDear, NotMined
from efedllm.chain.judges import check_step_verifier
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.rotation import settle_hot_key
from efedllm.chain.stake_registry import Service
from efedllm.chain.transactions import Sender
from efedllm.protocol.model_spec import model_id
from efedllm.protocol.requests import ModelLimits

from .admission import Offer
from .beside import Beside, start
from .context import Context
from .contracts import ContractNetwork
from .errors import StartError
from .holdings import HoldingsReader
from .http import application
from .notices import Announce, Notices
from .options import Options
from .service import Service as Sessions
from .standing import check_standing, watch_standing
from .store import Store, store_path

if TYPE_CHECKING:
    from efedllm.model.shard import Shard

log = logging.getLogger("efedllm.worker")

TAKE_KEY_SECONDS = 10.0
"""How long the start waits for transactions of an earlier process to settle."""
MIN_BLIND_SECONDS = 600.0
"""Without news from the chain, channels are served for half of the withdrawal delay, and the keys of others believed
for half of the delay of a rotation; on chains whose delays are for playing, for this long."""


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

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    keys = KeyStore(options.data_dir)
    cold = keys.find(KeyRole.COLD).address
    keys.load(KeyRole.HOT, options.password)  # a wrong password is told before anything else
    manifest = read_manifest(options.model)
    end = manifest.dimensions.layers if options.end is None else options.end
    async with AsyncExitStack() as stack:
        connecting = Chain.connect(options.rpc, options.deployment, max_fee_wei=options.max_gas_price)
        chain = await stack.enter_async_context(await connecting)
        step_verifier = chain.deployment.contracts.step_verifier
        identity = model_id(model_spec(manifest, step_verifier))
        if not await chain.models.is_registered(identity):
            raise StartError(
                f"model {manifest.name} is not registered here: run `efedllm model register {options.model}`"
            )
        await settle_hot_key(chain, keys)
        hot = keys.load(KeyRole.HOT, options.password)
        objection = await check_standing(chain, cold, hot.address)
        store = Store(store_path(options.data_dir, chain.deployment.chain_id, chain.deployment.contracts.channels))
        stack.callback(store.close)
        if interrupted := store.interrupt_open():
            log.info("%d requests were interrupted when this worker last ended", interrupted)
        sender = chain.sender(hot)
        settling = await _take_key(sender)
        stack.callback(settling.cancel)
        notices = Notices(announce)
        beside = Beside(options, chain, cold, store, sender, notices)
        if objection is not None:
            await _defend_only(beside, objection, stop, announce)
            return
        await check_step_verifier(chain, step_verifier)
        shard = await asyncio.to_thread(load, options, end)
        d = manifest.dimensions
        limits = ModelLimits(identity, d.layers, d.vocab, d.context)
        decimals = chain.deployment.token_decimals
        prices = parse_amount(options.prompt_price, decimals), parse_amount(options.token_price, decimals)
        context = _context(options, chain, Offer(cold, limits, options.start, end, *prices), store, shard, hot)
        stack.callback(context.engine.close)
        sessions = Sessions(context, await stack.enter_async_context(aiohttp.ClientSession()), notices)
        port = await _listen(options, manifest.stop_ids, context, sessions, stack)
        endpoint = options.endpoint or f"http://{options.host}:{port}"
        await _register(chain, keys, options.password, Service(identity, options.start, end, *prices, endpoint))
        announce(
            f"worker {cold} serves layers {options.start}:{end} of {manifest.name} at {endpoint}",
            {"event": "serving", "worker": cold, "layers": [options.start, end], "endpoint": endpoint},
        )
        poll = max(1.0, min(10.0, chain.deployment.parameters.hot_key_delay_seconds / 2))
        watching = start(watch_standing(chain, cold, hot.address, sessions, notices, poll))
        stack.callback(watching.cancel)
        await beside.start()
        await stop.wait()
        announce("ending: no new requests; running ones may finish", {"event": "draining"})
        deadline = time.monotonic() + options.grace_seconds
        await sessions.drain(options.grace_seconds)
        await beside.end(deadline - time.monotonic())
        await _tell_owed(chain, cold, store, announce)


async def _defend_only(beside: Beside, objection: str, stop: asyncio.Event, announce: Announce) -> None:
    """For a worker that may not serve: what it did can still be disputed, and what it earned still be claimed."""
    announce(
        f"{objection}; nothing is served, but games against it are answered and claims are made until this is ended",
        {"event": "defending", "worker": beside.worker, "reason": objection},
    )
    await beside.start()
    await stop.wait()
    announce("ending", {"event": "draining"})
    await beside.end(beside.options.grace_seconds)
    await _tell_owed(beside.chain, beside.worker, beside.store, announce)


async def _take_key(sender: Sender) -> asyncio.Task[bool]:
    """Makes the hot key this program's, and finds out what became of transactions that an earlier process left.

    Where that takes long, it goes on in the task that is returned, and serving need not wait for it. Raises KeyInUse if
    another program sends with the key, ChainError.
    """
    settling = asyncio.create_task(sender.settle())
    await asyncio.wait({settling}, timeout=TAKE_KEY_SECONDS)
    if settling.done():
        try:
            settling.result()
        except (ChainUnreachable, GasTooDear, NotMined) as error:
            log.warning("an earlier transaction is still under way: %s", error)
    return settling


async def _listen(
    options: Options, stop_ids: Sequence[int], context: Context, sessions: Sessions, stack: AsyncExitStack
) -> int:
    """Open the port until `stack` ends; returns its number. Raises StartError."""
    from efedllm.model.tokenizer_files import read_tokenizer_files

    files = {name: bytes(data) for name, data in read_tokenizer_files(options.model).items()}
    tokenizer: bytes = msgpack.packb({"files": files, "stop_ids": list(stop_ids)})
    runner = web.AppRunner(application(context, sessions, tokenizer), access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, options.host, options.port).start()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartError(
            f"cannot listen on port {options.port} of {options.host}: {reason}; pass another --host or --port"
        ) from error
    port: int = runner.addresses[0][1]
    return port


async def _register(chain: Chain, keys: KeyStore, password: str, service: Service) -> None:
    """What is offered, on the chain. The cold key is in use for this moment only."""
    if await chain.stakes.service_of(keys.find(KeyRole.COLD).address) != service:
        with chain.sender(keys.load(KeyRole.COLD, password)) as owner:
            await owner.send(chain.stakes.update_service(service))


def _context(options: Options, chain: Chain, offer: Offer, store: Store, shard: "Shard", hot: LocalAccount) -> Context:
    from .engine import Engine

    parameters = chain.deployment.parameters
    blind = max(MIN_BLIND_SECONDS, parameters.withdrawal_delay_seconds / 2)
    keys_blind = max(MIN_BLIND_SECONDS, parameters.hot_key_delay_seconds / 2)
    return Context(
        offer=offer,
        domain=chain.deployment.domain,
        engine=Engine(shard, options.sessions),
        store=store,
        network=ContractNetwork(chain, offer.worker, keys_blind),
        hot_key=hot,
        hidden=shard.dimensions.hidden,
        credit_tokens=parameters.credit_tokens,
        blind_seconds=blind,
        max_sessions=options.sessions,
    )


async def _tell_owed(chain: Chain, cold: str, store: Store, announce: Announce) -> None:
    """What clients signed for and was not claimed yet."""
    advice = "; collect it with `efedllm claim`"
    try:
        holdings = await HoldingsReader(chain, cold, store).read()
    except ChainError as error:
        announce(f"ended: what is owed cannot be said ({error}){advice}", {"event": "ended", "owed": None})
        return
    credits = holdings.situation.credits
    owed = sum(credit.value for credit in credits)
    deployment = chain.deployment
    amount = format_amount(owed, deployment.token_decimals)
    announce(
        f"ended: {amount} {deployment.token_symbol} owed by {len(credits)} channels{advice if owed else ''}",
        {"event": "ended", "owed": str(owed), "channels": len(credits)},
    )
