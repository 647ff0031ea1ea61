"""Rotating a hot or a session key: every step can be repeated, and a crash between two costs nothing."""

from __future__ import annotations

from argparse import Namespace

from efedllm.chain.chain import Chain
from efedllm.chain.channels import Channel
from efedllm.chain.errors import ChainError
from efedllm.chain.events import ChannelClosed, ChannelFunded, HotKeyRotation
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.participants import gather_some
from efedllm.chain.rotation import settle_hot_key
from efedllm.chain.stake_registry import Role
from efedllm.options import emit, password, progress

from .network import chain_time, own_sender, show_amount, show_time

Channels = dict[tuple[str, str], Channel]
"""By session key and worker."""


async def rotate_hot(arguments: Namespace, chain: Chain) -> int:
    """Announce a new hot key, tell how far that is, or take it into use."""
    keys = KeyStore(arguments.data_dir)
    cold = keys.find(KeyRole.COLD).address
    participant = await chain.stakes.participant_of(cold)
    if participant.role is Role.NONE:
        raise ChainError(f"{cold} is not registered: a key that nobody knows is made with `efedllm keys new hot`")
    if await settle_hot_key(chain, keys):
        used = keys.find(KeyRole.HOT).address
        _tell_hot(
            arguments, "used", used, 0, f"the hot key {used} signs now: restart the worker or verifier, if it runs"
        )
        return 0
    if keys.has_next(KeyRole.HOT) and arguments.again:
        keys.withdraw_next(KeyRole.HOT)
    if not keys.has_next(KeyRole.HOT):
        path = keys.create_next(KeyRole.HOT, password(arguments), arguments.light).path
        progress(f"made a hot key in {path}")
    following = keys.find_next(KeyRole.HOT).address
    at = participant.next_hot_key_at
    if participant.next_hot_key != following:
        # Made before a crash, or just now: the chain does not know it.
        receipt = await own_sender(arguments, chain).send(chain.stakes.rotate_hot_key(following))
        at = next(event.effective_at for event in receipt.events if isinstance(event, HotKeyRotation))
    text = (
        f"the hot key {following} signs from {show_time(at)} on; until then {participant.hot_key} does\n"
        "restart the worker or verifier after that time: it takes the new key by itself"
    )
    if not await chain.rpc.balance(following):
        text += f"\n{following} has none of the chain's coin: send it some, so that a worker can claim with it"
    _tell_hot(arguments, "announced", following, at, text)
    return 0


def _tell_hot(arguments: Namespace, state: str, address: str, at: int, text: str) -> None:
    emit(arguments, {"role": "hot", "state": state, "hot_key": address, "effective_at": at or None}, text)


async def rotate_session(arguments: Namespace, chain: Chain) -> int:
    """A new session key, and the way home for the money in channels of old ones."""
    keys = KeyStore(arguments.data_dir)
    payer = keys.find(KeyRole.COLD).address
    present = keys.find(KeyRole.SESSION).address
    channels = await _funded(chain, payer)
    is_closing = any(session_key != present for session_key, _ in channels)
    if not keys.has_next(KeyRole.SESSION) and (arguments.again or not is_closing):
        path = keys.create_next(KeyRole.SESSION, password(arguments), arguments.light).path
        progress(f"made a session key in {path}")
        is_new = True
    else:
        is_new = keys.has_next(KeyRole.SESSION)
    # The old key's channels first: should this end here, the next run finds the new key and goes on.
    old = {key: channel for key, channel in channels.items() if is_new or key[0] != present}
    refund = await _close(arguments, chain, old)
    if is_new:
        keys.promote_next(KeyRole.SESSION)
    left = {key: channel for key, channel in (await _funded(chain, payer)).items() if key in old}
    _tell_session(arguments, chain, keys.find(KeyRole.SESSION).address, left, refund, is_new)
    return 0


async def _close(arguments: Namespace, chain: Chain, channels: Channels) -> int:
    """Announce or finish the close of every channel, as far as time allows; returns what came back."""
    now, refund = await chain_time(chain), 0
    for session_key in dict.fromkeys(session_key for session_key, _ in channels):
        own = {worker: channel for (key, worker), channel in channels.items() if key == session_key}
        to_announce = [worker for worker, channel in own.items() if not channel.closing_at]
        to_finish = [worker for worker, channel in own.items() if 0 < channel.closing_at <= now]
        if to_announce:
            await own_sender(arguments, chain).send(chain.channels.request_close(session_key, to_announce))
        if to_finish:
            receipt = await own_sender(arguments, chain).send(chain.channels.finish_close(session_key, to_finish))
            refund += sum(event.refund for event in receipt.events if isinstance(event, ChannelClosed))
    return refund


async def _funded(chain: Chain, payer: str) -> Channels:
    """All channels of `payer` that hold a deposit."""
    known: dict[tuple[str, str], None] = {}
    async for page in chain.events("Channels").read():
        for event in page.events:
            if isinstance(event, ChannelFunded) and event.payer == payer:
                known[event.session_key, event.worker] = None
    states = await gather_some(chain.channels.channel_of(payer, worker, key) for key, worker in known)
    return {key: channel for key, channel in zip(known, states, strict=True) if channel.deposit}


def _tell_session(arguments: Namespace, chain: Chain, address: str, left: Channels, refund: int, is_new: bool) -> None:
    lines = [
        f"the session key {address} signs from now on: open channels for it" if is_new else f"session key {address}"
    ]
    if refund:
        lines.append(f"got back {show_amount(refund, chain.deployment)}")
    until = max((channel.closing_at for channel in left.values()), default=0)
    rest = sum(channel.available for channel in left.values())
    if left:
        lines.append(
            f"{len(left)} channels of old keys are closing: run this again after {show_time(until)} to get back up to"
            f" {show_amount(rest, chain.deployment)}"
        )
    result = {
        "role": "session",
        "session_key": address,
        "is_new": is_new,
        "closing": [
            {"session_key": key, "worker": worker, "left": str(channel.available), "closing_at": channel.closing_at}
            for (key, worker), channel in left.items()
        ],
        "refund": str(refund),
    }
    emit(arguments, result, "\n".join(lines))
