"""Paying later what requests that did not complete left unpaid, so that their channel goes on.

A worker that delivered and was not paid serves the channel no further. That happens to honest clients: killed, cut off,
or stopped by another worker of the path before everybody was paid. The client then asks the worker for its record of
such a request, and pays the last receipt that can be right. At most one credit window is paid like that before a
request with this worker completes again, and nothing to a worker that was caught. Where a request broke off, what this
client did not see of it is the worker's word: that is one window in all, less what completed requests win back.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import aiohttp

from efedllm.chain.participants import Offer
from efedllm.client.checking import Approved, Party
from efedllm.client.desk import WorkerDesk
from efedllm.client.errors import ClientError, WorkerFailed
from efedllm.client.network import Network
from efedllm.client.payments import Payments
from efedllm.client.peer import SILENT
from efedllm.client.records import Unanswered, fetch_record
from efedllm.client.store import KeptVoucher, PastRequest, SentVoucher, Store
from efedllm.errors import EfedllmError
from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.objects import Hop, Receipt
from efedllm.protocol.pricing import fee_of, window_of
from efedllm.protocol.receipts import check_link, check_shape, check_tokens
from efedllm.protocol.records import Record

log = logging.getLogger("efedllm.client")

CREDIT = "credit"
"""How a worker refuses a channel that left too much unpaid."""
MAX_RECORDS = 16
"""Records that are asked for at a time, those of the latest requests."""
PATIENCE_SECONDS = 60.0
_NOTHING_THERE = (403, 404)
_KEPT_BYTES = 1 << 20
_POSITION_BYTES = 512
"""Of a record per position, besides a row: tokens and receipts."""


class Unpayable(ClientError):
    """What a worker shows is not owed."""


@dataclass(frozen=True)
class Owing:
    """What this side knows of a request that did not complete."""

    request_id: bytes
    past: PastRequest
    accused: frozenset[str]
    """Workers whose fault it was."""

    @property
    def seen(self) -> list[int] | None:
        """The tokens that were shown; None where that is not known, or a liar showed them."""
        request = self.past.request
        is_known = self.past.state != "open" and request.path[-1].worker not in self.accused
        return self.past.generated if is_known else None

    def unseen(self, hop: Hop, fee: int, covered: int) -> int:
        """What of a fee, beyond `covered`, is for work of which nothing was seen, in a request that broke off. A client
        that was killed did that by itself, and takes nobody's word for it."""
        if self.past.state == "open":
            return 0
        shown, prompt_count = len(self.seen or ()), self.past.request.promptCount
        known = fee_of(hop, prompt_count, prompt_count + shown - 1, shown) if shown else 0
        return max(fee - max(known, covered), 0)


def payable(
    domain: eip712.Domain,
    owing: Owing,
    party: Party,
    upstream_key: str,
    record: Record,
    covered: int,
    allowance: int,
    unseen: int,
) -> Approved | None:
    """The latest receipt in a worker's record that may be paid, where `covered` base units of this request are paid
    already and `allowance` more may be, `unseen` of them for work that was not seen; None if nothing is owed. Pure.

    `upstream_key` is the hot key of the worker before. Raises Unpayable for a receipt that is not right.
    """
    request, worker = owing.past.request, party.worker
    shard = next(at for at, hop in enumerate(request.path) if hop.worker == worker)
    # The last worker shows the tokens: what it did not show was not delivered. The others cannot know what was shown.
    shown = owing.seen if shard == len(request.path) - 1 else None
    owed = [
        (receipt, signature)
        for receipt, signature in record.receipts
        if covered < receipt.fee <= covered + allowance
        and owing.unseen(request.path[shard], receipt.fee, covered) <= unseen
        and (shown is None or receipt.generated <= len(shown))
    ]
    if not owed:
        return None
    receipt, signature = max(owed, key=lambda pair: pair[0].fee)
    try:
        check_shape(request, owing.request_id, receipt)
        check_tokens(request, receipt, owing.past.prompt, record.generated)
        _check_seen(owing, record.generated)
        if receipt.shard != shard or receipt.epoch != party.epoch:
            raise Unpayable(f"it is for shard {receipt.shard} and epoch {receipt.epoch}")
        if eip712.recover(domain, receipt, signature) != party.hot_key:
            raise Unpayable("its hot key did not sign it")
        if shard:
            _check_upstream(domain, receipt, record.upstream, upstream_key)
    except (ProtocolError, Unpayable) as error:
        raise Unpayable(f"worker {worker} shows a receipt that is not paid: {error}") from error
    return Approved(shard, receipt, eip712.digest(domain, receipt), signature)


def _check_seen(owing: Owing, generated: Sequence[int]) -> None:
    """The worker's tokens against those that were shown, and those that other receipts were paid for."""
    seen = owing.seen
    if seen is not None and any(told != shown for told, shown in zip(generated, seen, strict=False)):
        raise Unpayable("it speaks of other tokens than were shown")
    past = owing.past
    known = [receipt for receipt, _ in past.receipts if receipt.generated <= len(generated)]
    if known:
        check_tokens(past.request, max(known, key=lambda one: one.positions), past.prompt, list(generated))


def _check_upstream(
    domain: eip712.Domain, receipt: Receipt, upstream: Sequence[tuple[Receipt, bytes]], upstream_key: str
) -> None:
    for before, signature in upstream:
        if before.positions == receipt.positions and eip712.digest(domain, before) == receipt.upstream:
            if eip712.recover(domain, before, signature) != upstream_key:
                raise Unpayable("the worker before it did not sign what it continues")
            check_link(before, receipt.upstream, receipt)
            return
    raise Unpayable("the receipt that it continues is not there")


class Arrears:
    """Of one client. Methods raise what a channel's `settle` and `pay` raise, and WorkerFailed for a worker that takes
    its time."""

    def __init__(self, network: Network, store: Store, payments: Payments, http: aiohttp.ClientSession) -> None:
        self._network, self._store, self._payments, self._http = network, store, payments, http
        self._locks: dict[str, asyncio.Lock] = {}
        self._asked: set[tuple[bytes, str]] = set()

    async def hand_in(self, offer: Offer) -> int:
        """Give the worker the vouchers that it lacks. Returns their base units."""
        async with self._turn(offer.worker):
            return await self._hand_in(offer)

    async def pay(self, offer: Offer, again: bool = True) -> int:
        """Pay what is owed to a worker. Returns the base units that were paid.

        `again`: ask also for requests that were asked for before; the worker may have gone on with them since. A record
        that is not had, or not right, is only logged.
        """
        async with self._turn(offer.worker):
            if self._store.is_accused(offer.worker):
                return 0
            unsettled = await asyncio.to_thread(self._store.unsettled, offer.worker, MAX_RECORDS)
            wanted = [one for one in unsettled if again or (one, offer.worker) not in self._asked]
            if wanted and not self._payments.channel(offer.worker).is_settled:
                await self._hand_in(offer)
            paid = 0
            for request_id in wanted:
                self._asked.add((request_id, offer.worker))
                paid += await self._pay_one(offer, request_id)
            if paid:
                log.info("worker %s: %d base units paid that earlier requests owed", offer.worker, paid)
            return paid

    @asynccontextmanager
    async def _turn(self, worker: str) -> AsyncIterator[None]:
        """One at a time with one worker, and nobody waits for it forever."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._locks.setdefault(worker, asyncio.Lock()):
                yield
        except TimeoutError as error:
            reason = f"what is owed to it could not be put right within {PATIENCE_SECONDS:g} s"
            raise WorkerFailed(worker, SILENT, reason) from error

    async def _hand_in(self, offer: Offer) -> int:
        return await self._payments.channel(offer.worker).settle(WorkerDesk(self._http, offer.worker, offer.endpoint))

    async def _pay_one(self, offer: Offer, request_id: bytes) -> int:
        past = await asyncio.to_thread(self._store.request, request_id)
        assert past is not None
        hop = next(hop for hop in past.request.path if hop.worker == offer.worker)
        channel = self._payments.channel(offer.worker)
        allowance, unseen = self._allowance(offer.worker, hop)
        if allowance <= 0:
            return 0
        try:
            record = await self._record(offer, request_id, past)
        except Unanswered as error:
            log.info("what request %s owes is not known: %s", request_id.hex()[:16], error)
            if error.status in _NOTHING_THERE:
                await asyncio.to_thread(self._store.settle, request_id, offer.worker)
            return 0
        covered = channel.paid(request_id)
        try:
            owing = await self._owing(request_id, past)
            approved = await self._payable(offer.worker, owing, record, covered, allowance, unseen)
        except Unpayable as error:
            log.warning("%s", error)
            await asyncio.to_thread(self._store.settle, request_id, offer.worker)
            return 0
        if approved is None:
            if all(receipt.fee <= covered for receipt, _ in record.receipts) and time.time() > past.request.expiry:
                await asyncio.to_thread(self._store.settle, request_id, offer.worker)
            return 0
        added = approved.receipt.fee - covered
        key = (offer.worker, str(self._payments.signer.address), channel.epoch)
        on_word = owing.unseen(hop, approved.receipt.fee, covered)
        await asyncio.to_thread(self._store.note_arrears, *key, added, on_word)
        await channel.pay(approved, self._deliver_to(offer, approved))
        return added

    def _allowance(self, worker: str, hop: Hop) -> tuple[int, int]:
        """Base units that may be paid now for what did not complete, and how many of them on the worker's word."""
        channel = self._payments.channel(worker)
        word = self._store.word(worker, str(self._payments.signer.address), channel.epoch)
        window = window_of(hop, self._network.credit_tokens)
        return min(window - word.later, channel.free()), window - word.unseen

    async def _owing(self, request_id: bytes, past: PastRequest) -> Owing:
        evidence = await asyncio.to_thread(self._store.evidence, request_id)
        return Owing(request_id, past, frozenset(accused for accused, _, _ in evidence))

    async def _record(self, offer: Offer, request_id: bytes, past: PastRequest) -> Record:
        spec = await self._network.spec(past.request.modelId)
        positions = past.request.promptCount + past.request.maxTokens
        limit = _KEPT_BYTES + positions * (4 * spec.hidden + _POSITION_BYTES)
        network, signer = self._network, self._payments.signer
        return await fetch_record(self._http, network.domain, network.payer, signer, offer.endpoint, request_id, limit)

    async def _payable(
        self, worker: str, owing: Owing, record: Record, covered: int, allowance: int, unseen: int
    ) -> Approved | None:
        network, path = self._network, [hop.worker for hop in owing.past.request.path]
        hot_key, shard = await network.hot_key(worker), path.index(worker)
        upstream_key = await network.hot_key(path[shard - 1]) if shard else ""
        party = Party(worker, hot_key, self._payments.channel(worker).epoch)
        decide = partial(payable, network.domain, owing, party, upstream_key, record)
        return await asyncio.to_thread(decide, covered, allowance, unseen)

    def _deliver_to(self, offer: Offer, approved: Approved) -> Callable[[SentVoucher], Awaitable[int]]:
        async def deliver(sent: SentVoucher) -> int:
            desk = WorkerDesk(self._http, offer.worker, offer.endpoint)
            total = await desk.hand_in([KeptVoucher(sent, approved.receipt, approved.signature)])
            if total is None:
                raise WorkerFailed(offer.worker, "voucher", "it takes no vouchers outside of requests: ask again")
            return total

        return deliver


class PayingUp:
    """One request that is to be opened: what is tried, once each, at workers that refuse it for want of credit."""

    def __init__(self, arrears: Arrears, offers: Sequence[Offer]) -> None:
        self._steps = {offer.worker: [(arrears.hand_in, offer), (arrears.pay, offer)] for offer in offers}

    async def helps(self, refusal: WorkerFailed) -> bool:
        """Whether something changed at the worker, so that it may take the request now."""
        steps = self._steps.get(refusal.worker, []) if refusal.code == CREDIT else []
        while steps:
            step, offer = steps.pop(0)
            try:
                if await step(offer):
                    return True
            except EfedllmError as error:
                log.warning("worker %s lacks credit, and paying it did not work: %s", offer.worker, error)
        return False
