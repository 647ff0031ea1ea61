"""Every cheat is slashed on a real chain, and nobody else: the verifier's own code against workers that lie."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest

from efedllm.chain.chain import Chain
from efedllm.chain.local import AnvilProcess
from tests.support.cheat_model import CheatModel
from tests.support.cheat_session import Defence, Session
from tests.support.cheats import CHEATS, By, Cheat, Place
from tests.support.courtroom import (
    BURNED,
    FIRST_SLASH_BPS,
    REWARD_POOL,
    STAKE,
    VERIFIER,
    Courtroom,
    deploy,
)
from tests.support.mock_game import honest_player
from tests.support.trial import Bench, Liar, play
from tests.verifier.path import PAYER
from verifier.verdict import Outcome

BOUNDS = (0, 2, 4, 6)
PROMPT = [5, 9, 150, 33, 260, 41, 9]
TOKENS = 3


def cases() -> Iterator[object]:
    """Every cheat everywhere; what takes more than a few minutes only in `make test-long`: there is one place of each
    in `make test`. Games without a chain show that no defence helps; here they take turns."""
    defences = cycle(Defence)
    for number, cheat in enumerate(CHEATS):
        for place in cheat.places:
            is_long = place is not cheat.places[number % len(cheat.places)]
            yield pytest.param(cheat, place, next(defences), marks=[pytest.mark.long] * is_long)


def name_of(one: Cheat | Place | Defence) -> str:
    return str(one) if isinstance(one, Cheat) else one.name.lower()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CheatModel:
    return CheatModel.build(tmp_path_factory.mktemp("cheats"))


@dataclass
class House:
    """What the tests of this file share."""

    loop: asyncio.AbstractEventLoop
    room: Courtroom
    bench: Bench


@pytest.fixture(scope="module")
def house(model: CheatModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    loop = asyncio.new_event_loop()
    with AnvilProcess.start() as anvil:
        deployment = deploy(anvil.url, tmp_path_factory.mktemp("deployment") / "deployment.json")

        async def start() -> House:
            chain = await Chain.connect(anvil.url, deployment)
            room = Courtroom(anvil, chain, model, BOUNDS)
            await room.open()
            return House(loop, room, Bench(room, tmp_path_factory.mktemp("verifier")))

        made = loop.run_until_complete(start())
        yield made
        made.bench.close()
        loop.run_until_complete(made.room.chain.close())
    loop.close()


def noticed(room: Courtroom, cheat: Cheat, place: Place) -> Session:
    """Of a prompt with which the cheat changes what is signed: whoever samples the right tokens did nothing wrong."""
    for at in range(8):
        prompt = [*PROMPT, *range(at)]
        stop_ids = (room.serve(prompt, TOKENS).generated[1],) if cheat.ignores_stop else ()
        session = room.serve(prompt, TOKENS, cheat, place, stop_ids)
        if cheat.by is not By.GAME or place is not Place.LAST:
            return session
        own, receipt = honest_player(session.own(place).honest).committed, session.receipts[place]
        if (receipt.inputRoot, receipt.outputRoot) != (own.input.root, own.output.root):
            return session
    raise AssertionError("this cheat changes nothing")


@pytest.mark.parametrize(("cheat", "place", "defence"), list(cases()), ids=name_of)
def test_every_cheat_is_slashed(house: House, cheat: Cheat, place: Place, defence: Defence) -> None:
    house.loop.run_until_complete(slashed(house.room, house.bench, cheat, place, defence))


async def slashed(room: Courtroom, bench: Bench, cheat: Cheat, place: Place, defence: Defence) -> None:
    session = noticed(room, cheat, place)
    records = session.records()
    paid = [await room.claim(session, at) for at in range(len(session.receipts))]
    verdicts = [bench.judge(session, records, at, paid[at]) for at in range(len(session.receipts))]
    case, verdict = verdicts[place]
    print(f"\n    {verdict.outcome} {verdict.kind}: {verdict.reason}")
    assert all(
        other.outcome in (Outcome.OK, Outcome.UNAVAILABLE) for at, (_, other) in enumerate(verdicts) if at != place
    )
    worker = room.cold(place).address
    before = {who: await room.balance(who) for who in (VERIFIER.address, PAYER.address, REWARD_POOL, BURNED)}
    bench.accuse(session, case, verdict, paid[place], place)
    liar = Liar(room, session, place, session.defence(defence), session.committed, cheat.silent)
    await play(bench, liar)
    print(f"    {defence.value}: {liar.moves} moves, {liar.refused}")
    # slashed, jailed, refunded, verifier paid, bond back
    after = {who: await room.balance(who) for who in before}
    taken = STAKE * FIRST_SLASH_BPS // 10_000
    receipt, digest = session.receipts[place], session.receipts[place].requestId
    fault = await room.chain.game.fault_of(worker, digest)
    assert fault.proven_at
    assert (await room.chain.stakes.participant_of(worker)).jailed
    assert await room.chain.stakes.slashable(worker) == STAKE - taken
    assert after[VERIFIER.address] - before[VERIFIER.address] == taken * 4 // 10
    assert after[REWARD_POOL] - before[REWARD_POOL] == taken // 10
    assert after[BURNED] - before[BURNED] == taken // 2
    assert after[PAYER.address] - before[PAYER.address] == receipt.fee
    assert (await room.chain.channels.claim_of(worker, paid[place].claim.index)).amount == 0
    assert await room.chain.game.record_of(worker) == (0, 1)
    for at in range(len(room.hands)):
        if at != place:
            other = room.cold(at).address
            assert await room.chain.game.record_of(other) == (0, 0)
            assert not (await room.chain.stakes.participant_of(other)).jailed
            assert await room.chain.stakes.slashable(other) == STAKE
    await room.hire(place)


def test_of_four_only_the_second_is_slashed(house: House, tmp_path: Path) -> None:
    """All that the two behind it sent is wrong too, and follows from what they were given."""
    first = house.room
    room = Courtroom(first.anvil, first.chain, first.model, (0, 1, 3, 4, 6), first_hand=1000)
    cheat = next(one for one in CHEATS if one.name == "a skipped layer")

    async def play_it() -> None:
        await room.open()
        bench = Bench(room, tmp_path)
        try:
            await slashed(room, bench, cheat, Place.INNER, Defence.CONSISTENT)
        finally:
            bench.close()

    house.loop.run_until_complete(play_it())
