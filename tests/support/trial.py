"""One cheat before the chain: the verifier's own code against a worker that defends its lie, to the last payment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from efedllm.chain.errors import EarlierTransaction, Reverted
from efedllm.chain.follower import Follower
from efedllm.chain.transactions import Receipt as Mined
from efedllm.model.trace import Trace
from efedllm.protocol.drawing import DrawPolicy
from efedllm.protocol.game import OVER, WORKER_MOVES, Game, Paper, Phase, Side
from efedllm.protocol.records import Record
from efedllm.protocol.requests import ModelLimits
from tests.support.cheat_session import Session
from tests.support.cheat_work import Committed
from tests.support.courtroom import MOVE_SECONDS, VERIFIER, Courtroom, Paid
from tests.verifier.path import cold, hot
from verifier.challenger import Challenger
from verifier.check import Case, Drawn, Setting, check
from verifier.court import ChainCourt
from verifier.docket import enter_dossier
from verifier.dossier import Dossier
from verifier.draw_proof import prove_draw
from verifier.evidence import keep_evidence, pack_evidence
from verifier.following import GameLedger
from verifier.recompute import Recomputer, Shelf
from verifier.store import Store
from verifier.tracer import Tracer
from verifier.verdict import Verdict
from worker.defence import AnswerDemand, Exhibit, PostTrace, Reveal, RevealLeaf, answer, show


class Bench:
    """The verifier over a folder of its own: what it knows of the model, its store and its challenger."""

    def __init__(self, room: Courtroom, folder: Path) -> None:
        self.room, self.folder = room, folder
        deployment, model = room.deployment, room.model
        manifest, spec = model.weights.manifest, model.spec
        shelf = Shelf(model.folder, manifest.weights_root, model.backend, 3 * spec.layers)
        self.recomputer = Recomputer(shelf)
        limits = ModelLimits(room.model_id, spec.layers, spec.vocab, spec.context)
        self.setting = Setting(deployment.domain, limits, spec.hidden)
        parameters = deployment.parameters
        rate, share = parameters.minimum_rate_bps, parameters.challenger_share_bps
        self.policy = DrawPolicy(rate, parameters.first_slash, share)
        self.store = Store(folder / "verifier.sqlite")
        self.docket = self.store.docket(VERIFIER.address)
        assert room.chain.game is not None
        self.court = ChainCourt(room.chain, room.chain.game, room.chain.sender(VERIFIER))
        self.tracer = Tracer(model.weights, model.backend, self.recomputer.rows, folder)
        follower = Follower(room.chain.events("DisputeGame"), GameLedger(self.docket))
        self.challenger = Challenger(self.court, self.docket, self.tracer, self.setting, follower)

    def close(self) -> None:
        self.challenger.close()
        self.store.close()

    def judge(self, session: Session, records: Sequence[Record], at: int, paid: Paid) -> tuple[Case, Verdict]:
        """What comes of checking worker `at`'s receipt, with all that the workers hand out."""
        entry = paid.claim.entries[paid.draw.entry]
        keys = {cold(hand).address: frozenset({hot(hand).address}) for hand in self.room.hands}
        upstream = records[at - 1] if at else None
        downstream = records[at + 1] if at + 1 < len(records) else None
        drawn = Drawn(paid.draw.worker, entry.channel, paid.draw.leaf)
        case = Case(drawn, records[at], keys, upstream, downstream)
        return case, check(self.setting, case, self.recomputer)

    def accuse(self, session: Session, case: Case, verdict: Verdict, paid: Paid, at: int) -> None:
        """What the service does with a verdict that the chain can do something about."""
        data = pack_evidence(paid.claim, paid.draw, list(paid.leaves), case, verdict)
        evidence = keep_evidence(self.folder, data, paid.claim, paid.draw, verdict)
        proof = prove_draw(self.policy, paid.claim, paid.draw, list(paid.leaves))
        positions = session.receipts[at].positions
        with self.store._db.transaction() as db:
            enter_dossier(db, Dossier(paid.draw, verdict, positions, evidence.path, proof))


@dataclass
class Liar:
    """A worker that makes every move it can: what the contract does not take, and what it cannot show, is silence.

    silent: it makes so many moves of a game, then none.
    """

    room: Courtroom
    session: Session
    at: int
    body: Trace
    committed: Committed
    silent: int | None = None
    moves: int = 0
    refused: list[str] = field(default_factory=list)
    gas: list[tuple[str, int]] = field(default_factory=list)
    gave_up: set[int] = field(default_factory=set)

    async def step(self, game_id: int, game: Game) -> bool:
        """One move, if it is due. Returns whether it was made."""
        if game.phase not in WORKER_MOVES or game_id in self.gave_up:
            return False
        try:
            mined = await self._move(game_id, game)
        except (LookupError, ValueError, Reverted) as error:
            self.refused.append(f"{game.phase.name}: {error}")
            mined = None
        if mined is None:
            self.gave_up.add(game_id)
            return False
        self.moves += 1
        self.gas.append((game.phase.name, mined.gas_used))
        return True

    async def _move(self, game_id: int, game: Game) -> Mined | None:
        if self.silent is not None and self.moves >= self.silent:
            return None
        calls, receipt = self.room.chain.game, self.session.receipts[self.at]
        assert calls is not None
        paper = Paper(self.session.request, receipt, b"")
        if game.phase is Phase.DEMAND:
            move = answer(receipt, game.chunk, self.session.tokens)
        else:
            sources = {Side.INPUT: self.committed.input, Side.BODY: self.body, Side.OUTPUT: self.committed.output}
            roots = self.body.body_root, receipt.inputRoot, receipt.outputRoot
            move = show(game, Exhibit(paper, self.session.descent(self.at), sources, *roots))
        sender = self.room.hot(self.at)
        match move:
            case PostTrace(body_root):
                return await sender.send(calls.post_trace(game_id, game.receipt_digest, body_root))
            case Reveal(children):
                return await sender.send(calls.reveal(game_id, children))
            case RevealLeaf(leaf):
                return await sender.send(calls.reveal_leaf(game_id, paper, leaf))
            case AnswerDemand(tokens, above):
                return await sender.send(calls.answer_demand(game_id, receipt, tokens, above))
        return None


async def play(bench: Bench, liar: Liar, passes: int = 120) -> None:
    """Turn and turn about, until nothing is left to do; whoever waits for time gets it."""
    room = bench.room
    for _ in range(passes):
        before = await room.chain.rpc.block_number()
        try:
            await bench.challenger.step()
        except EarlierTransaction:
            continue
        if not bench.docket.open_dossiers():
            return
        for game_id in bench.docket.games():
            game = await bench.court.game(game_id)
            if game is not None and game.phase not in OVER:
                await liar.step(game_id, game)
        if await room.chain.rpc.block_number() == before:
            room.anvil.increase_time(MOVE_SECONDS + 1)
    raise AssertionError("the games do not end")
