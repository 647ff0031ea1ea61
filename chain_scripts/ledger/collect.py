"""Asks workers for the books behind their claims and, for who may read them, for the records behind the books."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from efedllm.chain.participants import gather_some
from efedllm.client.records import RecordSource, Unanswered
from efedllm.protocol import eip712
from efedllm.protocol.objects import Voucher
from efedllm.protocol.vouchers import Leaf

from .books import BookKey, check_leaves
from .difference import Difference
from .receipts import check_record
from .state import Ledger


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

    def add(self, other: "Collected") -> None:
        self.receipts += other.receipts
        self.unavailable += other.unavailable
        self.records += other.records
        self.unavailable_records += other.unavailable_records
        self.silent |= other.silent
        self.differences += other.differences


class Collector:
    """`reads_records`: whether `source` has a reader, and every record is to be fetched too."""

    def __init__(self, source: RecordSource, domain: eip712.Domain, ledger: Ledger, reads_records: bool) -> None:
        self._source, self._domain, self._ledger, self._reads_records = source, domain, ledger, reads_records

    async def collect(self, books: Mapping[BookKey, Sequence[Voucher]]) -> Collected:
        """All books, a bounded number at a time."""
        total = Collected()
        for one in await gather_some(self._book(key, vouchers) for key, vouchers in books.items()):
            total.add(one)
        return total

    async def _book(self, key: BookKey, vouchers: Sequence[Voucher]) -> Collected:
        found = Collected(receipts=vouchers[0].count)
        endpoint = self._ledger.participants[key.channel.worker].endpoint
        left = list(vouchers)
        while left:
            asked = left[0]
            if asked is not vouchers[0]:
                # Only its last receipt is in question, which a later one replaced: the others lie in the later book.
                found.receipts += 1
            try:
                leaves = await self._source.leaves(endpoint, asked.receiptsRoot)
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
            if self._reads_records and asked is vouchers[0]:
                await self._records(key, endpoint, leaves, found)
        return found

    async def _records(self, key: BookKey, endpoint: str, leaves: Sequence[Leaf], found: Collected) -> None:
        by_request: dict[bytes, list[Leaf]] = defaultdict(list)
        for leaf in leaves:
            by_request[leaf.request_id].append(leaf)
        hot_keys = {key.channel.worker: frozenset(self._ledger.participants[key.channel.worker].hot_keys)}
        for request_id, of_request in by_request.items():
            try:
                record = await self._source.record(endpoint, request_id)
            except Unanswered as error:
                found.unavailable_records += len(of_request)
                found.silent[str(key)] = str(error)
                continue
            differences, missing = check_record(self._domain, key.channel, of_request, record, hot_keys)
            found.differences += differences
            found.unavailable_records += len(missing)
            found.records += len(of_request) - len(missing)
