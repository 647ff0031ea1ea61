"""Looks after channels between requests: delivers what workers lack, and does what `upkeep` decides."""

import asyncio
import logging
import time
from dataclasses import dataclass, field

import aiohttp

from efedllm.chain.participants import Offer
from efedllm.client.arrears import Arrears
from efedllm.client.channel import Channel
from efedllm.client.desk import WorkerDesk
from efedllm.client.network import Network, Top
from efedllm.client.payments import Payments
from efedllm.client.store import Store
from efedllm.client.upkeep import Policy, Standing, plan_upkeep
from efedllm.errors import EfedllmError

log = logging.getLogger("efedllm.client")


@dataclass
class Tended:
    """What was done. Base units; `delivered`: value of vouchers that a worker lacked and now holds; `settled`: what was
    paid for requests that did not complete; `problems`: a line each, for what has to wait or needs a person."""

    topped_up: list[Top] = field(default_factory=list)
    closing: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    refund: int = 0
    delivered: dict[str, int] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Tender:
    """Of one client. Problems are logged when they first show, not on every pass."""

    def __init__(
        self,
        network: Network,
        store: Store,
        payments: Payments,
        arrears: Arrears,
        http: aiohttp.ClientSession,
        policy: Policy,
    ) -> None:
        self._network, self._store, self._payments, self._http = network, store, payments, http
        self._arrears, self._policy = arrears, policy
        self._known: set[str] | None = None
        self._told: set[str] = set()

    async def run(self, every_seconds: float) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await self.tend()
            except EfedllmError as error:
                self._tell([str(error)])

    async def tend(self) -> Tended:
        """One pass. Raises ChainError, FundingError, StoreError."""
        done = Tended()
        offers = {offer.worker: offer for offer in await self._network.offers()}
        endpoints = {worker: offer.endpoint for worker, offer in offers.items()}
        channels = await self._channels()
        for channel in channels:
            if channel.state.deposit and channel.committed and not channel.is_settled:
                await self._deliver(channel, endpoints.get(channel.worker), done)
            if channel.worker in offers:
                await self._settle(channel, offers[channel.worker], done)
        async with self._payments.funding:
            await self._act(channels, endpoints, done)
        self._tell(done.problems)
        return done

    async def _channels(self) -> list[Channel]:
        """All that ever were, with their present state."""
        session_key = str(self._payments.signer.address)
        if self._known is None:
            self._known = {*(await self._network.history(session_key)).workers}
        workers = sorted(self._known | {*await asyncio.to_thread(self._store.workers, session_key)})
        channels = [self._payments.channel(worker) for worker in workers]
        await self._payments.refresh(channels)
        for channel in channels:
            if channel.state.deposit or channel.state.unconfirmed:
                await asyncio.to_thread(self._store.note_channel, channel.worker, session_key, channel.epoch)
        return channels

    async def _deliver(self, channel: Channel, endpoint: str | None, done: Tended) -> None:
        if endpoint is None:
            if channel.committed > channel.state.claimed:
                done.problems.append(
                    f"worker {channel.worker} offers no service now: whether it holds its vouchers of "
                    f"{channel.committed} base units will be seen when it is back"
                )
            return
        try:
            lacked = await channel.settle(WorkerDesk(self._http, channel.worker, endpoint))
        except EfedllmError as error:
            done.problems.append(str(error))
        else:
            if lacked:
                done.delivered[channel.worker] = lacked

    async def _settle(self, channel: Channel, offer: Offer, done: Tended) -> None:
        """Pay what earlier requests owe, where none runs; each of them is looked at once."""
        if not channel.state.deposit or channel.state.closing or channel.reserved:
            return
        try:
            if paid := await self._arrears.pay(offer, again=False):
                done.settled[channel.worker] = paid
        except EfedllmError as error:
            done.problems.append(str(error))

    async def _act(self, channels: list[Channel], endpoints: dict[str, str], done: Tended) -> None:
        network, payments = self._network, self._payments
        session_key, now = str(payments.signer.address), await network.now()
        standings = [
            Standing(
                channel.worker,
                channel.state.deposit + channel.state.unconfirmed,
                channel.state.claimed,
                channel.committed,
                channel.reserved,
                channel.state.closing_at,
                self._store.used_at(channel.worker, session_key, channel.epoch) or int(time.time()),
                channel.worker in endpoints,
            )
            for channel in channels
            if channel.state.deposit or channel.state.unconfirmed
        ]
        plan = plan_upkeep(standings, self._policy, await payments.can_spend(), now)
        if plan.short:
            done.problems.append(
                f"channels in use need {plan.short} base units more than the balance or budget allows: raise it, or "
                "close channels that you do not need with `efedllm channel close`"
            )
        if plan.finish:
            done.refund = await network.finish(session_key, plan.finish)
            done.closed = plan.finish
        if plan.close:
            await network.close(session_key, plan.close)
            done.closing = plan.close
        if plan.tops:
            await network.fund(session_key, plan.tops)
            done.topped_up = plan.tops
        if not plan.is_nothing:
            log.info(
                "channels: %d topped up, %d closing, %d closed, %d base units back",
                len(plan.tops), len(plan.close), len(plan.finish), done.refund,
            )  # fmt: skip
            await payments.refresh(channels)

    def _tell(self, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self._told:
                log.warning("%s", problem)
        self._told = {*problems}
