"""Whether this worker may serve: registered, staked, not jailed, and with the hot key that counts."""

import asyncio
from datetime import UTC, datetime

from efedllm.chain.chain import Chain
from efedllm.chain.errors import ChainError
from efedllm.chain.stake_registry import Participant, Role

from .errors import StartError
from .notices import Notices
from .service import Service


def objection(participant: Participant, cold: str, hot: str, counting: str) -> str | None:
    """Why no request may be served now; None if nothing stands against it. `counting`: the key whose signatures do."""
    if participant.role is not Role.WORKER:
        return f"{cold} is not registered as a worker: run `efedllm stake AMOUNT` first"
    if participant.jailed:
        return f"{cold} is jailed for a proven fault: it cannot serve any more"
    if participant.stake == 0:
        return f"{cold} has no stake: run `efedllm stake AMOUNT` first"
    if hot == counting:
        return None
    if hot == participant.next_hot_key:
        when = datetime.fromtimestamp(participant.next_hot_key_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"the hot key {hot} counts from {when} on: no requests until then"
    return (
        f"the hot key {hot} is not the registered one, {counting}: after `efedllm keys rotate` restart this worker,"
        " otherwise use the data directory of that key"
    )


async def read_objection(chain: Chain, cold: str, hot: str) -> tuple[str | None, bool]:
    """The objection in the latest state, and whether it goes away by waiting. Raises ChainError."""
    participant, counting = await asyncio.gather(chain.stakes.participant_of(cold), chain.stakes.hot_key_of(cold))
    found = objection(participant, cold, hot, counting)
    return found, found is not None and _passes(participant, cold, hot)


def _passes(participant: Participant, cold: str, hot: str) -> bool:
    """Whether only the time is in the way from which on the hot key counts."""
    return hot == participant.next_hot_key and objection(participant, cold, hot, hot) is None


async def check_standing(chain: Chain, cold: str, hot: str) -> str | None:
    """At the start: why nothing can be served, where games against this worker may be played all the same, since it is
    jailed or its stake is on its way out. None if it can serve, or can by waiting.

    Raises StartError for whatever else is in the way, ChainError.
    """
    participant, counting = await asyncio.gather(chain.stakes.participant_of(cold), chain.stakes.hot_key_of(cold))
    found = objection(participant, cold, hot, counting)
    if found is None or _passes(participant, cold, hot):
        return None
    if chain.game is None or participant.role is not Role.WORKER or hot != counting:
        raise StartError(found)
    is_open, _ = await chain.game.record_of(cold)
    if not (participant.jailed or participant.unbonding or is_open):
        raise StartError(found)
    return found


async def watch_standing(
    chain: Chain, cold: str, hot: str, service: Service, notices: Notices, poll_seconds: float
) -> None:
    """While serving: requests stop where the chain says so, and go on where it says so again (after a reorganisation,
    or once a new hot key counts). Never returns."""
    while True:
        try:
            found, _ = await read_objection(chain, cold, hot)
        except ChainError:
            pass  # whoever needs the chain for more than this says so
        else:
            service.objection = found
            if found is None:
                notices.over("standing")
            else:
                notices.warn("standing", f"{found}; no new requests are taken")
        await asyncio.sleep(poll_seconds)
