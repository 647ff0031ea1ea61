"""Everything that a client and its workers signed, as their stores hold it: nothing is lost, nothing signed otherwise
a second time."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from efedllm.protocol.objects import Receipt, Voucher

Key = tuple[object, ...]
Values = dict[Key, tuple[bytes, bytes]]
"""Wire bytes and signature, by what must never be signed twice with different content."""


@dataclass
class Stores:
    """Paths of the client's store and of the workers', which follow each other in this order on the path."""

    client: Path
    workers: Mapping[str, Path]
    """By address."""
    seen: Values = field(default_factory=dict)
    """All that any store ever held."""

    def check(self) -> None:
        """Reads whatever is there, also beside running programs. Whoever receives is read before the one who signs, and
        signed values are kept before they are sent, so the signer always has what the receiver has."""
        upstream = {worker: self._receipts(path, "upstream_receipts") for worker, path in self.workers.items()}
        paid = {worker: self._held(worker, path) for worker, path in self.workers.items()}
        asked = {worker: self._requests(path) for worker, path in self.workers.items()}
        received = self._receipts(self.client, "receipts")
        signed: Values = {}
        for path in self.workers.values():
            signed |= self._receipts(path, "receipts")
        vouchers, requests = self._vouchers(), self._requests(self.client)
        for worker in self.workers:
            _contained(upstream[worker], signed, f"receipts of its neighbour at {worker}")
            _contained(paid[worker], vouchers, f"vouchers at {worker}")
            _contained(asked[worker], requests, f"requests at {worker}")
        _contained(received, signed, "receipts at the client")
        now = {**signed, **vouchers, **requests}
        _contained(self.seen, now, "values seen before")
        self.seen |= now

    def totals(self) -> dict[str, tuple[int, int]]:
        """The client's book and the worker's, in base units, by worker."""
        return {
            worker: (
                _last(_rows(self.client, "SELECT total FROM vouchers WHERE worker = ?", worker)),
                _last(_rows(path, "SELECT total FROM vouchers")),
            )
            for worker, path in self.workers.items()
        }

    def session_keys(self) -> set[str]:
        return {key for (key,) in _rows(self.client, "SELECT DISTINCT session_key FROM vouchers")}

    def _receipts(self, path: Path, table: str) -> Values:
        rows = _rows(path, f"SELECT receipt, signature FROM {table}")
        found: Values = {}
        for wire, signature in rows:
            receipt = Receipt.from_wire(msgpack.unpackb(wire))
            key = ("receipt", receipt.requestId, receipt.shard, receipt.positions)
            assert found.setdefault(key, (wire, signature)) == (wire, signature), f"two receipts for {key} in {path}"
        return found

    def _vouchers(self) -> Values:
        rows = _rows(
            self.client, "SELECT worker, session_key, epoch, voucher, signature FROM vouchers ORDER BY sequence"
        )
        return _in_order([row for row in rows if row[3]])

    def _held(self, worker: str, path: Path) -> Values:
        statement = "SELECT session_key, epoch, voucher, signature FROM vouchers ORDER BY sequence"
        return _in_order([(worker, *row) for row in _rows(path, statement)])

    def _requests(self, path: Path) -> Values:
        rows = _rows(path, "SELECT id, request, signature FROM requests")
        return {("request", request_id): (wire, signature) for request_id, wire, signature in rows}


def _in_order(rows: list[tuple[Any, ...]]) -> Values:
    """Vouchers by channel, epoch and total; of each channel, totals only rise and leaves never get fewer."""
    found: Values = {}
    last: dict[Key, tuple[int, int]] = {}
    for worker, session_key, epoch, wire, signature in rows:
        voucher = Voucher.from_wire(msgpack.unpackb(wire))
        channel = (worker, session_key, epoch)
        total, count = last.get(channel, (0, 0))
        assert voucher.total > total and voucher.count >= count, f"vouchers of {channel} do not rise at {voucher}"
        last[channel] = voucher.total, voucher.count
        found["voucher", *channel, voucher.total] = wire, signature
    return found


def _contained(values: Values, signed: Values, what: str) -> None:
    for key, value in values.items():
        assert key in signed, f"{what}: {key} is lost"
        assert signed[key] == value, f"{what}: {key} was signed twice with different content"


def _rows(path: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as db:
        return db.execute(statement, values).fetchall()


def _last(rows: list[tuple[Any, ...]]) -> int:
    return max((int(total) for (total,) in rows), default=0)
