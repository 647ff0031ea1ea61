"""The worker's view of the chain; answers that strangers could make it ask for often are kept for a moment."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from efedllm.chain.chain import Chain
from efedllm.chain.channels import Channel
from efedllm.chain.errors import ChainError, ChainUnreachable
from efedllm.chain.stake_registry import Role

from .errors import SessionError
from .network import ChannelState

KEEP_SECONDS = 10.0
"""How old an answer about another participant may be: far below the delay of a hot key rotation."""
MAX_KEPT = 4096


@dataclass
class Kept:
    """An answer about another participant; times of the monotonic clock."""

    value: str
    learnt_at: float
    asked_at: float


class ContractNetwork:
    """`Network` of one worker, by its cold address.

    While the chain does not answer, what is known of other participants counts for `blind_seconds`; a question may take
    `chain_seconds`.
    """

    def __init__(
        self,
        chain: Chain,
        worker: str,
        blind_seconds: float,
        chain_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain, self._worker, self._clock = chain, worker, clock
        self._blind_seconds, self._chain_seconds = blind_seconds, chain_seconds
        self._kept: dict[tuple[str, str], Kept] = {}

    async def channel(self, payer: str, session_key: str) -> ChannelState:
        """Two views of one moment: what came in counts once it is confirmed, what takes money out counts at once."""
        confirmed_block = await self._chain.confirmed_block()
        read = self._chain.channels.channel_of
        confirmed, latest = await asyncio.gather(
            read(payer, self._worker, session_key, confirmed_block), read(payer, self._worker, session_key)
        )
        return cautious(confirmed, latest)

    async def hot_key(self, worker: str) -> str:
        return await self._keep("hot", worker, self._chain.stakes.hot_key_of)

    async def was_own_key(self, key: str) -> bool:
        return await self._chain.stakes.ever_hot_key_of(self._worker, key)

    async def endpoint(self, worker: str) -> str:
        url = await self._keep("endpoint", worker, self._endpoint_of)
        if not url:
            raise SessionError("link", f"worker {worker} offers no service: choose another path")
        return url

    async def is_verifier_key(self, verifier: str, key: str) -> bool:
        participant = await self._chain.stakes.participant_of(verifier)
        return participant.role is Role.VERIFIER and await self._chain.stakes.hot_key_of(verifier) == key

    async def _endpoint_of(self, worker: str) -> str:
        return (await self._chain.stakes.service_of(worker)).endpoint

    async def _keep(self, kind: str, worker: str, ask: Callable[[str], Awaitable[str]]) -> str:
        now = self._clock()
        kept = self._kept.get((kind, worker))
        if kept is not None and now < kept.asked_at + KEEP_SECONDS:
            return kept.value
        try:
            async with asyncio.timeout(self._chain_seconds):
                value = await ask(worker)
        except (ChainError, TimeoutError) as error:
            if kept is None or now > kept.learnt_at + self._blind_seconds:
                if isinstance(error, ChainError):
                    raise
                raise ChainUnreachable(self._chain.rpc.url, "no answer in time") from error
            kept.asked_at = now
            return kept.value
        if len(self._kept) >= MAX_KEPT:  # paths that clients sign may name anybody
            self._kept.clear()
        self._kept[kind, worker] = Kept(value, now, now)
        return value


def cautious(confirmed: Channel, latest: Channel) -> ChannelState:
    """The channel with whatever is worse for the worker in the confirmed and in the latest state."""
    deposit = min(confirmed.deposit, latest.deposit) if confirmed.epoch == latest.epoch else 0
    return ChannelState(
        deposit=deposit,
        claimed=latest.claimed,
        closing=bool(latest.closing_at or (confirmed.closing_at and confirmed.epoch == latest.epoch)),
        epoch=latest.epoch,
        unconfirmed=latest.deposit - deposit,
    )
