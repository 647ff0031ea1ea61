"""A full disk: nothing is acknowledged that is not kept, the operator is told once; it goes on when there is room."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from efedllm.storage import files
from tests.worker.network import RunningWorker, WorkerGroup
from tests.worker.payer import Payer, Refused, ask
from worker.notices import Notices

PROMPT = [1, 2, 3, 4, 5]


def fill(worker: RunningWorker) -> int:
    """Let the store's file not grow any more. Returns what it may have grown to."""
    database = worker.store._db
    (limit,) = database.row("PRAGMA max_page_count")
    (pages,) = database.row("PRAGMA page_count")
    database.rows(f"PRAGMA max_page_count = {pages}")
    return int(limit)


async def test_a_store_that_cannot_grow(built: Path, tmp_path: Path) -> None:
    payer, events = Payer(), []
    async with WorkerGroup(built, [(0, 1), (1, 3)], tmp_path, voucher_seconds=2) as group:
        group.open_channels(payer.account.address, payer.session.address)
        for worker in group.workers:
            worker.service.notices = Notices(lambda _, event: events.append(event))
        path = [worker.hop for worker in group.workers]
        first = await ask(group, payer, payer.request(path, PROMPT, 3), PROMPT)
        limit = fill(group.workers[1])
        refusals = []
        while sum("cannot keep" in reason for reason in refusals) < 3 and len(refusals) < 12:
            try:
                prompt = [*PROMPT, *range(150)]
                first = await ask(group, payer, payer.request(path, prompt, 20), prompt, first.books)
            except Refused as error:
                refusals.append(str(error))
                # A request that still waits for its voucher has the channel's only place.
                await asyncio.gather(*(task for worker in group.workers for task in worker.service._tasks))
        assert refusals
        # What a worker says to strangers names no file of its own.
        assert all(str(tmp_path) not in reason for reason in refusals)
        assert any("this worker cannot keep what it would sign" in reason for reason in refusals)
        assert [event["kind"] for event in events] == ["disk"]
        assert "full" in str(events[0]["message"])
        second = group.workers[1]
        second.store._db.rows(f"PRAGMA max_page_count = {limit}")
        # What was kept is what was credited; the client brings the rest of what it signed.
        held = second.store.best_vouchers()[0].voucher.total
        assert held <= first.books[second.address].total
        book = second.store.book(payer.account.address, payer.session.address, second.address, 1)
        books = {**first.books, second.address: book}
        last = await ask(group, payer, payer.request(path, PROMPT, 3), PROMPT, books)
        assert len(last.tokens) == 3
        assert [event["event"] for event in events] == ["warning", "over"]


async def test_rows_that_cannot_be_written(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner worker signs no receipt for rows that it could not keep."""
    payer, events = Payer(), []
    async with WorkerGroup(built, [(0, 1), (1, 3)], tmp_path) as group:
        group.open_channels(payer.account.address, payer.session.address)
        group.workers[1].service.notices = Notices(lambda _, event: events.append(event))
        path = [worker.hop for worker in group.workers]

        def full(handle: int, data: Any) -> int:
            raise OSError(28, os.strerror(28))

        request = payer.request(path, PROMPT, 20)
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "write", full)
            with pytest.raises(Refused, match="cannot keep what it would sign"):
                await ask(group, payer, request, PROMPT)
        assert [event["kind"] for event in events] == ["disk"]
        record = group.workers[1].store.record(payer.open_message(request, PROMPT).request_id)
        assert record is not None
        assert (record.receipts, record.rows) == ([], b"")
        keys = payer.account.address, payer.session.address
        books = {one.address: one.store.book(*keys, one.address, 1) for one in group.workers}
        answer = await ask(group, payer, payer.request(path, PROMPT, 20), PROMPT, books)
        assert len(answer.tokens) == 20
