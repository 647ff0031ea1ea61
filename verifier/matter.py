"""A fault with everything that it takes to decide what to do about it, as the newest block has it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from efedllm.chain.answers import Block
from efedllm.chain.game_events import Answered, Demanded, Ended, Opened
from efedllm.chain.origin import Event
from efedllm.protocol.game import Game, Paper, Phase, Side

from .challenge import Standing, live_game
from .check import Case, Setting
from .court import Court
from .docket import Docket
from .dossier import Dossier, read_case
from .remedy import Remedy, paper_of, remedy_for


@dataclass(frozen=True)
class Ours:
    """A game or demand of ours on a receipt, with all that the chain told of it."""

    game_id: int
    game: Game
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Matter:
    """A dossier with what it takes to decide about it."""

    dossier: Dossier
    case: Case
    paper: Paper
    remedy: Remedy | None
    ours: tuple[Ours, ...]
    standing: Standing
    block: int
    is_confirmed: bool
    """No block that is not confirmed yet tells anything about it."""

    @property
    def live(self) -> Ours | None:
        game = live_game([one.game for one in self.ours])
        return next((one for one in self.ours if one.game is game), None)


class Lookout:
    """Looks at the chain anew for every matter. budget: see `Challenger`."""

    def __init__(
        self, court: Court, docket: Docket, setting: Setting, budget: int | None, clock: Callable[[], float]
    ) -> None:
        self._court, self._docket, self._setting, self._budget, self._clock = court, docket, setting, budget, clock

    async def matters(self) -> list[Matter]:
        """One for every dossier that is not closed. Raises ChainError, StoreError."""
        entered, news = await self._events()
        bound = _bound([*entered, *news])
        return [await self._look(dossier, entered, news, bound) for dossier in self._docket.open_dossiers()]

    async def _look(self, dossier: Dossier, entered: Sequence[Event], news: Sequence[Event], bound: int) -> Matter:
        """entered: what is confirmed; news: what is not yet."""
        case = read_case(dossier)
        paper = paper_of(self._setting.domain, case)
        assert paper is not None, "no dossier is made without the receipt"
        ours = await self._games(dossier, [*entered, *news])
        remedy = remedy_for(self._setting, case, dossier.verdict)
        block = await self._court.block()
        games = {one.game_id for one in ours}
        about = [
            event
            for event in news
            if getattr(event, "game_id", 0) in games or getattr(event, "request_id", b"") == dossier.request_id
        ]
        standing = await self._standing(dossier, ours, block, bound)
        return Matter(dossier, case, paper, remedy, ours, standing, block.number, not about)

    async def _games(self, dossier: Dossier, events: Sequence[Event]) -> tuple[Ours, ...]:
        """Oldest first. A game whose place was given to another has ended as it was told."""
        by_game: dict[int, list[Event]] = {}
        for event in events:
            game_id = getattr(event, "game_id", 0)
            if isinstance(event, Opened | Demanded):
                if event.receipt_digest != dossier.receipt_digest:
                    continue
                by_game[game_id] = []
            if game_id in by_game:
                by_game[game_id].append(event)
        found = []
        for game_id, told in by_game.items():
            game = await self._court.game(game_id)
            ended = next((one for one in told if isinstance(one, Ended)), None)
            if game is not None and game.receipt_digest == dossier.receipt_digest:
                found.append(Ours(game_id, game, tuple(told)))
            elif ended is not None:
                found.append(Ours(game_id, replace(_NO_GAME, phase=ended.outcome), tuple(told)))
        return tuple(found)

    async def _events(self) -> tuple[list[Event], list[Event]]:
        """What is entered, and behind it what the newest blocks tell."""
        cursors = self._docket.cursors()
        news = await self._court.news(cursors[0] if cursors else None)
        return self._docket.events(), self._docket.of_mine(news)

    async def _standing(self, dossier: Dossier, ours: tuple[Ours, ...], block: Block, bound: int) -> Standing:
        court, draw = self._court, dossier.draw
        fault = await court.fault(dossier.worker, dossier.request_id)
        money = await court.money(dossier.worker, draw.claim, draw.entry, dossier.receipt_digest)
        answered = [one.game.deadline for one in ours if one.game.phase is Phase.ANSWERED]
        balance = await court.balance()
        demands = sum(isinstance(one.events[0], Demanded) for one in ours)
        return Standing(
            now=block.timestamp,
            clock=int(self._clock()),
            fault=fault,
            shares=await court.shares(dossier.worker, dossier.request_id) if fault.proven_at else 0,
            games=tuple(one.game for one in ours),
            open_until=max([money.open_until, *answered]),
            is_refundable=money.is_refundable and dossier.draw_proof is not None,
            bond=await court.bond(dossier.worker),
            fee=await court.demand_fee(),
            has_lost=any(isinstance(one.events[0], Opened) and one.game.phase is Phase.WORKER_WON for one in ours),
            spendable=balance if self._budget is None else min(balance, self._budget - bound),
            is_drawn=dossier.draw_proof is not None,
            next_chunk=demands,
        )


_NO_GAME = Game(
    worker="", challenger="", receipt_digest=b"", phase=Phase.NONE, side=Side.NONE, deadline=0, bond=0, holds=False,
    claim_index=0, entry=0, body_root=b"", node=b"", height=0, in_row=False, path=0, chunk=0,
)  # fmt: skip


def _bound(events: Sequence[Event]) -> int:
    """Base units that lie in bonds of one's own: events are only told of one's own games."""
    bonds = {event.game_id: event.bond for event in events if isinstance(event, Opened | Demanded)}
    back = {event.game_id for event in events if isinstance(event, Ended | Answered)}
    return sum(bond for game_id, bond in bonds.items() if game_id not in back)
