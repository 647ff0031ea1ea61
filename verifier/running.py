"""Pass after pass: once, or until told to stop."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Protocol

from efedllm.chain.errors import ChainUnreachable, Reorganised, UnknownBlock

from .service import Verifier

log = logging.getLogger("efedllm.verifier")


class Stepper(Protocol):
    """Something that does all there is to do now, pass after pass."""

    async def step(self) -> object: ...


class Player(Stepper, Protocol):
    """`Challenger`."""

    def is_done(self) -> bool: ...


async def run_once(
    verifier: Verifier,
    stop: asyncio.Event,
    wait_seconds: float,
    poll_seconds: float,
    player: Player | None = None,
) -> None:
    """Passes until every claim mined by now was drawn and every drawn receipt was asked for, and until the games about
    what was found are over, or time is up."""
    target = await verifier.head()
    deadline = time.monotonic() + wait_seconds
    while not stop.is_set():
        await verifier.step()
        if player is not None:
            await player.step()
        if verifier.is_done(target) and (player is None or player.is_done()):
            return
        if time.monotonic() >= deadline:
            log.warning("blocks did not come in time: some claims have no seed yet or games no end, run again")
            return
        await asyncio.sleep(poll_seconds)


async def run_together(steppers: Sequence[Stepper], stop: asyncio.Event, poll_seconds: float) -> None:
    """All of them at once, each at its own pace, until `stop` or until one of them fails."""
    running = [asyncio.ensure_future(run_forever(one, stop, poll_seconds)) for one in steppers]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        for one in running:
            if one.done():
                one.result()
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def run_forever(stepper: Stepper, stop: asyncio.Event, poll_seconds: float) -> None:
    """Pass after pass until `stop`. An unreachable chain is waited for."""
    while not stop.is_set():
        work = asyncio.ensure_future(stepper.step())
        ended = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({work, ended}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                try:
                    work.result()
                except (ChainUnreachable, UnknownBlock, Reorganised) as error:
                    log.warning("%s; waiting", error)
                try:
                    await asyncio.wait_for(ended, poll_seconds)
                except TimeoutError:
                    continue
        finally:
            for task in (work, ended):
                task.cancel()
            await asyncio.gather(work, ended, return_exceptions=True)
