"""Rows of the store about how far workers are trusted. Each function is part of a transaction of `store.py`."""

import sqlite3

from efedllm.client.trust import Breaks, Word


def win_trust(db: sqlite3.Connection, request_id: bytes) -> None:
    """The request is done and still unsettled: its workers are trusted a little more again."""
    rows = db.execute(
        "SELECT a.worker, a.session_key, a.epoch, a.paid, a.unseen FROM arrears AS a "
        "JOIN unsettled AS u ON u.worker = a.worker WHERE u.request_id = ?",
        (request_id,),
    ).fetchall()
    for worker, session_key, epoch, later, unseen in rows:
        key = (worker, session_key, epoch)
        keep_word(db, key, Word(int(later), int(unseen)).completed(_fee_of(db, key, request_id)))
    rows = db.execute(
        "SELECT b.worker, b.debt, b.at FROM breaks AS b JOIN unsettled AS u ON u.worker = b.worker "
        "WHERE u.request_id = ?",
        (request_id,),
    ).fetchall()
    for worker, debt, at in rows:
        keep_breaks(db, worker, Breaks(debt, at).completed())


def keep_word(db: sqlite3.Connection, key: tuple[str, str, int], word: Word) -> None:
    """`key`: worker, session key, epoch."""
    if word == Word():
        db.execute("DELETE FROM arrears WHERE worker = ? AND session_key = ? AND epoch = ?", key)
    else:
        db.execute(
            "INSERT OR REPLACE INTO arrears (worker, session_key, epoch, paid, unseen) VALUES (?, ?, ?, ?, ?)",
            (*key, str(word.later), str(word.unseen)),
        )


def keep_breaks(db: sqlite3.Connection, worker: str, breaks: Breaks) -> None:
    if breaks.debt:
        row = (worker, breaks.debt, breaks.at)
        db.execute("INSERT OR REPLACE INTO breaks (worker, debt, at) VALUES (?, ?, ?)", row)
    else:
        db.execute("DELETE FROM breaks WHERE worker = ?", (worker,))


def _fee_of(db: sqlite3.Connection, key: tuple[str, str, int], request_id: bytes) -> int:
    """Base units that were signed for a request in one channel."""
    leaves = db.execute(
        "SELECT leaf_before, total, MAX(sequence) FROM vouchers WHERE worker = ? AND session_key = ? AND epoch = ? "
        "AND request_id = ? GROUP BY leaf",
        (*key, request_id),
    ).fetchall()
    return sum(int(total) - int(before) for before, total, _ in leaves)
