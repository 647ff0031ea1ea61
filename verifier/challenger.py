"""Takes faults to the chain and plays every game to its end.

A pass looks at everything anew: what to do follows from the store and the newest block, so a pass can be killed at any
moment. Where a move of an earlier pass is still under way, the sender settles it first and the pass looks again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from efedllm.chain.answers import Block
from efedllm.chain.binding import Call
from efedllm.chain.errors import EarlierTransaction, Reverted, TransactionError
from efedllm.chain.follower import Follower
from efedllm.chain.game_events import Demanded, Ended, Opened
from efedllm.chain.origin import Event
from efedllm.protocol.eip712 import recover
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.game import Game, Paper, Phase, Side
from efedllm.protocol.records import Record

from .challenge import Action, Move, Over, Standing, Wait, decide, live_game
from .check import Case, Setting
from .court import Court
from .docket import Docket
from .dossier import Dossier, read_case
from .history import fold
from .own import NothingToShow, Own, RowProof, StepProof
from .remedy import ProveLink, ProveShape, ProveTokens, Remedy, paper_of, remedy_for
from .telling import describe

log = logging.getLogger("efedllm.verifier")

T = TypeVar("T")

NEVER = frozenset(
    {"NothingWrong", "NotCommitted", "WrongShard", "MalformedReceipt", "OtherRequest", "NotSignedByWorker", "NotDrawn"}
)
"""Errors about what is shown before there is a game: to show it again changes nothing."""

OnEvent = Callable[[str, dict[str, object]], None]


class OwnComputations(Protocol):
    """`Tracer`, or something that stands for it."""

    def own(self, digest: bytes, paper: Paper, record: Record) -> Own: ...
    def close(self) -> None: ...


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


class Challenger:
    """follower: keeps the docket's events. budget: base units that may be bound in bonds at a time; None: all that the
    account holds. on_event: hears of every event that is confirmed, as a line for people and a map for programs."""

    def __init__(
        self,
        court: Court,
        docket: Docket,
        own: OwnComputations,
        setting: Setting,
        follower: Follower,
        budget: int | None = None,
        on_event: OnEvent = lambda text, event: None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._court, self._docket, self._own, self._setting = court, docket, own, setting
        self._follower, self._budget, self._on_event, self._clock = follower, budget, on_event, clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trace")
        self._said: dict[bytes, str] = {}

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._own.close()

    async def step(self) -> int | None:
        """One move in every matter that has one. Returns the nearest time at which something falls due, if any.

        Raises ChainError where the chain cannot be asked, StoreError.
        """
        due: list[int] = []
        await self._follower.catch_up()
        entered, news = await self._events()
        matters = [await self._look(dossier, entered, news) for dossier in self._docket.open_dossiers()]
        taken = {(one.dossier.worker, one.dossier.request_id) for one in matters if one.live is not None}
        for matter in sorted(matters, key=_urgency):
            action = decide(matter.remedy, matter.standing)
            key = matter.dossier.worker, matter.dossier.request_id
            if action in (Move.STATE, Move.OPEN, Move.DEMAND):
                if key in taken:
                    continue  # a worker's request is one fault, however many receipts show it
                taken.add(key)
            if isinstance(action, Wait) and action.until is not None:
                due.append(action.until)
            await self._act(matter, action)
        await self._tell()
        return min(due, default=None)

    def is_done(self) -> bool:
        """Whether nothing is left to do about any fault."""
        return not self._docket.open_dossiers()

    async def _tell(self) -> None:
        """Of what is confirmed, once; again only where a kill came between telling and noting it."""
        known = {(one.worker, one.request_id) for one in self._docket.dossiers()}
        told: dict[int, Opened | Demanded] = {}
        for event in self._docket.events():
            if isinstance(event, Opened | Demanded):
                told[event.game_id] = event
        for event in self._docket.untold():
            if (found := describe(event, told, known, self._court.address)) is not None:
                gas = await self._court.gas(event.origin.transaction_hash)
                self._on_event(*found.with_gas(event, gas))
            self._docket.set_told(event)

    # looking

    async def _look(self, dossier: Dossier, entered: Sequence[Event], news: Sequence[Event]) -> Matter:
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
        standing = await self._standing(dossier, ours, block)
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

    async def _standing(self, dossier: Dossier, ours: tuple[Ours, ...], block: Block) -> Standing:
        court, draw = self._court, dossier.draw
        fault = await court.fault(dossier.worker, dossier.request_id)
        money = await court.money(dossier.worker, draw.claim, draw.entry, dossier.receipt_digest)
        answered = [one.game.deadline for one in ours if one.game.phase is Phase.ANSWERED]
        bound = sum(one.game.bond for one in ours if live_game([one.game]) is not None)
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

    # acting

    async def _act(self, matter: Matter, action: Action) -> None:
        dossier = matter.dossier
        where = f"worker {dossier.worker}, receipt 0x{dossier.receipt_digest.hex()}"
        if not isinstance(action, Move):
            self._say(dossier, f"{where}: {action.why}")
            if isinstance(action, Over) and matter.is_confirmed:
                self._docket.close(dossier, action.why, matter.block)
            return
        try:
            call = await self._call(matter, action)
            receipt = await self._court.send(call)
        except EarlierTransaction as error:
            log.info("%s", error)
        except NothingToShow as error:
            log.error("%s: cannot %s: %s%s", where, action.value, error, self._time_left(matter))
        except (TransactionError, ProtocolError) as error:  # the latter where blocks were replaced between two reads
            log.error("%s: %s failed: %s%s", where, action.value, error, self._time_left(matter))
            if isinstance(error, Reverted) and matter.live is None and error.name in NEVER:
                self._docket.close(dossier, f"the chain refuses it: {error}", matter.block)
        else:
            log.info("%s: %s (0x%s, %d gas)", where, action.value, receipt.transaction_hash.hex(), receipt.gas_used)

    def _say(self, dossier: Dossier, text: str) -> None:
        if self._said.get(dossier.receipt_digest) != text:
            self._said[dossier.receipt_digest] = text
            log.info("%s", text)

    def _time_left(self, matter: Matter) -> str:
        if matter.live is None:
            return ""
        left = matter.live.game.deadline - matter.standing.now
        return f"; game {matter.live.game_id}, {left} s left"

    async def _call(self, matter: Matter, move: Move) -> Call:
        """Raises NothingToShow, ProtocolError, ModelError, StoreError, ChainError."""
        calls, paper, dossier = self._court.calls, matter.paper, matter.dossier
        match move:
            case Move.STATE:
                return self._state(matter)
            case Move.OPEN | Move.DEMAND:
                await self._court.approve(matter.standing.bond + matter.standing.fee)
                proof = dossier.draw_proof
                assert proof is not None, "decided on"
                answered = [one.game_id for one in matter.ours if one.game.phase is Phase.ANSWERED]
                if move is Move.DEMAND:
                    return calls.demand(paper, proof, matter.standing.next_chunk)
                return calls.open(paper, replace(proof, demand_id=answered[-1]) if answered else proof)
            case Move.TIMEOUT:
                return calls.timeout(self._timed_out(matter).game_id, paper.receipt)
            case Move.REFUND:
                assert dossier.draw_proof is not None, "decided on"
                session = recover(self._setting.domain, paper.request, matter.case.record.request_signature)
                return calls.refund(paper.receipt, paper.request.payer, session, dossier.draw_proof.part)
            case Move.COLLECT:
                return calls.collect(dossier.worker, dossier.request_id, self._court.address)
        live = matter.live
        assert live is not None, "decided on"
        return await self._in_thread(self._move, matter, move, live)

    def _state(self, matter: Matter) -> Call:
        calls, paper = self._court.calls, matter.paper
        match matter.remedy:
            case ProveLink(upstream):
                return calls.prove_link(paper, upstream)
            case ProveTokens(evidence):
                return calls.prove_tokens(paper, evidence)
            case ProveShape():
                return calls.prove_shape(paper)
        raise AssertionError("only statements are stated")

    @staticmethod
    def _timed_out(matter: Matter) -> Ours:
        if matter.live is not None:
            return matter.live
        return next(one for one in matter.ours if one.game.phase is Phase.ANSWERED)

    def _move(self, matter: Matter, move: Move, live: Ours) -> Call:
        """In the trace's thread: moves for which one's own computation has to be known."""
        calls, game = self._court.calls, live.game
        paper = replace(matter.paper, signature=b"")  # it was looked at when the game was opened
        own = self._own.own(matter.dossier.receipt_digest, paper, matter.case.record)
        history = fold(own.descent, live.events)
        if move is Move.CHOOSE_SIDE:
            return calls.choose_side(live.game_id, own.side(game.body_root), paper)
        if move is Move.PICK:
            pick = own.pick(game, history)
            if pick.is_row:
                return calls.pick_row(live.game_id, pick.digit, pick.child, pick.siblings, paper)
            return calls.pick(live.game_id, pick.digit, pick.child, pick.siblings)
        proof = own.prove(game, history)
        if isinstance(proof, RowProof):
            return calls.prove_row(live.game_id, paper, proof.row, proof.siblings)
        leaf = history.leaf or b""
        if isinstance(proof, StepProof):
            return calls.prove_step(live.game_id, paper, leaf, proof.element, proof.operands)
        return calls.prove_token(live.game_id, paper, leaf, proof)

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


_NO_GAME = Game(
    worker="", challenger="", receipt_digest=b"", phase=Phase.NONE, side=Side.NONE, deadline=0, bond=0, holds=False,
    claim_index=0, entry=0, body_root=b"", node=b"", height=0, in_row=False, path=0, chunk=0,
)  # fmt: skip


def _urgency(matter: Matter) -> tuple[bool, int, int]:
    """Games before everything else, nearest deadline first; then the shortest receipts."""
    live = matter.live
    return live is None, 0 if live is None else live.game.deadline, matter.dossier.positions
