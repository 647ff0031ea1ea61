"""Asks workers for the books behind their claims and, for who may read them, for the records behind the books.

Large ledgers are spread over the processor's cores: every book is a task of its own.
"""

import asyncio
import multiprocessing
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from eth_account import Account

from efedllm.chain.participants import gather_some
from efedllm.client.records import Reader, RecordSource, Unanswered
from efedllm.protocol import eip712
from efedllm.protocol.objects import Voucher
from efedllm.protocol.vouchers import Leaf

from .books import BookKey, check_leaves
from .difference import Difference
from .payments import check_payments, pairs_of
from .receipts import check_record
from .state import Ledger

LARGE = 5_000
"""Receipts from which on starting processes pays."""
RECORDS_AT_ONCE = 8
"""Asked of a worker for one book."""


@dataclass
class Collected:
    """`receipts` are paid for; each lies under a root that was compared, or is `unavailable`. `records`: of them, those
    whose own content was compared too."""

    receipts: int = 0
    unavailable: int = 0
    records: int = 0
    unavailable_records: int = 0
    silent: dict[str, str] = field(default_factory=dict)
    """Whom something was asked of in vain, and why."""
    differences: list[Difference] = field(default_factory=list)
    pairs: dict[BookKey, bytes] = field(default_factory=dict)
    """What every book paid for, see `pairs_of`."""

    def add(self, other: "Collected") -> None:
        self.receipts += other.receipts
        self.unavailable += other.unavailable
        self.records += other.records
        self.unavailable_records += other.unavailable_records
        self.silent |= other.silent
        self.differences += other.differences
        self.pairs |= other.pairs


@dataclass(frozen=True)
class Task:
    """One book: its vouchers, the latest first, and the worker that keeps it."""

    key: BookKey
    vouchers: Sequence[Voucher]
    endpoint: str


@dataclass(frozen=True)
class Collector:
    """`reader`: with one, every record is fetched too. `hot_keys`: those of all times, by worker."""

    domain: eip712.Domain
    hot_keys: Mapping[str, Set[str]]
    reader: Reader | None = None

    async def collect(self, tasks: Sequence[Task], processes: int | None = None) -> Collected:
        """All books, a bounded number at a time, and what is wrong between them. `processes`: by default as many as
        there are cores, and none besides this one for few receipts."""
        if processes is None:
            is_large = sum(task.vouchers[0].count for task in tasks) >= LARGE
            processes = min(len(tasks), os.cpu_count() or 1) if is_large else 1
        total = Collected()
        for one in await (self._here(tasks) if processes <= 1 else self._apart(tasks, processes)):
            total.add(one)
        total.differences += check_payments(total.pairs)
        return total

    async def _here(self, tasks: Sequence[Task]) -> list[Collected]:
        async with RecordSource(self.domain, self.reader) as source:
            return await gather_some(_Books(self, source).read(task) for task in tasks)

    async def _apart(self, tasks: Sequence[Task], processes: int) -> list[Collected]:
        loop = asyncio.get_running_loop()
        # The large ones first, so that none of them is left over for the end.
        ordered = sorted(tasks, key=lambda task: -task.vouchers[0].count)
        shares = [ordered[at :: processes * 4] for at in range(min(len(ordered), processes * 4))]
        reader = None if self.reader is None else (self.reader.address, bytes(self.reader.key.key))
        read = partial(_read_share, self.domain, self.hot_keys, reader)
        # A fork would copy the threads' locks in whatever state they are.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context) as pool:
            found = await asyncio.gather(*(loop.run_in_executor(pool, read, share) for share in shares))
        return [one for share in found for one in share]


def tasks_of(ledger: Ledger, books: Mapping[BookKey, Sequence[Voucher]]) -> list[Task]:
    return [Task(key, vouchers, ledger.participants[key.channel.worker].endpoint) for key, vouchers in books.items()]


def _read_share(
    domain: eip712.Domain, hot_keys: Mapping[str, Set[str]], reader: tuple[str, bytes] | None, tasks: Sequence[Task]
) -> list[Collected]:
    """In a process of its own; the reader's key comes over the pipe between the two."""
    own = None if reader is None else Reader(reader[0], Account.from_key(reader[1]))
    return asyncio.run(Collector(domain, hot_keys, own)._here(tasks))


class _Books:
    def __init__(self, collector: Collector, source: RecordSource) -> None:
        self._collector, self._source = collector, source

    async def read(self, task: Task) -> Collected:
        key, vouchers = task.key, task.vouchers
        found = Collected(receipts=vouchers[0].count)
        left = list(vouchers)
        while left:
            asked = left[0]
            if asked is not vouchers[0]:
                # Only its last receipt is in question, which a later one replaced: the others lie in the later book.
                found.receipts += 1
            try:
                leaves = await self._source.leaves(task.endpoint, asked.receiptsRoot)
            except Unanswered as error:
                found.silent[str(key)] = str(error)
                if asked is vouchers[0]:
                    found.unavailable = asked.count
                    return found
                found.unavailable += 1
                left = left[1:]
                continue
            differences, left = check_leaves(key, leaves, left)
            found.differences += differences
            if asked is vouchers[0]:
                found.pairs[key] = pairs_of(leaves)
                if self._collector.reader is not None:
                    await self._records(task, leaves, found)
        return found

    async def _records(self, task: Task, leaves: Sequence[Leaf], found: Collected) -> None:
        by_request: dict[bytes, list[Leaf]] = defaultdict(list)
        for leaf in leaves:
            by_request[leaf.request_id].append(leaf)
        slots = asyncio.Semaphore(RECORDS_AT_ONCE)

        async def check(request_id: bytes, of_request: Sequence[Leaf]) -> None:
            async with slots:
                await self._record(task, request_id, of_request, found)

        await asyncio.gather(*(check(request_id, of_request) for request_id, of_request in by_request.items()))

    async def _record(self, task: Task, request_id: bytes, leaves: Sequence[Leaf], found: Collected) -> None:
        collector = self._collector
        try:
            record = await self._source.record(task.endpoint, request_id)
        except Unanswered as error:
            found.unavailable_records += len(leaves)
            found.silent[str(task.key)] = str(error)
            return
        signers = collector.hot_keys.get(task.key.channel.worker, frozenset())
        differences, missing = check_record(collector.domain, task.key, leaves, record, signers)
        found.differences += differences
        found.unavailable_records += len(missing)
        found.records += len(leaves) - len(missing)
