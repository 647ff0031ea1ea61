"""The worker's view of the chain; answers that strangers could make it ask for often are kept for a moment."""

import time
from collections.abc import Awaitable, Callable

from efedllm.chain.chain import Chain
from efedllm.chain.stake_registry import Role

from .errors import SessionError
from .network import ChannelState

KEEP_SECONDS = 10.0
"""How old an answer about another participant may be: far below the delay of a hot key rotation."""


class ContractNetwork:
    """`Network` of one worker, by its cold address."""

    def __init__(self, chain: Chain, worker: str) -> None:
        self._chain, self._worker = chain, worker
        self._kept: dict[tuple[str, str], tuple[float, str]] = {}

    async def channel(self, payer: str, session_key: str) -> ChannelState:
        state = await self._chain.channels.channel_of(payer, self._worker, session_key)
        return ChannelState(state.deposit, state.claimed, state.closing_at != 0, state.epoch)

    async def hot_key(self, worker: str) -> str:
        return await self._keep("hot", worker, self._chain.stakes.hot_key_of)

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
        now = time.monotonic()
        kept = self._kept.get((kind, worker))
        if kept is None or kept[0] < now - KEEP_SECONDS:
            kept = self._kept[kind, worker] = (now, await ask(worker))
        return kept[1]
