"""Paying: the channels of one session key, and the money in them."""

import asyncio
from collections.abc import Sequence

from efedllm.client.channel import Channel
from efedllm.client.errors import WorkerFailed
from efedllm.client.funding import Need, plan
from efedllm.client.network import Network
from efedllm.client.routing import Route, cost_of
from efedllm.client.store import Store
from efedllm.protocol import eip712
from efedllm.storage.witness import Witness

CLOSING = "closing"


class Payments:
    """All channels of one payer and session key."""

    def __init__(
        self,
        network: Network,
        store: Store,
        witness: Witness,
        signer: eip712.Signer,
        deposit: int | None = None,
        budget: int | None = None,
    ) -> None:
        """`deposit`: base units for a channel that has to be filled; `budget`: the most ever put into channels here."""
        self.signer = signer
        self._network, self._store, self._witness = network, store, witness
        self._deposit, self._budget = deposit, budget
        self._channels: dict[str, Channel] = {}
        self._funding = asyncio.Lock()

    def channel(self, worker: str) -> Channel:
        if worker not in self._channels:
            network = self._network
            self._channels[worker] = Channel(
                self._store, self._witness, self.signer, network.domain, network.payer, worker
            )
        return self._channels[worker]

    async def prepare(self, request_id: bytes, route: Route, prompt_count: int, max_tokens: int) -> int:
        """See to it that every channel of the route carries the request, with at most one transaction.

        Reserves what the request can cost until `release`. Returns what was deposited. Raises FundingError, ChainError.
        """
        session_key = str(self.signer.address)
        async with self._funding:
            channels = [self.channel(offer.worker) for offer in route.offers]
            await self._refresh(channels)
            needs = [
                Need(offer.worker, cost_of(offer, prompt_count, max_tokens), channel.free())
                for offer, channel in zip(route.offers, channels, strict=True)
            ]
            added = 0
            if any(need.free < need.ceiling for need in needs):
                balance = await self._network.balance()
                budget = balance if self._budget is None else min(balance, self._budget)
                tops = plan(needs, self._deposit, budget, self._network.token.symbol)
                await self._network.fund(session_key, tops)
                added = sum(top.amount for top in tops)
                if self._budget is not None:
                    self._budget -= added
                await self._refresh(channels)
            for need, channel in zip(needs, channels, strict=True):
                channel.reserve(request_id, need.ceiling)
            return added

    def release(self, request_id: bytes) -> None:
        for channel in self._channels.values():
            channel.release(request_id)

    async def _refresh(self, channels: Sequence[Channel]) -> None:
        session_key = str(self.signer.address)
        states = await asyncio.gather(*(self._network.channel(channel.worker, session_key) for channel in channels))
        for channel, state in zip(channels, states, strict=True):
            if state.closing:
                raise WorkerFailed(
                    channel.worker,
                    CLOSING,
                    "the channel with it is closing: end it with `efedllm channel close`, then ask again",
                )
            channel.update(state)
