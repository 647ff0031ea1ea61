"""`efedllm channel open|topup|close|list|tend`: a client's money with workers."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from efedllm.options import add_chain_options, add_key_options, emit, progress, table

from . import channel_tend

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.chain import Chain
    from efedllm.chain.channels import Channel


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser("channel", help="open, top up, close and list payment channels")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    for name, run, what in (
        ("open", run_open, "pay a deposit to each worker's channel; makes the session key if there is none"),
        ("topup", run_topup, "add to the deposit of open channels"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("amount", metavar="AMOUNT", help="whole tokens for each channel")
        _add_workers(command, "all that offer a service" if name == "open" else "all with an open channel")
        add_key_options(command)
        command.set_defaults(run=run)

    close = commands.add_parser(
        "close",
        help="get back what is not claimed, in two steps",
        description="Announce the close; called again after the withdrawal delay, get back what is not claimed.",
    )
    _add_workers(close, "all channels")
    add_key_options(close)
    close.set_defaults(run=run_close)

    channel_tend.add_command(commands)

    show = commands.add_parser("list", help="show this payer's channels; needs no password")
    add_chain_options(show)
    show.set_defaults(run=run_list)


def _add_workers(parser: ArgumentParser, everybody: str) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("workers", nargs="*", metavar="WORKER", default=[], help="the worker's address")
    group.add_argument("--all", action="store_true", help=everybody)


def run_open(arguments: Namespace) -> int:
    return _run(arguments, _open)


def run_topup(arguments: Namespace) -> int:
    return _run(arguments, _topup)


def run_close(arguments: Namespace) -> int:
    return _run(arguments, _close)


def run_list(arguments: Namespace) -> int:
    return _run(arguments, _list)


def _run(arguments: Namespace, work: Callable[[Namespace, Chain], Awaitable[int]]) -> int:
    from .network import run_on_chain

    return run_on_chain(arguments, work)


async def _open(arguments: Namespace, chain: Chain) -> int:
    from efedllm.chain.errors import ChainError
    from efedllm.chain.keys import KeyRole, KeyStore
    from efedllm.chain.participants import find_offers

    from .network import own_address

    payer, store = own_address(arguments), KeyStore(arguments.data_dir)
    workers = [offer.worker for offer in await find_offers(chain)] if arguments.all else _named(arguments)
    if not workers:
        raise ChainError("no worker offers a service: see `efedllm status`")
    for worker in workers:
        if not await chain.stakes.is_active_worker(worker):
            raise ChainError(f"{worker} is not an active worker: see `efedllm status`")
    if store.has(KeyRole.SESSION):
        session_key = store.find(KeyRole.SESSION).address
        open_already = [
            worker for worker, channel in (await _states(chain, payer, session_key, workers)).items() if channel.deposit
        ]
        if open_already:
            raise ChainError(f"there is a channel with {open_already[0]} already: run `efedllm channel topup`")
    return await _fund(arguments, chain, workers, "opened")


async def _topup(arguments: Namespace, chain: Chain) -> int:
    from efedllm.chain.errors import ChainError

    payer, session_key = _payer_and_session(arguments)
    channels = await _selected(arguments, chain, payer, session_key)
    usable = [worker for worker, channel in channels.items() if channel.deposit and not channel.closing_at]
    missing = [worker for worker in channels if worker not in usable]
    if not usable or (missing and not arguments.all):
        raise ChainError(f"no open channel with {(missing or ['any worker'])[0]}: run `efedllm channel open`")
    return await _fund(arguments, chain, usable, "topped up")


async def _fund(arguments: Namespace, chain: Chain, workers: list[str], done: str) -> int:
    from efedllm.chain.amounts import parse_amount
    from efedllm.chain.channels import Funding
    from efedllm.chain.keys import KeyRole, KeyStore
    from efedllm.options import password

    from .network import approve_and_send, own_sender, show_amount

    amount = parse_amount(arguments.amount, chain.deployment.token_decimals)
    sender, store = own_sender(arguments, chain), KeyStore(arguments.data_dir)
    if not store.has(KeyRole.SESSION):
        progress(f"made a session key in {store.create(KeyRole.SESSION, password(arguments)).path}")
    session_key = store.find(KeyRole.SESSION).address
    call = chain.channels.fund(session_key, [Funding(worker, amount) for worker in workers])
    await approve_and_send(chain, sender, call, amount * len(workers))
    states = await _states(chain, sender.address, session_key, workers)
    lines = [
        f"{done} {worker}: deposit {show_amount(channel.deposit, chain.deployment)}"
        for worker, channel in states.items()
    ]
    emit(arguments, _result(sender.address, session_key, states), "\n".join(lines))
    return 0


async def _close(arguments: Namespace, chain: Chain) -> int:
    from efedllm.chain.errors import ChainError
    from efedllm.chain.events import ChannelClosed

    from .network import chain_time, own_sender, show_amount, show_time

    payer, session_key = _payer_and_session(arguments)
    states = await _selected(arguments, chain, payer, session_key)
    if missing := [worker for worker, channel in states.items() if not channel.deposit]:
        raise ChainError(f"no channel with {missing[0]}: see `efedllm channel list`")
    if not states:
        raise ChainError("no channels to close")
    now = await chain_time(chain)
    to_announce = [worker for worker, channel in states.items() if not channel.closing_at]
    to_finish = [worker for worker, channel in states.items() if 0 < channel.closing_at <= now]
    sender = own_sender(arguments, chain)
    refund = 0
    if to_announce:
        await sender.send(chain.channels.request_close(session_key, to_announce))
    if to_finish:
        receipt = await sender.send(chain.channels.finish_close(session_key, to_finish))
        refund = sum(event.refund for event in receipt.events if isinstance(event, ChannelClosed))
    after = await _states(chain, payer, session_key, list(states))
    lines = [f"closed {worker}" for worker in to_finish]
    lines += [
        f"closing {worker}: run this again after {show_time(channel.closing_at)}"
        for worker, channel in after.items()
        if channel.closing_at
    ]
    if to_finish:
        lines.append(f"got back {show_amount(refund, chain.deployment)}")
    emit(arguments, _result(payer, session_key, after) | {"refund": str(refund)}, "\n".join(lines))
    return 0


async def _list(arguments: Namespace, chain: Chain) -> int:
    from .network import own_address, show_amount, show_time

    payer = own_address(arguments)
    rows: list[tuple[str, ...]] = []
    channels: list[dict[str, object]] = []
    for session_key, workers in (await _known(chain, payer)).items():
        states = await _states(chain, payer, session_key, workers)
        channels += _rows(session_key, states)
        for worker, channel in states.items():
            state = f"closing {show_time(channel.closing_at)}" if channel.closing_at else "open"
            amounts = (channel.deposit, channel.claimed, channel.available)
            rows.append(
                (
                    worker,
                    *(show_amount(amount, chain.deployment) for amount in amounts),
                    state if channel.deposit else "closed",
                )
            )
    text = table(("worker", "deposit", "claimed", "left", "state"), rows) if rows else f"{payer} has no channels"
    emit(arguments, {"payer": payer, "channels": channels}, text)
    return 0


def _named(arguments: Namespace) -> list[str]:
    """The workers on the command line, each once."""
    from efedllm.chain.addresses import parse_address

    return list(dict.fromkeys(parse_address(text) for text in arguments.workers))


def _payer_and_session(arguments: Namespace) -> tuple[str, str]:
    from efedllm.chain.keys import KeyRole, KeyStore

    store = KeyStore(arguments.data_dir)
    return store.find(KeyRole.COLD).address, store.find(KeyRole.SESSION).address


async def _selected(arguments: Namespace, chain: Chain, payer: str, session_key: str) -> dict[str, Channel]:
    """The channels named, or with --all those that hold a deposit."""
    if not arguments.all:
        return await _states(chain, payer, session_key, _named(arguments))
    known = await _states(chain, payer, session_key, (await _known(chain, payer)).get(session_key, []))
    return {worker: channel for worker, channel in known.items() if channel.deposit}


async def _known(chain: Chain, payer: str) -> dict[str, list[str]]:
    """All workers that `payer` ever had a channel with, by session key, in the order of their first funding."""
    from efedllm.chain.events import ChannelFunded

    found: dict[str, dict[str, None]] = {}
    async for page in chain.events("Channels").read():
        for event in page.events:
            if isinstance(event, ChannelFunded) and event.payer == payer:
                found.setdefault(event.session_key, {})[event.worker] = None
    return {session_key: list(workers) for session_key, workers in found.items()}


async def _states(chain: Chain, payer: str, session_key: str, workers: list[str]) -> dict[str, Channel]:
    from efedllm.chain.participants import gather_some

    states = await gather_some(chain.channels.channel_of(payer, worker, session_key) for worker in workers)
    return dict(zip(workers, states, strict=True))


def _result(payer: str, session_key: str, states: Mapping[str, Channel]) -> dict[str, object]:
    return {"payer": payer, "channels": _rows(session_key, states)}


def _rows(session_key: str, states: Mapping[str, Channel]) -> list[dict[str, object]]:
    return [
        {
            "worker": worker,
            "session_key": session_key,
            "epoch": channel.epoch,
            "deposit": str(channel.deposit),
            "claimed": str(channel.claimed),
            "left": str(channel.available),
            "closing_at": channel.closing_at or None,
        }
        for worker, channel in states.items()
    ]
