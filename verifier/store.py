"""What a verifier must never lose: where reading stands, what was drawn, what came out, and the evidence.

One SQLite file (WAL, synchronous=FULL) per deployment. A method returns when its data is on disk; every step can be
done again after a kill at any moment. Raises StoreError when the disk refuses.
"""

from pathlib import Path

from efedllm.chain.event_reader import Cursor
from efedllm.chain.follower import KEPT_CURSORS
from efedllm.protocol.claims import unpack_entries
from efedllm.protocol.records import pack_leaves, unpack_leaves
from efedllm.protocol.vouchers import Leaf
from efedllm.storage.database import Database, Layout

from .docket import Docket, enter_dossier
from .dossier import Dossier
from .errors import StoreError
from .findings import About, Checked, Claim, Draw, Evidence, Undrawn
from .verdict import Fault, Missing, Outcome, Verdict

assert __package__ is not None
LAYOUT = Layout(__package__, ("schema.sql", "schema_2.sql", "schema_3.sql"), "what was found", StoreError)


def store_path(data_dir: Path, chain_id: int, channels: str) -> Path:
    """The verifier's store for one deployment."""
    return data_dir / f"verifier-{chain_id}-{channels[2:10].lower()}.sqlite"


class Store:
    """Open in one program at a time."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError if the disk refuses, the file is damaged or newer, or another program has it open."""
        self._db = Database(path, LAYOUT)

    def close(self) -> None:
        self._db.close()

    def docket(self, challenger: str) -> Docket:
        """What is taken to the chain by `challenger`, kept in the same file."""
        return Docket(self._db, challenger)

    # following the chain

    def cursors(self) -> list[Cursor]:
        """Where reading stood, newest first, as far as it can be rolled back."""
        return [Cursor(*row) for row in self._db.rows("SELECT block, hash FROM cursors ORDER BY block DESC")]

    def advance(self, block: int, block_hash: bytes, claims: list[Claim]) -> None:
        """Enters the claims of a page and moves the cursor behind it, together. A claim is entered once."""
        with self._db.transaction() as db:
            for claim in claims:
                entries = b"".join(entry.pack() for entry in claim.entries)
                db.execute(
                    "INSERT INTO claims (worker, claim, block, tx, entries) VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT DO NOTHING",
                    (claim.worker, claim.index, claim.block, claim.transaction, entries),
                )
                db.executemany(
                    "INSERT INTO entries (worker, claim, entry) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    [(claim.worker, claim.index, at) for at in range(len(claim.entries))],
                )
            db.execute("INSERT OR REPLACE INTO cursors (block, hash) VALUES (?, ?)", (block, block_hash))
            db.execute(
                "DELETE FROM cursors WHERE block NOT IN (SELECT block FROM cursors ORDER BY block DESC LIMIT ?)",
                (KEPT_CURSORS,),
            )

    def roll_back(self, block: int) -> None:
        """Forgets the cursors of all blocks above `block`, the claims in them, and what was drawn with their help.
        Evidence stays."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM cursors WHERE block > ?", (block,))
            db.execute(
                "UPDATE challenges SET draw = NULL WHERE (worker, claim) IN "
                "(SELECT worker, claim FROM claims WHERE block > ? OR seed_block > ?)",
                (block, block),
            )
            db.execute("DELETE FROM claims WHERE block > ?", (block,))
            drawn_above = "(worker, claim) IN (SELECT worker, claim FROM claims WHERE seed_block > ?)"
            db.execute(f"DELETE FROM draws WHERE {drawn_above}", (block,))
            db.execute(
                f"UPDATE entries SET leaves = NULL, kind = NULL, reason = NULL, attempts = 0, due = 0 "
                f"WHERE {drawn_above}",
                (block,),
            )
            db.execute("UPDATE claims SET seed = NULL, seed_block = NULL WHERE seed_block > ?", (block,))

    # beacons and draws

    def seedless(self) -> list[Claim]:
        """Claims without a seed, oldest first."""
        return self._claims("seed IS NULL")

    def set_seed(self, claim: Claim, seed: bytes, block: int) -> None:
        """The seed of a claim, as it was at `block`."""
        with self._db.transaction() as db:
            db.execute(
                "UPDATE claims SET seed = ?, seed_block = ? WHERE worker = ? AND claim = ?",
                (seed, block, claim.worker, claim.index),
            )

    def undrawn(self, now: float) -> list[tuple[Claim, int]]:
        """Entries of seeded claims that wait for their leaves and are due, oldest first."""
        rows = self._db.rows(
            "SELECT worker, claim, entry FROM entries JOIN claims USING (worker, claim) "
            "WHERE seed IS NOT NULL AND leaves IS NULL AND due <= ? ORDER BY block, worker, claim, entry",
            (now,),
        )
        claims = {key: self._claim(*key) for key in {row[:2] for row in rows}}
        return [(claims[row[:2]], row[2]) for row in rows]

    def set_drawn(self, claim: Claim, entry: int, leaves: list[Leaf], drawn: list[int]) -> None:
        """All leaves of an entry, and the places of those that were drawn."""
        with self._db.transaction() as db:
            db.executemany(
                "INSERT INTO draws (worker, claim, entry, leaf, request_id, receipt_digest, leaf_before, leaf_after) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [
                    (
                        claim.worker,
                        claim.index,
                        entry,
                        at,
                        leaves[at].request_id,
                        leaves[at].receipt_digest,
                        str(leaves[at].before),
                        str(leaves[at].after),
                    )
                    for at in drawn
                ],
            )
            db.execute(
                "UPDATE entries SET leaves = ?, kind = NULL, reason = NULL "
                "WHERE worker = ? AND claim = ? AND entry = ?",
                (pack_leaves(leaves), claim.worker, claim.index, entry),
            )

    def set_undrawn(self, claim: Claim, entry: int, verdict: Verdict, due: float) -> None:
        """The leaves could not be had; ask again at `due`."""
        with self._db.transaction() as db:
            db.execute(
                "UPDATE entries SET kind = ?, reason = ?, attempts = attempts + 1, due = ? "
                "WHERE worker = ? AND claim = ? AND entry = ?",
                (verdict.kind, verdict.reason, due, claim.worker, claim.index, entry),
            )

    def attempts(self, claim: Claim, entry: int) -> int:
        (count,) = self._db.row(
            "SELECT attempts FROM entries WHERE worker = ? AND claim = ? AND entry = ?",
            (claim.worker, claim.index, entry),
        )
        return int(count)

    # checks

    def unchecked(self, now: float) -> list[tuple[Draw, int]]:
        """Drawn leaves without a final verdict that are due, with the attempts made; leaves of one request together."""
        rows = self._db.rows(
            f"SELECT {_DRAW}, attempts FROM draws WHERE (outcome IS NULL OR outcome = ?) AND due <= ? "
            "ORDER BY request_id, worker, claim, entry, leaf",
            (Outcome.UNAVAILABLE, now),
        )
        return [(_draw(row), row[8]) for row in rows]

    def workers_of(self, request_id: bytes) -> set[str]:
        """Who was paid for a request, as far as that was drawn."""
        rows = self._db.rows("SELECT DISTINCT worker FROM draws WHERE request_id = ?", (request_id,))
        return {worker for (worker,) in rows}

    def claim_of(self, draw: Draw) -> Claim:
        return self._claim(draw.worker, draw.claim)

    def leaves_of(self, draw: Draw) -> list[Leaf]:
        """All leaves under the root that the drawn one lies under; kept until all that were drawn are checked."""
        (packed,) = self._db.row(
            "SELECT leaves FROM entries WHERE worker = ? AND claim = ? AND entry = ?",
            (draw.worker, draw.claim, draw.entry),
        )
        return unpack_leaves(packed)

    def set_verdict(
        self,
        draw: Draw,
        verdict: Verdict,
        about: About | None,
        due: float,
        evidence: Evidence | None,
        dossier: Dossier | None = None,
    ) -> None:
        """The verdict on a drawn leaf, and what is taken to the chain because of it; one that is unavailable is checked
        again at `due`."""
        with self._db.transaction() as db:
            db.execute(
                "UPDATE draws SET outcome = ?, blamed = ?, kind = ?, reason = ?, position = ?, shard = ?, layers = ?, "
                "positions = ?, evidence = ?, attempts = attempts + 1, due = ? "
                "WHERE worker = ? AND claim = ? AND entry = ? AND leaf = ?",
                (
                    verdict.outcome,
                    verdict.worker,
                    verdict.kind,
                    verdict.reason,
                    verdict.position,
                    about and about.shard,
                    about and about.layers,
                    about and about.positions,
                    evidence and evidence.path,
                    due,
                    draw.worker,
                    draw.claim,
                    draw.entry,
                    draw.leaf_index,
                ),
            )
            key = (draw.worker, draw.claim, draw.entry)
            db.execute(
                "UPDATE entries SET leaves = x'' WHERE worker = ? AND claim = ? AND entry = ? AND NOT EXISTS "
                "(SELECT 1 FROM draws WHERE worker = ? AND claim = ? AND entry = ? AND "
                "(outcome IS NULL OR outcome = 'unavailable'))",
                (*key, *key),
            )
            if dossier is not None:
                enter_dossier(db, dossier)
            if evidence is not None:
                db.execute(
                    "INSERT OR REPLACE INTO evidence VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        evidence.path,
                        evidence.sha256,
                        evidence.worker,
                        evidence.request_id,
                        evidence.receipt_digest,
                        evidence.claim,
                        evidence.block,
                        evidence.kind,
                        evidence.reason,
                    ),
                )

    # reading

    def checked(self) -> list[Checked]:
        """All drawn leaves that have a verdict, in order of claims."""
        rows = self._db.rows(
            f"SELECT {_DRAW}, shard, layers, positions, outcome, blamed, kind, reason, position, evidence FROM draws "
            "WHERE outcome IS NOT NULL ORDER BY claim, worker, entry, leaf"
        )
        return [
            Checked(_draw(row), None if row[8] is None else About(*row[8:11]), _verdict(*row[11:16]), row[16])
            for row in rows
        ]  # fmt: skip

    def waiting(self) -> list[Undrawn]:
        """Entries whose leaves were asked for in vain."""
        rows = self._db.rows(
            "SELECT worker, claim, entry, kind, reason FROM entries WHERE kind IS NOT NULL AND leaves IS NULL "
            "ORDER BY claim, worker, entry"
        )
        return [
            Undrawn(worker, claim, entry, _verdict(Outcome.UNAVAILABLE, worker, kind, reason, None))
            for worker, claim, entry, kind, reason in rows
        ]

    def evidence(self) -> list[Evidence]:
        rows = self._db.rows(
            "SELECT path, sha256, worker, request_id, receipt_digest, claim, block, kind, reason FROM evidence "
            "ORDER BY path"
        )
        return [
            Evidence(path, digest, worker, request_id, receipt_digest, claim, block, Fault(kind), reason)
            for path, digest, worker, request_id, receipt_digest, claim, block, kind, reason in rows
        ]

    def _claim(self, worker: str, claim: int) -> Claim:
        return self._claims("worker = ? AND claim = ?", worker, claim)[0]

    def _claims(self, where: str, *values: object) -> list[Claim]:
        rows = self._db.rows(
            f"SELECT worker, claim, block, tx, entries, seed FROM claims WHERE {where} ORDER BY block, worker, claim",
            values,
        )
        return [Claim(row[0], row[1], row[2], row[3], unpack_entries(row[4]), row[5]) for row in rows]


_DRAW = "worker, claim, entry, leaf, request_id, receipt_digest, leaf_before, leaf_after"


def _draw(row: tuple[str, int, int, int, bytes, bytes, str, str]) -> Draw:
    return Draw(*row[:4], Leaf(row[4], row[5], int(row[6]), int(row[7])))


def _verdict(outcome: str, blamed: str, kind: str | None, reason: str, position: int | None) -> Verdict:
    found = Outcome(outcome)
    named: Fault | Missing | None = None
    if kind is not None:
        named = Missing(kind) if found is Outcome.UNAVAILABLE else Fault(kind)
    return Verdict(found, blamed, named, reason, position)
