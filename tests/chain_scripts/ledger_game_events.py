"""The game's part of a made-up history: games of every outcome, a demand, a fault with two winners, what it owes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from chain_scripts.ledger.compare_games import GameSnapshot
from chain_scripts.ledger.folding import GameRules
from chain_scripts.ledger.games import BURNED, FaultKey, PartKey, ShareKey, game_id_of
from efedllm.chain import events as e
from efedllm.chain import game_events as g
from efedllm.chain.dispute_game import Fault
from efedllm.chain.events import Event
from efedllm.protocol.game import Game, Phase, Side

BOND, FEE, DEMAND_FEE, FIRST = 10, 3, 5, 1400
COLLECTABLE, MOVE, LONGEST = 9100, 10, 100
MOST = 2**256 - 1
Made = tuple[type[Event], tuple[Any, ...]]


class Telling(Protocol):
    def then(self, *made: Made) -> None: ...


def word(name: str) -> bytes:
    return sha256(name.encode()).digest()


@dataclass(frozen=True)
class Court:
    """The game of a history, and who goes to it."""

    game: str
    stakes: str
    channels: str
    pool: str
    worker: str
    other: str
    verifier: str
    bob: str
    alice: str

    @property
    def rules(self) -> GameRules:
        return GameRules(self.game, FIRST, 1_000, 4_000, 1_000, self.pool, BOND, FEE, DEMAND_FEE, MOVE, LONGEST)

    @property
    def ids(self) -> list[int]:
        """Of the games against the worker, by number of the place."""
        return [game_id_of(self.worker, 1, place) for place in range(4)]

    def before(self, h: Telling) -> None:
        """Games open against the worker's second claim, of which 45 stay frozen; one is lost by its challenger."""
        h.then(
            (g.ForceDrawn, (self.worker, word("paid"), word("forced"), self.bob, FEE, 8500)), *self._passed(self.worker)
        )
        h.then(
            (g.ForceDrawn, (self.other, word("paid"), word("forced too"), self.bob, FEE, 8600)),
            *self._refused(self.other),
        )
        _, one, two, three = self.ids
        self._open(h, one, self.verifier, "one", BOND, 45)
        self._open(h, two, self.bob, "two", 2 * BOND, 15)
        self._open(h, three, self.bob, "one", 3 * BOND, 0)
        self._play(h, one)
        h.then((g.TracePosted, (two, word("body"), 7000)))
        h.then(
            (e.Unfrozen, (self.worker, 1, 15)),
            (g.Ended, (two, self.worker, self.bob, Phase.WORKER_WON, 0, BOND, BOND, 15)),
            (e.Transfer, (self.game, self.worker, BOND)),
            (e.Transfer, (self.game, BURNED, BOND)),
        )

    def demands(self, h: Telling) -> None:
        """One that is answered and over; one that is open, beside an open game in the other's place."""
        first, second = game_id_of(self.other, 1, 1), game_id_of(self.other, 1, 2)
        again = game_id_of(self.other, 2, 1)
        request, digest = word("asked"), word("demanded")
        h.then(
            (e.Frozen, (self.other, 0, 20)),
            (
                g.Demanded,
                (first, self.other, self.verifier, request, digest, 2, BOND, DEMAND_FEE, True, 0, 0, 20, 7300),
            ),
            (e.Transfer, (self.verifier, self.game, BOND + DEMAND_FEE)),
        )
        h.then(
            (g.Answered, (first, bytes(8), BOND, DEMAND_FEE, 7400)),
            (e.Transfer, (self.game, self.verifier, BOND)),
            (e.Transfer, (self.game, self.other, DEMAND_FEE)),
        )
        h.then(
            (g.Demanded, (second, self.other, self.bob, request, digest, 0, BOND, DEMAND_FEE, False, 0, 0, 0, 7450)),
            (e.Transfer, (self.bob, self.game, BOND + DEMAND_FEE)),
        )
        h.then(
            (e.Unfrozen, (self.other, 0, 20)),
            (g.Ended, (first, self.other, self.verifier, Phase.WORKER_WON, 0, 0, 0, 20)),
        )
        h.then(
            (g.Opened, (again, self.other, self.verifier, request, digest, 2 * BOND, False, 0, 0, 0, 7500)),
            (e.Transfer, (self.verifier, self.game, 2 * BOND)),
        )
        self._play(h, again, leaf=False)

    def fault(self, h: Telling) -> None:
        """Two games show it; the pool's share is refused and sent later; one winner collects."""
        _, one, _, three = self.ids
        fault = (self.worker, word("request"))
        h.then(
            (g.Ended, (one, self.worker, self.verifier, Phase.CHALLENGER_WON, BOND, 0, 0, 0)),
            (g.Proven, (*fault, 1, COLLECTABLE)),
            (e.Jailed, (self.worker,)),
            (e.Slashed, (self.worker, FIRST, FIRST, self.game)),
            (e.Transfer, (self.stakes, self.game, FIRST)),
            (g.Divided, (*fault, FIRST, 560, 140, 700)),
            (g.Owed, (self.pool, 140)),
            (e.Transfer, (self.game, BURNED, 700)),
            (g.Won, (*fault, self.verifier, one)),
            (e.Transfer, (self.game, self.verifier, BOND)),
        )
        h.then(
            (g.Ended, (three, self.worker, self.bob, Phase.CHALLENGER_WON, 3 * BOND, 0, 0, 0)),
            (g.Won, (*fault, self.bob, three)),
            (e.Transfer, (self.game, self.bob, 3 * BOND)),
        )
        h.then((g.OwedPaid, (self.pool, 140)), (e.Transfer, (self.game, self.pool, 140)))
        h.then((g.Collected, (*fault, self.verifier, 280)), (e.Transfer, (self.game, self.verifier, 280)))

    def refunds(self, h: Telling) -> None:
        """Of two other receipts of the request; the token refuses the second."""
        for payer, entry, amount in ((self.alice, 0, 40), (self.bob, 1, 10)):
            told = (g.Refunded, (self.worker, word("request"), payer, word(payer), 1, entry, amount, 0))
            sent = [(e.Transfer, (self.channels, payer, amount))] if payer == self.alice else []
            h.then((e.Forfeited, (self.worker, 1, amount, payer)), *sent, told)

    def snapshot(self, events: Sequence[Event]) -> GameSnapshot:
        """What the game holds after all of this."""
        _, one, two, three = self.ids
        over, open_game = Phase.CHALLENGER_WON, game_id_of(self.other, 2, 1)
        demand, ended = game_id_of(self.other, 1, 2), game_id_of(self.other, 1, 1)
        played: dict[str, Any] = {
            "side": Side.BODY,
            "body_root": word("body"),
            "height": 0,
            "path": 5,
            "deadline": 7000,
        }
        part, fault = dict[str, Any](holds=True, claim_index=1), FaultKey(self.worker, word("request"))
        digest = word("demanded")
        at_leaf = played | {"node": word("leaf")}
        games: Mapping[int, Game | None] = {
            one: _game(self.worker, self.verifier, word("one"), over, BOND, **part, **at_leaf | {"deadline": 7100}),
            two: _game(
                self.worker, self.bob, word("two"), Phase.WORKER_WON, 2 * BOND, **part,
                body_root=word("body"), deadline=7000,
            ),
            three: _game(self.worker, self.bob, word("one"), over, 3 * BOND, **part),
            ended: None,
            demand: _game(self.other, self.bob, digest, Phase.DEMAND, BOND, deadline=7450),
            open_game: _game(self.other, self.verifier, digest, Phase.LEAF, 2 * BOND, **at_leaf),
        }  # fmt: skip
        return GameSnapshot(
            games=games,
            records={self.worker: (0, 1), self.other: (2, 0), self.verifier: (0, 0)},
            faults={fault: Fault(COLLECTABLE - LONGEST, COLLECTABLE, 1, 280)},
            shares={ShareKey(fault, self.verifier): 0, ShareKey(fault, self.bob): 1},
            parts={
                PartKey(self.worker, 1, 0, word("one")): (2, 45, False),
                PartKey(self.worker, 1, 0, word("two")): (0, 0, False),
                PartKey(self.other, 0, 0, digest): (0, 0, False),
                PartKey(self.worker, 1, 0, word(self.alice)): (0, 0, True),
                PartKey(self.worker, 1, 1, word(self.bob)): (0, 0, True),
            },
            forced={word("forced"): 8500, word("forced too"): 8600},
            owed={self.worker: 0, self.other: FEE, self.bob: 0, self.verifier: 0, self.pool: 0, BURNED: 0},
            times={
                event.origin.block_number: 7000 - MOVE for event in events if isinstance(event, g.Revealed | g.Picked)
            },
            balance=280 + FEE + 3 * BOND + DEMAND_FEE,
            demand_fee=DEMAND_FEE,
        )

    def _open(self, h: Telling, game: int, who: str, receipt: str, bond: int, frozen: int) -> None:
        froze = [(e.Frozen, (self.worker, 1, frozen))] if frozen else []
        values = (game, self.worker, who, word("request"), word(receipt), bond, True, 1, 0, frozen, 6000)
        h.then(*froze, (g.Opened, values), (e.Transfer, (who, self.game, bond)))

    def _play(self, h: Telling, game: int, leaf: bool = True) -> None:
        h.then((g.TracePosted, (game, word("body"), 7000)))
        h.then((g.SideChosen, (game, Side.BODY, word("body"), 4, Phase.REVEAL, 7000)))
        h.then((g.Revealed, (game, (word("leaf"),) * 16)))
        h.then((g.Picked, (game, 5, word("leaf"), 5, 0, False, Phase.LEAF)))
        if leaf:
            h.then((g.LeafRevealed, (game, bytes(4), 7100)))

    def _passed(self, to: str) -> tuple[Made, Made]:
        return (e.Transfer, (self.bob, self.game, FEE)), (e.Transfer, (self.game, to, FEE))

    def _refused(self, to: str) -> tuple[Made, Made]:
        return (e.Transfer, (self.bob, self.game, FEE)), (g.Owed, (to, FEE))


def _game(worker: str, challenger: str, digest: bytes, phase: Phase, bond: int, **known: Any) -> Game:
    values: dict[str, Any] = {
        "side": Side.NONE, "deadline": 6000, "holds": False, "claim_index": 0, "entry": 0, "body_root": bytes(32),
        "node": bytes(32), "height": 0, "in_row": False, "path": 0, "chunk": 0,
    }  # fmt: skip
    values |= known
    return Game(worker=worker, challenger=challenger, receipt_digest=digest, phase=phase, bond=bond, **values)
