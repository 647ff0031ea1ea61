"""Paying: the channels of one session key, and the money in them."""

import asyncio
from collections.abc import Callable, Sequence

from efedllm.client.channel import Channel
from efedllm.client.errors import FundingError, WorkerFailed
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
        """`deposit`: base units for a channel that has to be filled; `budget`: the most that may ever be in channels of
        this session key, or be paid from them: what came back from closed ones can be spent again."""
        self.signer = signer
        self.funding = asyncio.Lock()
        """Held while it is decided what goes into which channel, until it is there."""
        self._network, self._store, self._witness = network, store, witness
        self._deposit, self._budget = deposit, budget
        self._channels: dict[str, Channel] = {}
        self._changed = asyncio.Event()

    def channel(self, worker: str) -> Channel:
        if worker not in self._channels:
            network = self._network
            self._channels[worker] = Channel(
                self._store, self._witness, self.signer, network.domain, network.payer, worker, self._changed
            )
        return self._channels[worker]

    async def enter(self, route: Route) -> Callable[[], None]:
        """Wait until every channel of the route has a place for one more request, and take them all at once. The
        result gives them back."""
        channels = [self.channel(offer.worker) for offer in route.offers]
        while not all(channel.has_place for channel in channels):
            self._changed.clear()
            await self._changed.wait()
        request = object()
        for channel in channels:
            channel.enter(request)

        def leave() -> None:
            for channel in channels:
                channel.leave(request)

        return leave

    async def prepare(self, request_id: bytes, route: Route, prompt_count: int, max_tokens: int) -> int:
        """See to it that every channel of the route carries the request, with at most one transaction.

        Reserves what the request can cost until `release`, which is due also where this raises. Returns what was
        deposited. Raises FundingError, ChainError, and WorkerFailed for a channel that is closing.
        """
        channels = [self.channel(offer.worker) for offer in route.offers]
        needs = await self._needs(channels, route, prompt_count, max_tokens)
        if all(need.free >= need.ceiling for need in needs):
            # Whoever needs no money does not wait for the transactions of those that do.
            _reserve(request_id, channels, needs)
            return 0
        async with self.funding:
            needs = await self._needs(channels, route, prompt_count, max_tokens)
            waits = any(channel.state.unconfirmed for channel in channels)
            if waits and any(need.free < need.ceiling for need in needs):
                await self._network.confirmation()  # of money that is on its way already
                needs = await self._needs(channels, route, prompt_count, max_tokens)
            _reserve(request_id, channels, needs)  # before anything is awaited: what is free now is counted on
            added = 0
            if missing := sum(max(need.ceiling - need.free, 0) for need in needs):
                tops = plan(needs, self._deposit, await self._affordable(missing), self._network.token.symbol)
                await self._network.fund(str(self.signer.address), tops)
                added = sum(top.amount for top in tops)
                await self.refresh(channels)
            return added

    def release(self, request_id: bytes) -> None:
        for channel in self._channels.values():
            channel.release(request_id)

    async def can_spend(self) -> int:
        """Base units that balance and budget allow to put into channels now."""
        balance = await self._network.balance()
        return balance if self._budget is None else min(balance, max(await self._budget_left(), 0))

    async def refresh(self, channels: Sequence[Channel]) -> None:
        """The channels as the chain has them now."""
        session_key = str(self.signer.address)
        states = await asyncio.gather(*(self._network.channel(channel.worker, session_key) for channel in channels))
        for channel, state in zip(channels, states, strict=True):
            channel.update(state)

    async def _needs(self, channels: Sequence[Channel], route: Route, prompt_count: int, max_tokens: int) -> list[Need]:
        await self.refresh(channels)
        for channel in channels:
            if channel.state.closing:
                raise WorkerFailed(
                    channel.worker,
                    CLOSING,
                    "the channel with it is closing: end it with `efedllm channel close`, then ask again",
                )
        return [
            Need(offer.worker, cost_of(offer, prompt_count, max_tokens), channel.free())
            for offer, channel in zip(route.offers, channels, strict=True)
        ]

    async def _affordable(self, missing: int) -> int:
        """What may be spent on a request that lacks so much. Raises FundingError where the budget is what stops it."""
        balance = await self._network.balance()
        if self._budget is None:
            return balance
        left = max(await self._budget_left(), 0)
        if left < missing <= balance:
            raise FundingError(
                f"the budget of {self._budget} base units has {left} left, and the channels need {missing} for this "
                "request: raise it, or close channels to get back what is left in them"
            )
        return min(balance, left)

    async def _budget_left(self) -> int:
        assert self._budget is not None
        return self._budget - (await self._network.history(str(self.signer.address))).outlay


def _reserve(request_id: bytes, channels: Sequence[Channel], needs: Sequence[Need]) -> None:
    for need, channel in zip(needs, channels, strict=True):
        channel.reserve(request_id, need.ceiling)
