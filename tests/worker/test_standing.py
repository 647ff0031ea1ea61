"""A worker that is jailed, unstaked or has another key now: it takes no more requests, and says so."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from eth_account import Account

from efedllm.chain.chain import Chain
from efedllm.chain.local import AnvilProcess
from efedllm.chain.stake_registry import Participant, Role
from tests.worker.network import WorkerGroup
from tests.worker.payer import Payer, Refused, ask
from tests.worker.till import Market
from worker.errors import StartError
from worker.notices import Notices
from worker.standing import check_standing, objection, watch_standing

COLD, HOT, OTHER = (Account.create().address for _ in range(3))
NOBODY = "0x" + "00" * 20
GOOD = Participant(10, 0, 0, False, Role.WORKER, HOT, NOBODY, 0)


@pytest.mark.parametrize(
    ("participant", "counting", "expected"),
    [
        (GOOD, HOT, None),
        (replace(GOOD, role=Role.VERIFIER), HOT, "is not registered as a worker"),
        (replace(GOOD, role=Role.NONE), HOT, "is not registered as a worker"),
        (replace(GOOD, jailed=True), HOT, "is jailed"),
        (replace(GOOD, stake=0), HOT, "has no stake"),
        (replace(GOOD, hot_key=OTHER), OTHER, "is not the registered one"),
        (replace(GOOD, hot_key=OTHER, next_hot_key=HOT, next_hot_key_at=86_400), OTHER, "1970-01-02 00:00:00 UTC on"),
        (replace(GOOD, next_hot_key=OTHER, next_hot_key_at=5), HOT, None),
        (replace(GOOD, next_hot_key=OTHER, next_hot_key_at=5), OTHER, "is not the registered one"),
    ],
)
def test_objections(participant: Participant, counting: str, expected: str | None) -> None:
    found = objection(participant, COLD, HOT, counting)
    assert found is None if expected is None else found is not None and expected in found


class Watched:
    """What `watch_standing` tells a service."""

    objection: str | None = None


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_worker_learns_what_became_of_its_registration(
    chain: Chain, anvil: AnvilProcess, tmp_path: Path
) -> None:
    market = await Market.open(chain, tmp_path)
    cold, hot, owner = market.cold.address, market.hot.address, chain.sender(market.cold)
    assert await check_standing(chain, cold, hot) is None
    service, events = Watched(), []
    notices = Notices(lambda _, event: events.append(event))
    watching = asyncio.create_task(watch_standing(chain, cold, hot, service, notices, 0.02))  # type: ignore[arg-type]
    try:
        before = anvil.snapshot()
        stake = (await chain.stakes.participant_of(cold)).stake
        await owner.send(chain.stakes.request_unbond(stake))
        await until(lambda: service.objection is not None)
        assert "has no stake" in str(service.objection)
        # What it did can be disputed until its stake is gone, and only with its hot key can it answer.
        assert "has no stake" in str(await check_standing(chain, cold, hot))
        with pytest.raises(StartError, match="has no stake"):
            await check_standing(chain, cold, OTHER)
        chain_without_game: Any = SimpleNamespace(stakes=chain.stakes, game=None)
        with pytest.raises(StartError, match="has no stake"):
            await check_standing(chain_without_game, cold, hot)
        anvil.revert(before)  # a reorganisation takes it back
        await until(lambda: service.objection is None)
        await chain.sender(market.cold).send(chain.stakes.rotate_hot_key(OTHER))
        anvil.increase_time(3)
        await until(lambda: service.objection is not None)
        assert f"not the registered one, {OTHER}" in str(service.objection)
    finally:
        watching.cancel()
    assert [event["event"] for event in events] == ["warning", "over", "warning"]
    assert all(
        "no new requests are taken" in str(event.get("message", "no new requests are taken")) for event in events
    )


async def test_a_new_hot_key_waits_for_its_time(chain: Chain, anvil: AnvilProcess, tmp_path: Path) -> None:
    market = await Market.open(chain, tmp_path)
    cold, new = market.cold.address, Account.create().address
    await chain.sender(market.cold).send(chain.stakes.rotate_hot_key(new))
    await check_standing(chain, cold, new)
    service = Watched()
    watching = asyncio.create_task(watch_standing(chain, cold, new, service, Notices(), 0.02))  # type: ignore[arg-type]
    try:
        await until(lambda: service.objection is not None)
        assert "counts from" in str(service.objection)
        anvil.increase_time(3)
        await until(lambda: service.objection is None)
    finally:
        watching.cancel()


async def test_requests_are_sent_elsewhere_meanwhile(built: Path, tmp_path: Path) -> None:
    payer = Payer()
    async with WorkerGroup(built, [(0, 3)], tmp_path) as group:
        group.open_channels(payer.account.address, payer.session.address)
        path = [worker.hop for worker in group.workers]
        group.workers[0].service.objection = "it is jailed"
        with pytest.raises(Refused, match="draining: this worker does not take requests now"):
            await ask(group, payer, payer.request(path, [1, 2], 2), [1, 2])
        group.workers[0].service.objection = None
        assert len((await ask(group, payer, payer.request(path, [1, 2], 2), [1, 2])).tokens) == 2


def test_warnings_are_told_once_in_a_while() -> None:
    clock, told = [0.0], []
    notices = Notices(lambda text, event: told.append((text, event["event"])), clock=lambda: clock[0])
    for at in (0, 10, 6 * 3600 - 1, 6 * 3600):
        clock[0] = float(at)
        notices.warn("disk", "it is full")
    notices.warn("chain", "it is gone")
    notices.over("disk")
    notices.over("disk")
    notices.warn("disk", "it is full again")
    assert [event for _, event in told] == ["warning", "warning", "warning", "over", "warning"]
    assert told[0][0] == "warning: it is full"
