"""What the chain told of games, demands and faults against this worker, kept in its store and rolled back with it.

Only that a game exists is taken from here. What is to do in it is read from the contract each time.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from efedllm.chain.event_reader import Cursor, Page
from efedllm.chain.follower import KEPT_CURSORS, handle
from efedllm.chain.game_events import Demanded, Ended, Opened, Proven
from efedllm.protocol.game import Phase
from efedllm.storage.database import Database


@dataclass(frozen=True)
class Known:
    """A game, or a demand for the token ids of `chunk`. `outcome` is None while it is open; amounts in base units."""

    game_id: int
    challenger: str
    request_id: bytes
    receipt_digest: bytes
    chunk: int | None
    outcome: Phase | None
    to_worker: int


@dataclass(frozen=True)
class News:
    """Something to tell the operator: `kind` is "challenged", "ended" (of a game) or "fault" (of a request)."""

    sequence: int
    kind: str
    game: Known | None
    request_id: bytes
    fault: int


class Games:
    """The games against one worker, in the worker's database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # following

    def cursors(self) -> Sequence[Cursor]:
        return [Cursor(*row) for row in self._db.rows("SELECT block, hash FROM cursors ORDER BY block DESC")]

    def enter(self, page: Page, worker: str) -> None:
        """What the page says of `worker` (its cold address), and the cursor behind it."""
        own = [event for event in page.events if getattr(event, "worker", None) == worker]
        with self._db.transaction() as db:
            handle(
                {
                    Opened: lambda event: _open(db, event, None),
                    Demanded: lambda event: _open(db, event, event.chunk),
                    Ended: lambda event: _end(db, event),
                    Proven: lambda event: _prove(db, event),
                },
                own,
            )
            db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (page.cursor.block, page.cursor.hash))
            db.execute(
                "DELETE FROM cursors WHERE block NOT IN (SELECT block FROM cursors ORDER BY block DESC LIMIT ?)",
                (KEPT_CURSORS,),
            )

    def roll_back(self, block: int) -> None:
        with self._db.transaction() as db:
            for table in ("cursors", "games", "faults", "untold"):
                db.execute(f"DELETE FROM {table} WHERE block > ?", (block,))
            db.execute(
                "UPDATE games SET end_block = NULL, outcome = NULL, to_worker = NULL WHERE end_block > ?", (block,)
            )

    # reading

    def open_games(self) -> list[Known]:
        """Those that no confirmed block has ended, in the order of their ids."""
        return self._known("outcome IS NULL")

    def disputed(self, request_id: bytes) -> bool:
        return bool(self._known("outcome IS NULL AND request_id = ?", request_id))

    def news(self) -> list[News]:
        """What was not told yet, in order."""
        rows = self._db.rows("SELECT sequence, kind, subject FROM untold ORDER BY sequence")
        found = []
        for sequence, kind, subject in rows:
            if kind == "fault":
                (number,) = self._db.row("SELECT number FROM faults WHERE request_id = ?", (subject,)) or (0,)
                found.append(News(sequence, kind, None, subject, number))
            elif games := self._known("game_id = ?", subject):
                found.append(News(sequence, kind, games[0], games[0].request_id, 0))
        return found

    def told(self, up_to: int) -> None:
        """News up to this sequence number need not be told again."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM untold WHERE sequence <= ?", (up_to,))

    def _known(self, where: str, *values: object) -> list[Known]:
        rows = self._db.rows(
            "SELECT game_id, challenger, request_id, receipt_digest, chunk, outcome, to_worker FROM games "
            f"WHERE {where} ORDER BY game_id",
            values,
        )
        return [
            Known(
                game_id=int.from_bytes(game_id),
                challenger=challenger,
                request_id=request_id,
                receipt_digest=digest,
                chunk=chunk,
                outcome=None if outcome is None else Phase(outcome),
                to_worker=int(to_worker or 0),
            )
            for game_id, challenger, request_id, digest, chunk, outcome, to_worker in rows
        ]


def _key(game_id: int) -> bytes:
    return game_id.to_bytes(32)


def _tell(db: sqlite3.Connection, block: int, kind: str, subject: bytes) -> None:
    db.execute("INSERT INTO untold (block, kind, subject) VALUES (?, ?, ?)", (block, kind, subject))


def _open(db: sqlite3.Connection, event: Opened | Demanded, chunk: int | None) -> None:
    key, block = _key(event.game_id), event.origin.block_number
    db.execute(
        "INSERT OR REPLACE INTO games (game_id, block, challenger, request_id, receipt_digest, chunk) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (key, block, event.challenger, event.request_id, event.receipt_digest, chunk),
    )
    _tell(db, block, "challenged", key)


def _end(db: sqlite3.Connection, event: Ended) -> None:
    key, block = _key(event.game_id), event.origin.block_number
    db.execute(
        "UPDATE games SET end_block = ?, outcome = ?, to_worker = ? WHERE game_id = ?",
        (block, int(event.outcome), str(event.to_worker), key),
    )
    _tell(db, block, "ended", key)


def _prove(db: sqlite3.Connection, event: Proven) -> None:
    block = event.origin.block_number
    db.execute("INSERT OR REPLACE INTO faults VALUES (?, ?, ?)", (event.request_id, block, event.number))
    _tell(db, block, "fault", event.request_id)


@dataclass(frozen=True)
class GameLedger:
    """The games of one worker as a `follower.Ledger`."""

    games: Games
    worker: str

    def cursors(self) -> Sequence[Cursor]:
        return self.games.cursors()

    def enter(self, page: Page) -> None:
        self.games.enter(page, self.worker)

    def roll_back(self, block: int) -> None:
        self.games.roll_back(block)
