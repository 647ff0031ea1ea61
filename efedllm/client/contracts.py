"""The client's view of the chain, bound to the contracts of a deployment."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from eth_account.signers.local import LocalAccount

from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding
from efedllm.chain.errors import Reorganised, Reverted
from efedllm.chain.event_reader import Cursor, EventReader, Page
from efedllm.chain.events import ChannelClosed, ChannelFunded, ModelRegistered
from efedllm.chain.participants import Offer, find_offers
from efedllm.client.errors import FundingError, ModelError
from efedllm.client.network import ChannelState, History, Token, Top
from efedllm.protocol.eip712 import Domain
from efedllm.protocol.model_spec import ModelSpec

UNLIMITED = (1 << 256) - 1
CONFIRMATION_SECONDS = 600
POLL_SECONDS = 0.5


class ContractNetwork:
    """`Network` of one payer. `unlock` gives the payer's key; it is asked for only when money is moved."""

    def __init__(self, chain: Chain, payer: str, unlock: Callable[[], Awaitable[LocalAccount]]) -> None:
        self._chain, self._payer, self._unlock = chain, payer, unlock
        self._specs: dict[bytes, ModelSpec] = {}
        self._past: dict[str, _Past] = {}

    @property
    def domain(self) -> Domain:
        return self._chain.deployment.domain

    @property
    def payer(self) -> str:
        return self._payer

    @property
    def token(self) -> Token:
        return Token(self._chain.deployment.token_symbol, self._chain.deployment.token_decimals)

    @property
    def credit_tokens(self) -> int:
        return self._chain.deployment.parameters.credit_tokens

    async def offers(self) -> Sequence[Offer]:
        return await find_offers(self._chain)

    async def spec(self, model_id: bytes) -> ModelSpec:
        if model_id not in self._specs:
            try:
                self._specs[model_id] = await self._chain.models.spec_of(model_id)
            except Reverted as error:
                raise ModelError(
                    f"no model 0x{model_id.hex()} is registered here: `efedllm status` lists those that are"
                ) from error
        return self._specs[model_id]

    async def model_names(self) -> dict[bytes, str]:
        deployment = self._chain.deployment
        wanted = {"ModelRegistry": deployment.contracts.model_registry}
        reader = EventReader(self._chain.rpc, wanted, deployment.deploy_block, confirmations=0)
        names: dict[bytes, str] = {}
        async for page in reader.read():
            names |= {event.model_id: event.name for event in page.events if isinstance(event, ModelRegistered)}
        return names

    async def hot_key(self, worker: str) -> str:
        return await self._chain.stakes.hot_key_of(worker)

    async def channel(self, worker: str, session_key: str) -> ChannelState:
        """Two views of one moment: what came in counts once it is confirmed, what takes money out counts at once."""
        confirmed_block = await self._chain.confirmed_block()
        read = self._chain.channels.channel_of
        confirmed, latest = await asyncio.gather(
            read(self._payer, worker, session_key, confirmed_block), read(self._payer, worker, session_key)
        )
        deposit = min(confirmed.deposit, latest.deposit) if confirmed.epoch == latest.epoch else 0
        return ChannelState(
            deposit,
            latest.claimed,
            latest.closing_at != 0,
            latest.epoch,
            latest.deposit - deposit,
            latest.closing_at,
        )

    async def balance(self) -> int:
        return await self._chain.token.balance_of(self._payer)

    async def fund(self, session_key: str, tops: Sequence[Top]) -> None:
        chain, channels = self._chain, self._chain.channels
        with chain.sender(await self._unlock()) as sender:
            if await chain.token.allowance(self._payer, channels.address) < sum(top.amount for top in tops):
                # Once for all: the contract is immutable and takes only what its caller puts into channels.
                await sender.send(chain.token.approve(channels.address, UNLIMITED))
            call = channels.fund(session_key, [Funding(top.worker, top.amount) for top in tops])
            receipt = await sender.send(call)
        await self._confirmation_of(receipt.block_number)

    async def confirmation(self) -> None:
        await self._confirmation_of(await self._chain.rpc.block_number())

    async def _confirmation_of(self, block: int) -> None:
        until = time.monotonic() + CONFIRMATION_SECONDS
        while await self._chain.confirmed_block() < block:
            if time.monotonic() > until:
                reason = f"the deposit in block {block} is not confirmed after {CONFIRMATION_SECONDS} s"
                raise FundingError(f"{reason}: ask again later")
            await asyncio.sleep(POLL_SECONDS)

    async def history(self, session_key: str) -> History:
        deployment = self._chain.deployment
        wanted = {"Channels": deployment.contracts.channels}
        reader = EventReader(self._chain.rpc, wanted, deployment.deploy_block, confirmations=0)
        if session_key not in self._past:
            self._past[session_key] = _Past()
        past = self._past[session_key]
        try:
            async for page in reader.read(past.cursor):
                past.add(page, self._payer, session_key)
        except Reorganised:  # the newest blocks were others
            self._past.pop(session_key)
            return await self.history(session_key)
        return History(tuple(past.workers), past.outlay)

    async def close(self, session_key: str, workers: Sequence[str]) -> None:
        with self._chain.sender(await self._unlock()) as sender:
            await sender.send(self._chain.channels.request_close(session_key, workers))

    async def finish(self, session_key: str, workers: Sequence[str]) -> int:
        with self._chain.sender(await self._unlock()) as sender:
            receipt = await sender.send(self._chain.channels.finish_close(session_key, workers))
        return sum(event.refund for event in receipt.events if isinstance(event, ChannelClosed))

    async def now(self) -> int:
        return (await self._chain.rpc.block()).timestamp


class _Past:
    """What events told so far."""

    def __init__(self) -> None:
        self.cursor: Cursor | None = None
        self.workers: dict[str, None] = {}
        self.outlay = 0

    def add(self, page: Page, payer: str, session_key: str) -> None:
        for event in page.events:
            match event:
                case ChannelFunded() if (event.payer, event.session_key) == (payer, session_key):
                    self.workers[event.worker] = None
                    self.outlay += event.amount
                case ChannelClosed() if (event.payer, event.session_key) == (payer, session_key):
                    self.outlay -= event.refund
        self.cursor = page.cursor
