"""What the verifier keeps of its challenges: the dossiers, and what the dispute game told of them."""

import sqlite3
from collections.abc import Sequence

from efedllm.chain.event_reader import Cursor
from efedllm.chain.follower import KEPT_CURSORS
from efedllm.chain.game_events import Collected, Demanded, Divided, Opened, Proven, Refunded, Won
from efedllm.chain.origin import Event
from efedllm.protocol.vouchers import Leaf
from efedllm.storage.database import Database

from .dossier import Dossier, pack_draw, unpack_draw
from .findings import Draw
from .game_log import pack_event, unpack_event
from .verdict import Fault, Missing, Outcome, Verdict

_OF_REQUESTS = (Proven, Won, Divided, Collected, Refunded)
"""Events about a worker's request rather than about one game."""


class Docket:
    """Tables of the verifier's store; methods return when their data is on disk. challenger: whose games these are."""

    def __init__(self, database: Database, challenger: str) -> None:
        self._db, self._challenger = database, challenger

    # dossiers

    def open_dossiers(self) -> list[Dossier]:
        """All that something may be left to do about; those of one worker's request together, the shortest first."""
        return self._dossiers("closed IS NULL")

    def dossiers(self) -> list[Dossier]:
        return self._dossiers("1")

    def close(self, dossier: Dossier, why: str, block: int) -> None:
        """Nothing is left to do, by what was so at `block`: should that be replaced, it is opened again."""
        with self._db.transaction() as db:
            db.execute(
                "UPDATE challenges SET closed = ?, closed_block = ? WHERE worker = ? AND receipt_digest = ?",
                (why, block, dossier.worker, dossier.receipt_digest),
            )

    def _dossiers(self, where: str) -> list[Dossier]:
        rows = self._db.rows(
            "SELECT worker, claim, entry, leaf, request_id, receipt_digest, leaf_before, leaf_after, outcome, kind, "
            f"reason, positions, evidence, draw, closed FROM challenges WHERE {where} "
            "ORDER BY worker, request_id, positions, receipt_digest"
        )
        found = []
        for row in rows:
            draw = Draw(row[0], row[1], row[2], row[3], Leaf(row[4], row[5], int(row[6]), int(row[7])))
            outcome = Outcome(row[8])
            kind = Missing(row[9]) if outcome is Outcome.UNAVAILABLE else Fault(row[9])
            proof = None if row[13] is None else unpack_draw(row[13])
            found.append(Dossier(draw, Verdict(outcome, row[0], kind, row[10]), row[11], row[12], proof, row[14]))
        return found

    # following the game

    def cursors(self) -> list[Cursor]:
        """Where reading stood, newest first, as far as it can be rolled back."""
        return [Cursor(*row) for row in self._db.rows("SELECT block, hash FROM game_cursors ORDER BY block DESC")]

    def advance(self, cursor: Cursor, events: Sequence[Event]) -> None:
        """Enters what a page tells of one's own games, and of faults, with the cursor behind it."""
        with self._db.transaction() as db:
            own = {game for (game,) in db.execute("SELECT DISTINCT game FROM game_events WHERE game IS NOT NULL")}
            for event in self.of_mine(events, own):
                game = getattr(event, "game_id", None)
                db.execute(
                    "INSERT INTO game_events (block, log_index, game, worker, request_id, body) "
                    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (
                        event.origin.block_number,
                        event.origin.log_index,
                        None if isinstance(event, _OF_REQUESTS) else str(game),
                        getattr(event, "worker", None),
                        getattr(event, "request_id", None),
                        pack_event(event),
                    ),
                )
            db.execute("INSERT OR REPLACE INTO game_cursors (block, hash) VALUES (?, ?)", (cursor.block, cursor.hash))
            db.execute(
                "DELETE FROM game_cursors WHERE block NOT IN "
                "(SELECT block FROM game_cursors ORDER BY block DESC LIMIT ?)",
                (KEPT_CURSORS,),
            )

    def of_mine(self, events: Sequence[Event], own: set[str] | None = None) -> list[Event]:
        """Those about games of one's own and about faults. own: ids of games known before; they grow as games open."""
        known = {str(game) for game in self.games()} if own is None else own
        kept = []
        for event in events:
            if isinstance(event, Opened | Demanded) and event.challenger == self._challenger:
                known.add(str(event.game_id))
            if isinstance(event, _OF_REQUESTS) or str(getattr(event, "game_id", "")) in known:
                kept.append(event)
        return kept

    def roll_back(self, block: int) -> None:
        """Forgets what blocks above `block` told."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM game_cursors WHERE block > ?", (block,))
            db.execute("DELETE FROM game_events WHERE block > ?", (block,))
            db.execute("UPDATE challenges SET closed = NULL, closed_block = NULL WHERE closed_block > ?", (block,))

    def games(self) -> list[int]:
        rows = self._db.rows("SELECT DISTINCT game FROM game_events WHERE game IS NOT NULL")
        return [int(game) for (game,) in rows]

    def events(self) -> list[Event]:
        """All that is entered, in order."""
        return [
            unpack_event(body) for (body,) in self._db.rows("SELECT body FROM game_events ORDER BY block, log_index")
        ]

    # telling

    def untold(self) -> list[Event]:
        """Entered events that nobody was told of yet, in order."""
        rows = self._db.rows("SELECT body FROM game_events WHERE told = 0 ORDER BY block, log_index")
        return [unpack_event(body) for (body,) in rows]

    def set_told(self, event: Event) -> None:
        with self._db.transaction() as db:
            db.execute(
                "UPDATE game_events SET told = 1 WHERE block = ? AND log_index = ?",
                (event.origin.block_number, event.origin.log_index),
            )


def enter_dossier(db: sqlite3.Connection, dossier: Dossier) -> None:
    """Inside the transaction that keeps its verdict. What came again takes the place of what was there."""
    draw, verdict = dossier.draw, dossier.verdict
    db.execute(
        "INSERT INTO challenges (worker, claim, entry, leaf, request_id, receipt_digest, leaf_before, leaf_after, "
        "outcome, kind, reason, positions, evidence, draw) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (worker, receipt_digest) DO UPDATE SET claim = excluded.claim, entry = excluded.entry, "
        "leaf = excluded.leaf, leaf_before = excluded.leaf_before, leaf_after = excluded.leaf_after, "
        "outcome = excluded.outcome, kind = excluded.kind, reason = excluded.reason, positions = excluded.positions, "
        "evidence = excluded.evidence, draw = excluded.draw, closed = NULL, closed_block = NULL",
        (
            draw.worker,
            draw.claim,
            draw.entry,
            draw.leaf_index,
            draw.leaf.request_id,
            draw.leaf.receipt_digest,
            str(draw.leaf.before),
            str(draw.leaf.after),
            verdict.outcome,
            verdict.kind,
            verdict.reason,
            dossier.positions,
            dossier.evidence,
            None if dossier.draw_proof is None else pack_draw(dossier.draw_proof),
        ),
    )
