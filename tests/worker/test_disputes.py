"""An honest worker against whatever challengers try, on a real chain: it answers in time, and the bond goes to it."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from efedllm.chain.chain import Chain
from efedllm.chain.dispute_game import TokenProof
from efedllm.chain.local import AnvilProcess
from efedllm.chain.outbox import Outbox
from efedllm.chain.rpc import Rpc
from efedllm.numerics.backend import Backend
from efedllm.protocol.game import Phase, Side, TokenFault
from tests.worker.arena import BOND, MOVE_SECONDS, Arena, Challenger, Party, deploy
from worker.defender import Defender
from worker.exhibits import Exhibits
from worker.games import Games
from worker.store import Store
from worker.tracing import Tracer

RANGES = [(0, 1), (1, 2), (2, 3)]
PROMPTS = [[(5 * at) % 256 for at in range(70)], [9, 8, 7]]


@pytest.fixture
async def arena(chain: Chain, anvil: AnvilProcess, built: Path, tmp_path: Path) -> AsyncIterator[Arena]:
    async with await Chain.connect(anvil.url, await deploy(chain)) as own:
        made = await Arena.open(own, anvil, built, tmp_path, RANGES)
        await made.serve(RANGES, PROMPTS, 4)
        yield made


@pytest.fixture
def tracer(built: Path, backend: Backend, tmp_path: Path) -> Tracer:
    return Tracer(built, backend, tmp_path)


async def defend(arena: Arena, defender: Defender) -> None:
    """Until nothing is to be done."""
    async with asyncio.timeout(120):
        while True:
            nonce = await arena.chain.rpc.transaction_count(defender._sender.address)
            pause = await defender.defend()
            if (building := defender._exhibits._building) is not None and not building.done():
                await building
            elif await arena.chain.rpc.transaction_count(defender._sender.address) == nonce and pause:
                return


async def play_to_the_proof(arena: Arena, defender: Defender, games: list[tuple[Challenger, int, Side]]) -> None:
    while True:
        await defend(arena, defender)
        moved = [await challenger.move(game_id, side) for challenger, game_id, side in games]
        if not any(moved):
            return


async def let_deadlines_pass(arena: Arena, defender: Defender) -> None:
    arena.anvil.increase_time(MOVE_SECONDS + 1)
    arena.anvil.mine(1)
    await defend(arena, defender)


@pytest.mark.parametrize("shard", range(len(RANGES)), ids=["first", "inner", "last"])
async def test_random_picks_to_the_end(arena: Arena, tracer: Tracer, shard: int) -> None:
    party = arena.parties[shard]
    store = Store(party.store)
    defender = arena.defender(party, store, tracer)
    challenger = await arena.challenger(party, shard)
    sides = [Side.INPUT, Side.BODY, Side.OUTPUT, Side.BODY]
    before = await arena.balance(party.cold.address), await arena.balance(challenger.account.address)
    games = [(challenger, await challenger.open(at % 2), side) for at, side in enumerate(sides)]
    paid = sum(range(1, len(sides) + 1)) * BOND
    assert await arena.balance(challenger.account.address) == before[1] - paid
    await play_to_the_proof(arena, defender, games)
    for _, game_id, _ in games:
        assert (await arena.game.game_of(game_id)).phase is Phase.PROOF
        await garbage_is_refused(challenger, game_id, party)
    await let_deadlines_pass(arena, defender)
    for _, game_id, _ in games:
        assert (await arena.game.game_of(game_id)).phase is Phase.WORKER_WON
    after = await arena.balance(party.cold.address), await arena.balance(challenger.account.address)
    assert (after[0] - before[0], before[1] - after[1]) == (paid // 2, paid)
    assert await arena.game.record_of(party.cold.address) == (0, 0)
    assert (await arena.chain.stakes.participant_of(party.cold.address)).jailed is False
    assert len(arena.told("challenged")) == len(arena.told("defended")) == len(sides)
    assert arena.told("lost") == []
    store.close()


async def garbage_is_refused(challenger: Challenger, game_id: int, party: Party) -> None:
    """Proofs of nothing, of other games and of other kinds."""
    game, state = challenger.arena.game, await challenger.arena.game.game_of(game_id)
    paper = challenger.paper_of(state)
    rubbish = challenger.random.randbytes(32)
    calls = [
        game.prove_step(game_id, paper, rubbish, 0, ()),
        game.prove_row(game_id, paper, rubbish, [rubbish] * 3),
        game.prove_token(game_id, paper, rubbish[:4], TokenProof(TokenFault.VOCABULARY)),
        game.prove_token(game_id, paper, rubbish[:4], TokenProof(TokenFault.TOKEN_ROOT, rubbish, rubbish, b"", ())),
        game.pick(game_id, 3, rubbish, [rubbish] * 4),
        game.choose_side(game_id, Side.OUTPUT, paper),
        game.timeout(game_id, paper.receipt),
        game.prove_shape(paper),
        game.prove_equivocation(paper, paper.receipt, paper.signature),
    ]
    for call in calls:
        assert await challenger.is_refused(call), call.label


async def test_late_challengers_lose_at_every_move(arena: Arena, tracer: Tracer) -> None:
    party = arena.parties[1]
    store = Store(party.store)
    defender = arena.defender(party, store, tracer)
    challenger = await arena.challenger(party)
    for moves in range(4):
        game_id = await challenger.open()
        for _ in range(moves):
            await defend(arena, defender)
            await challenger.move(game_id, Side.BODY)
        await defend(arena, defender)
        await let_deadlines_pass(arena, defender)
        assert (await arena.game.game_of(game_id)).phase is Phase.WORKER_WON
    assert len(arena.told("defended")) == 4
    store.close()


async def test_demands(arena: Arena, tracer: Tracer) -> None:
    party = arena.parties[0]
    store = Store(party.store)
    defender = arena.defender(party, store, tracer)
    challenger = await arena.challenger(party)
    before = await arena.balance(party.cold.address), await arena.balance(challenger.account.address)
    game_id = await challenger.demand()
    await defend(arena, defender)
    assert (await arena.game.game_of(game_id)).phase is Phase.ANSWERED
    after = await arena.balance(party.cold.address), await arena.balance(challenger.account.address)
    fee = await arena.game.number("demandFee")
    assert (after[0] - before[0], before[1] - after[1]) == (fee, fee)
    assert store.games.disputed(party.papers[0].receipt.requestId)
    arena.anvil.increase_time(101)
    arena.anvil.mine(1)
    await defend(arena, defender)
    assert not store.games.disputed(party.papers[0].receipt.requestId)
    assert arena.told("defended")[0]["demand"] is True
    store.close()


async def test_an_old_hot_key_and_none_at_all(arena: Arena, tracer: Tracer) -> None:
    """Receipts of a key that was rotated away are defended with the current one, also by a worker that unbonds."""
    from tests.support.chain import new_account

    party = arena.parties[2]
    hot = await new_account(arena.chain)
    owner = arena.chain.sender(party.cold)
    await owner.send(arena.chain.stakes.rotate_hot_key(hot.address))
    arena.anvil.increase_time(3)
    arena.anvil.mine(1)
    await owner.send(
        arena.chain.stakes.request_unbond((await arena.chain.stakes.participant_of(party.cold.address)).stake)
    )
    store = Store(party.store)
    defender = arena.defender(replace(party, hot=hot), store, tracer)
    challenger = await arena.challenger(party)
    game_id = await challenger.open(1)
    await play_to_the_proof(arena, defender, [(challenger, game_id, Side.BODY)])
    await let_deadlines_pass(arena, defender)
    assert (await arena.game.game_of(game_id)).phase is Phase.WORKER_WON
    store.close()


async def test_killed_between_any_two_moves(arena: Arena, tracer: Tracer) -> None:
    """Each move by a process that knows nothing but its folder and the chain, among games of other workers."""
    party, other = arena.parties[1], arena.parties[2]
    challenger, elsewhere = await arena.challenger(party, 5), await arena.challenger(other)
    await elsewhere.open()
    game_id = await challenger.open()
    while True:
        async with await Chain.connect(arena.anvil.url, arena.chain.deployment) as chain:
            store = Store(party.store)
            defender = arena.defender(party, store, tracer, chain=chain)
            await defend(arena, defender)
            await defender._exhibits.close()
            store.close()
        if not await challenger.move(game_id, Side.BODY):
            break
    assert (await arena.game.game_of(game_id)).phase is Phase.PROOF
    store = Store(party.store)
    await let_deadlines_pass(arena, arena.defender(party, store, tracer))
    assert (await arena.game.game_of(game_id)).phase is Phase.WORKER_WON
    store.close()


@pytest.mark.parametrize("moves", [0, 1, 3, 6])
async def test_a_reorganisation_of_32_blocks(arena: Arena, tracer: Tracer, moves: int) -> None:
    """Whatever was played in blocks that are replaced is played again; what was opened in them never was."""
    party = arena.parties[0]
    store = Store(party.store)
    defender = arena.defender(party, store, tracer)
    challenger = await arena.challenger(party, moves)
    first = await challenger.open()
    await defend(arena, defender)
    snapshot = arena.anvil.snapshot()
    for _ in range(moves):
        await challenger.move(first, Side.BODY)
        await defend(arena, defender)
    second = await challenger.open(1)
    await defend(arena, defender)
    arena.anvil.mine(8)
    await defend(arena, defender)
    arena.anvil.revert(snapshot)
    arena.anvil.mine(33)
    await defend(arena, defender)
    assert [one.game_id for one in store.games.open_games()] == [first]
    assert (await arena.game.game_of(first)).phase is Phase.SIDE
    third = await challenger.open(1)
    assert third == second  # the place was free again
    await play_to_the_proof(arena, defender, [(challenger, first, Side.BODY), (challenger, third, Side.BODY)])
    await let_deadlines_pass(arena, defender)
    for game_id in (first, third):
        assert (await arena.game.game_of(game_id)).phase is Phase.WORKER_WON
    store.close()


@pytest.mark.parametrize("count", [10, pytest.param(60, marks=pytest.mark.long)])
async def test_many_games_at_once(arena: Arena, tracer: Tracer, count: int) -> None:
    party = arena.parties[2]
    store = Store(party.store)
    defender = arena.defender(party, store, tracer)
    picks = random.Random(count)
    challengers = [await arena.challenger(party, at) for at in range(2)]
    games = []
    for number in range(count):
        challenger = challengers[number % 2]
        side = picks.choice([Side.BODY, Side.OUTPUT, Side.INPUT])
        games.append((challenger, await challenger.open(number % 2), side))
    before = await arena.balance(party.cold.address)
    await play_to_the_proof(arena, defender, games)
    await let_deadlines_pass(arena, defender)
    for _, game_id, _ in games:
        assert (await arena.game.game_of(game_id)).phase is Phase.WORKER_WON
    assert await arena.balance(party.cold.address) - before == sum(range(1, count + 1)) * BOND // 2
    store.close()


class Killed(BaseException):
    """kill -9, as far as a process can do it to itself: nothing that follows runs."""


class Killer:
    """Dies before what is named, then, when it is tried again, behind it, then lets it be; and so on."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.before = self.behind = 0
        self.is_armed = False
        original = getattr(owner, name)

        def begin() -> None:
            if self.is_armed and self.before == self.behind == self.passed:
                self.before += 1
                raise Killed

        def end() -> None:
            if self.is_armed and self.before > self.behind:
                self.behind += 1
                raise Killed
            self.passed = self.behind

        async def later(*arguments: Any, **options: Any) -> Any:
            begin()
            result = await original(*arguments, **options)
            end()
            return result

        def now(*arguments: Any, **options: Any) -> Any:
            begin()
            result = original(*arguments, **options)
            end()
            return result

        self.passed = 0
        patch.setattr(owner, name, later if inspect.iscoroutinefunction(original) else now)


async def lives_on(arena: Arena, party: Party, tracer: Tracer, killer: Killer) -> bool:
    """One process, until it has nothing left to do (True) or is killed."""
    store = Store(party.store)
    try:
        async with await Chain.connect(arena.anvil.url, arena.chain.deployment) as chain:
            killer.is_armed = True
            try:
                await defend(arena, arena.defender(party, store, tracer, chain=chain))
            finally:
                killer.is_armed = False
        return True
    except Killed:
        return False
    finally:
        store.close()


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Rpc, "send_raw"), (Outbox, "put"), (Outbox, "drop"), (Games, "enter"), (Games, "told"), (Exhibits, "show")],
)
async def test_killed_around_everything_that_is_sent_or_kept(
    arena: Arena, tracer: Tracer, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    party = arena.parties[1]
    challenger = await arena.challenger(party, 9)
    game_id, demand_id = await challenger.open(), await challenger.demand(1)
    killer = Killer(monkeypatch, owner, name)
    before = await arena.chain.rpc.transaction_count(party.hot.address)
    while True:
        while not await lives_on(arena, party, tracer, killer):
            pass
        if not await challenger.move(game_id, Side.BODY):
            break
    assert killer.before >= 1 and killer.behind >= 1
    assert (await arena.game.game_of(game_id)).phase is Phase.PROOF
    assert (await arena.game.game_of(demand_id)).phase is Phase.ANSWERED
    reveals = [event async for event in arena.moves_of(game_id)]
    # Nothing was sent twice: the trace, what was revealed, and the answer to the demand.
    assert await arena.chain.rpc.transaction_count(party.hot.address) - before == len(reveals) + 1
