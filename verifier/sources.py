"""What a check needs from outside: records of a request's workers, and which keys are theirs."""

import logging
from collections.abc import Set
from dataclasses import replace

from efedllm.chain.stake_registry import StakeRegistry
from efedllm.client.records import RecordSource, Unanswered
from efedllm.protocol import eip712
from efedllm.protocol.claims import Entry
from efedllm.protocol.records import Record
from efedllm.protocol.vouchers import Leaf

from .check import Case, Drawn, find_receipt, signer_of
from .findings import About

log = logging.getLogger("efedllm.verifier")


class Sources:
    """Records are kept while receipts of one request are looked at, since neighbours need them too."""

    def __init__(self, stakes: StakeRegistry, source: RecordSource, domain: eip712.Domain) -> None:
        self._stakes, self._source, self._domain = stakes, source, domain
        self._hot_keys: set[tuple[str, str]] = set()
        self._records: dict[str, Record] = {}
        self._records_of = b""

    def forget(self) -> None:
        """Let go of the records: the next pass asks again."""
        self._records.clear()

    async def leaves(self, worker: str, entry: Entry) -> list[Leaf]:
        """Leaves behind a claim's entry, as the worker tells them. Raises Unanswered."""
        return await self._source.leaves(await self._endpoint(worker), entry.receipts_root)

    async def record(self, worker: str, request_id: bytes) -> Record:
        """A worker's record. Raises Unanswered."""
        if self._records_of != request_id:
            self._records, self._records_of = {}, request_id
        if worker not in self._records:
            self._records[worker] = await self._source.record(await self._endpoint(worker), request_id)
        return self._records[worker]

    async def stand_in(self, workers: Set[str], request_id: bytes, receipt_digest: bytes) -> Record | None:
        """The receipt with this digest and all tokens, from whom it was sent on to: neighbours keep each other's."""
        for worker in sorted(workers):
            record = await self.neighbour(worker, request_id)
            if record is None:
                continue
            upstream = replace(record, receipts=record.upstream, upstream=[], rows=b"")
            if find_receipt(self._domain, upstream, receipt_digest) is not None:
                return upstream
        return None

    async def neighbour(self, worker: str, request_id: bytes) -> Record | None:
        """Another worker's record of the request, as far as it is to be had."""
        try:
            return await self.record(worker, request_id)
        except Unanswered as error:
            log.info("neighbour %s: %s", worker, error)
            return None

    async def case(self, drawn: Drawn, record: Record) -> tuple[Case, About | None]:
        """The record with its upstream neighbour's, and which of the keys that signed are the workers' own.

        The neighbour's receipts come with the record; the neighbour is asked for what is missing. Nothing is asked on
        the word of a record before the receipt's digest vouches for it.
        """
        found = find_receipt(self._domain, record, drawn.leaf.receipt_digest)
        if found is None:
            return Case(drawn, record, {}), None
        receipt, signature = found
        request = record.request
        hot_keys = {drawn.worker: await self._own_keys(drawn.worker, signer_of(self._domain, receipt, signature))}
        if eip712.digest(self._domain, request) != receipt.requestId or receipt.shard >= len(request.path):
            return Case(drawn, record, hot_keys), None
        hop = request.path[receipt.shard]
        about = About(receipt.shard, f"{hop.start}:{hop.end}", receipt.positions)
        upstream: Record | None = None
        if receipt.shard > 0:
            worker = request.path[receipt.shard - 1].worker
            upstream = replace(record, receipts=record.upstream, rows=b"", upstream=[])
            if find_receipt(self._domain, upstream, receipt.upstream) is None:
                upstream = await self.neighbour(worker, receipt.requestId)
            named = find_receipt(self._domain, upstream, receipt.upstream) if upstream is not None else None
            if named is not None:
                hot_keys[worker] = await self._own_keys(worker, signer_of(self._domain, *named))
        return Case(drawn, record, hot_keys, upstream), about

    async def _endpoint(self, worker: str) -> str:
        return (await self._stakes.service_of(worker)).endpoint

    async def _own_keys(self, worker: str, signer: str | None) -> Set[str]:
        """`signer`, if it is or was a hot key of the worker."""
        if signer is None:
            return frozenset()
        if (worker, signer) not in self._hot_keys:
            if not await self._stakes.ever_hot_key_of(worker, signer):
                return frozenset()
            self._hot_keys.add((worker, signer))
        return frozenset({signer})
