"""No honest worker is ever slashed: the worker's own defence against challengers that try everything, on a real chain.

Random models, splits, counts and back ends; every game ends with the bond where the rules say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.dispute_game import Draw
from efedllm.chain.events import decode_log
from efedllm.chain.game_events import Demanded, Opened
from efedllm.chain.local import AnvilProcess
from efedllm.numerics.backend import select
from efedllm.numerics.errors import BackendError
from efedllm.protocol.committed import CommittedRows
from efedllm.protocol.drawing import DrawPolicy
from efedllm.protocol.game import Game, Phase
from efedllm.protocol.objects import Sampling
from tests.support.chain import WORK, fund
from tests.support.cheat_model import checked
from tests.support.cheat_session import Session
from tests.support.courtroom import BOND, BURNED, DAY, STAKE, Courtroom, deploy
from tests.support.random_model import SIZES, ModelShelf, Sizes
from tests.support.raw_chain import Miner, RawChain
from tests.support.thief import Scheme, Stand, Thief
from tests.verifier.path import SALT, SESSION
from verifier.draw_proof import prove_draw
from worker.defender import Defender
from worker.notices import Notices
from worker.store import Store
from worker.tracing import Tracer

pytestmark = pytest.mark.timeout(1200)  # one that hangs still ends; a busy machine is not a wrong answer
MOVE_SECONDS = DAY // 12
WINDOW = 30 * DAY
"""Long enough for as many rounds as there are, each of which lets a deadline pass."""
ROUNDS, LONG_ROUNDS = 14, 280
"""Of 36 games: 504 and 10,080."""
SEEDS = [*range(ROUNDS), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(ROUNDS, LONG_ROUNDS))]
AT_ONCE = 4
"""Games against one worker at the same time."""
GREEDY, WARM, HOT = Sampling(0, 0, 65536), Sampling(60_000, 40, 60_000), Sampling(6_553_600, 0, 30_000)


@dataclass(frozen=True)
class Route:
    """A model and how it is split; prompt and answer of each request. defended: the back end that defends."""

    sizes: Sizes
    bounds: tuple[int, ...]
    defended: str
    requests: tuple[tuple[int, int, Sampling], ...]


PATHS = (
    Route(SIZES[0], (0, 1, 2), "int8", ((7, 3, WARM), (1, 2, GREEDY))),
    Route(SIZES[1], (0, 3), "exact", ((5, 2, HOT), (12, 1, WARM))),
    Route(SIZES[2], (0, 1, 2), "exact", ((3, 2, WARM),)),
    Route(SIZES[3], (0, 1), "int8", ((9, 4, GREEDY),)),
    Route(SIZES[4], (0, 1, 3, 5), "int8", ((6, 2, WARM), (4, 1, HOT))),
)


def ids(sizes: Sizes, count: int) -> list[int]:
    return [(37 * at * at + 11 * at + count) % sizes.vocab_size for at in range(count)]


def is_there(backend: str) -> bool:
    try:
        select(backend)
    except BackendError:
        return False
    return True


@dataclass
class Witness:
    """An honest worker with its store, its own defence, and the receipts that games are about."""

    room: Courtroom
    at: int
    store: Store
    defender: Defender
    stands: list[Stand] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.room.cold(self.at).address

    async def defend(self) -> None:
        """Until there is nothing to do now."""
        while True:
            pause = await self.defender.defend()
            building = self.defender._exhibits._building
            if building is not None and not building.done():
                await building
            elif pause:
                return


@dataclass
class Town:
    """All honest workers of this file, behind one chain."""

    anvil: AnvilProcess
    chain: Chain
    raw: RawChain
    thief: str
    witnesses: list[Witness]

    async def play(self, seed: int) -> None:
        """Some games against every worker at a time, each to its end."""
        assert self.chain.game is not None
        thief, games = Thief(self.chain.game, self.thief, seed), AT_ONCE * len(self.witnesses)
        random_, raw = thief.random, self.raw
        before = {one.address: await self.chain.token.balance_of(one.address) for one in self.witnesses}
        burned, owned = await self._balance(BURNED), await self._balance(self.thief)
        stands = [
            random_.choice(one.stands) for at in range(games) for one in [self.witnesses[at % len(self.witnesses)]]
        ]
        calls = []
        for stand in stands:
            is_demand = random_.random() < 0.1
            calls.append(
                thief.calls.demand(stand.paper, stand.draw, 0)
                if is_demand
                else thief.calls.open(stand.paper, stand.draw)
            )
        thief.heard = await self.chain.rpc.block_number()
        opened: dict[str, int] = {}
        for stand, sent in zip(stands, await raw.send(self.thief, calls), strict=True):
            (event,) = [one for one in sent.events if isinstance(one, Opened | Demanded)]
            opened[event.worker] = opened.get(event.worker, 0) + 1
            assert event.bond == BOND * opened[event.worker]
            thief.schemes[event.game_id] = Scheme(stand, random_.randrange(9), event)
        await self._argue(thief)
        self.anvil.increase_time(MOVE_SECONDS + 1)
        await self._come_late(thief)
        await asyncio.gather(*(one.defend() for one in self.witnesses))
        await self._check(thief, before, burned, owned)

    async def _argue(self, thief: Thief) -> None:
        """Turn and turn about, until the thief has no move left; on the way it tries what must be refused."""
        while True:
            await asyncio.gather(*(one.defend() for one in self.witnesses))
            await self._hear(thief)
            games = await self._games(thief)
            tricks = [
                call
                for game_id, game in games.items()
                if thief.random.random() < 0.3 or game.phase is Phase.PROOF
                for call in thief.tricks(game_id, game)
            ]
            refused = await self.raw.refused(self.thief, tricks)
            assert [call.label for call, is_refused in zip(tricks, refused, strict=True) if not is_refused] == []
            moves = [move for game_id, game in games.items() if (move := thief.move(game_id, game)) is not None]
            if not moves:
                return
            assert all(one.is_done for one in await self.raw.send(self.thief, moves))

    async def _come_late(self, thief: Thief) -> None:
        """What would have been a move is none any more."""
        for scheme in thief.schemes.values():
            scheme.patience += 1
        games = await self._games(thief)
        late = [move for game_id, game in games.items() if (move := thief.move(game_id, game)) is not None]
        assert all(await self.raw.refused(self.thief, late))

    async def _check(self, thief: Thief, before: dict[str, int], burned: int, owned: int) -> None:
        await self._hear(thief)
        earned: dict[str, int] = {}
        lost = gone = 0
        for scheme in thief.schemes.values():
            ended, opened = scheme.ended, scheme.opened
            assert ended is not None and ended.outcome is Phase.WORKER_WON
            if isinstance(opened, Demanded):
                assert (ended.to_challenger, ended.to_worker, ended.burned) == (0, 0, 0)
                fee, bond, half = opened.fee, 0, 0
            else:
                fee, bond, half = 0, opened.bond, opened.bond // 2
                assert (ended.to_challenger, ended.to_worker, ended.burned) == (0, half, bond - half)
            earned[ended.worker] = earned.get(ended.worker, 0) + half + fee
            lost, gone = lost + bond + fee, gone + bond - half
        assert await self._balance(self.thief) == owned - lost
        assert await self._balance(BURNED) == burned + gone
        assert await self._balance(self.chain.game.address) == 0
        for one in self.witnesses:
            address = one.address
            assert await self._balance(address) == before[address] + earned.get(address, 0)
            assert await self.chain.game.record_of(address) == (0, 0)
            assert await self.chain.stakes.slashable(address) == STAKE

    async def _hear(self, thief: Thief) -> None:
        """What the game told of the thief's games since it was last asked."""
        first, last = thief.heard + 1, await self.chain.rpc.block_number()
        thief.heard = last
        logs = await self.chain.rpc.logs([self.chain.game.address], first, last) if first <= last else []
        for event in (decode_log("DisputeGame", log) for log in logs):
            if (scheme := thief.schemes.get(getattr(event, "game_id", 0))) is not None:
                scheme.hear(event)

    async def _games(self, thief: Thief) -> dict[int, Game]:
        ids = list(thief.schemes)
        found = await self.chain.game.games_of(ids, await self.chain.rpc.block_number())
        return {game_id: game for game_id, game in zip(ids, found, strict=True) if game is not None}

    async def _balance(self, address: str) -> int:
        return await self.chain.token.balance_of(address)


# ── setting it up ───────────────────────────────────────────────────────────


async def settle(anvil: AnvilProcess, deployment: Deployment, shelf: ModelShelf, folder: Path) -> Town:
    chain = await Chain.connect(anvil.url, deployment)
    assert chain.game is not None
    thief = (await chain.rpc.accounts())[5]
    await fund(chain, thief, 10**6 * WORK, 0)
    witnesses = []
    for number, one in enumerate(PATHS):
        model = shelf.take(one.sizes)
        room = Courtroom(anvil, chain, model, one.bounds, first_hand=10 * number)
        await room.open()
        sessions = [
            room.serve(ids(one.sizes, prompt), count, sampling=sampling) for prompt, count, sampling in one.requests
        ]
        for at in range(len(one.bounds) - 1):
            store = Store(folder / f"{number}-{at}.sqlite")
            tracer = Tracer(model.folder, checked(one.defended if is_there(one.defended) else "exact"), folder)
            defender = Defender(chain, chain.game, room.cold(at).address, store, room.hot(at), tracer, Notices(), 5.0)
            witness = Witness(room, at, store, defender)
            for session in sessions:
                await enter(witness, session)
            witnesses.append(witness)
    names = {address.lower(): name for address, name in deployment.contracts.names().items()}
    raw = RawChain(anvil.url, names)
    approved = await raw.send(thief, [chain.token.approve(chain.game.address, 2**96 - 1)])
    forced = [stand for one in witnesses for stand in one.stands if stand.draw == Draw()]
    drawn = await raw.send(thief, [chain.game.force_draw(stand.paper) for stand in forced])
    assert all(one.is_done for one in approved + drawn)
    return Town(anvil, chain, raw, thief, witnesses)


async def enter(witness: Witness, session: Session) -> None:
    """What the worker keeps of a request: receipts within the prompt, at the first token and at the end, which is paid.

    The others are force-drawn, as receipts of requests that were cancelled or broke off would be.
    """
    room, at, store, request = witness.room, witness.at, witness.store, session.request
    prompt, generated = len(session.prompt), len(session.generated)
    counts = [(prompt // 2, 0)] if prompt > 1 else []
    counts += [(prompt, 1)] if generated > 1 else []
    counts.append((prompt + generated - 1, generated))
    request_id = session.receipts[at].requestId
    store.begin_request(request_id, request, b"", SALT, session.prompt, at, SESSION.address, 0)
    done = 0
    for positions, count in counts:
        receipt = session.receipt_at(at, positions, count)
        stand = Stand(session, at, receipt)
        inputs, rows = session.inputs[at], b""
        if isinstance(inputs, CommittedRows):
            rows = b"".join(inputs.read(row) for row in range(done, positions))
        store.keep_receipt(receipt, stand.digest, stand.signature, session.generated[:count], rows, None)
        done = positions
        if (positions, count) == counts[-1]:
            paid = await room.claim(session, at)
            policy = DrawPolicy(10_000, 100 * WORK, 4_000)
            stand = replace(stand, draw=prove_draw(policy, paid.claim, paid.draw, list(paid.leaves)))
        witness.stands.append(stand)
    store.end_request(request_id, "done")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.AbstractEventLoop, Town]]:
    loop, shelf = asyncio.new_event_loop(), ModelShelf()
    with AnvilProcess.start() as anvil:
        file = tmp_path_factory.mktemp("deployment") / "deployment.json"
        deployment = deploy(anvil.url, file, MOVE_SECONDS, WINDOW)
        made = loop.run_until_complete(settle(anvil, deployment, shelf, tmp_path_factory.mktemp("workers")))
        yield loop, made
        loop.run_until_complete(leave(made))
    loop.close()
    shelf.close()


async def leave(town: Town) -> None:
    for one in town.witnesses:
        await one.defender._exhibits.close()
        one.store.close()
    await town.chain.close()


async def play(town: Town, seed: int) -> None:
    async with Miner(town.anvil.url):
        await town.play(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_games_against_honest_workers(town: tuple[asyncio.AbstractEventLoop, Town], seed: int) -> None:
    """Four against each of nine workers at a time."""
    loop, made = town
    loop.run_until_complete(play(made, seed))


def test_no_statement_of_an_honest_worker_is_a_fault(town: tuple[asyncio.AbstractEventLoop, Town]) -> None:
    """Forged, replayed, resumed in another epoch, broken off: nothing that was signed contradicts itself."""
    loop, made = town
    thief = Thief(made.chain.game, made.thief, 2)
    calls = []
    for witness in made.witnesses:
        for stand in witness.stands:
            counts = stand.receipt.positions, stand.receipt.generated
            resumed = Stand(stand.session, stand.at, stand.session.receipt_at(stand.at, *counts, epoch=1))
            calls += thief.statements(stand, [*witness.stands, resumed])
    assert len(calls) > 300
    assert all(loop.run_until_complete(made.raw.refused(made.thief, calls)))
