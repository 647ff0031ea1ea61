"""Discovery: who serves which layers of a model, at what price and with what at stake."""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from efedllm.chain.chain import Chain
from efedllm.chain.stake_registry import Participant, Role

_PAGE = 500  # addresses per call
_CONCURRENT_READS = 16  # polite to public endpoints, and enough to hide their latency

T = TypeVar("T")


@dataclass(frozen=True)
class Offer:
    """An active worker's service: layers `[start, end)` at base units per token, backed by `stake` base units."""

    worker: str
    hot_key: str
    model_id: bytes
    endpoint: str
    start: int
    end: int
    prompt_price: int
    token_price: int
    stake: int


async def find_participants(chain: Chain, block: int | None = None) -> dict[str, Participant]:
    """All that ever registered, by cold address, in order of registration; as of one block (None: the latest)."""
    at = await chain.rpc.block_number() if block is None else block
    count = await chain.stakes.participant_count(at)
    pages = await gather_some(
        chain.stakes.participants(first, min(first + _PAGE, count), at) for first in range(0, count, _PAGE)
    )
    addresses = [address for page in pages for address in page]
    states = await gather_some(chain.stakes.participant_of(address, at) for address in addresses)
    return dict(zip(addresses, states, strict=True))


async def find_offers(chain: Chain, model_id: bytes | None = None, block: int | None = None) -> tuple[Offer, ...]:
    """What active workers offer for `model_id` (None: for any model), in order of registration, as of one block."""
    at = await chain.rpc.block_number() if block is None else block
    participants = await find_participants(chain, at)
    workers = [address for address, state in participants.items() if state.role is Role.WORKER and not state.jailed]
    offers = await gather_some(_offer(chain, worker, participants[worker], at) for worker in workers)
    return tuple(offer for offer in offers if offer is not None and model_id in (None, offer.model_id))


def uncovered(offers: Iterable[Offer], layers: int) -> list[tuple[int, int]]:
    """Half-open ranges of layers of one model that none of its offers serves."""
    gaps, reached = [], 0
    for offer in sorted(offers, key=lambda offer: offer.start):
        if offer.start > reached:
            gaps.append((reached, offer.start))
        reached = max(reached, offer.end)
    if reached < layers:
        gaps.append((reached, layers))
    return gaps


async def gather_some(reads: Iterable[Awaitable[T]]) -> list[T]:
    """Results in order, with a bounded number of reads under way at once."""
    slots = asyncio.Semaphore(_CONCURRENT_READS)

    async def read(one: Awaitable[T]) -> T:
        async with slots:
            return await one

    return list(await asyncio.gather(*(read(one) for one in reads)))


async def _offer(chain: Chain, worker: str, state: Participant, block: int) -> Offer | None:
    if not await chain.stakes.is_active_worker(worker, block):
        return None
    service = await chain.stakes.service_of(worker, block)
    if service.end == 0:
        return None
    return Offer(
        worker=worker,
        hot_key=state.hot_key,
        model_id=service.model_id,
        endpoint=service.endpoint,
        start=service.start,
        end=service.end,
        prompt_price=service.prompt_price,
        token_price=service.token_price,
        stake=state.stake,
    )
