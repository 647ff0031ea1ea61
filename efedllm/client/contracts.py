"""The client's view of the chain, bound to the contracts of a deployment."""

from collections.abc import Awaitable, Callable, Sequence

from eth_account.signers.local import LocalAccount

from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding
from efedllm.chain.errors import Reverted
from efedllm.chain.event_reader import EventReader
from efedllm.chain.events import ModelRegistered
from efedllm.chain.participants import Offer, find_offers
from efedllm.client.errors import ModelError
from efedllm.client.network import ChannelState, Token, Top
from efedllm.protocol.eip712 import Domain
from efedllm.protocol.model_spec import ModelSpec

UNLIMITED = (1 << 256) - 1


class ContractNetwork:
    """`Network` of one payer. `unlock` gives the payer's key; it is asked for only when money is moved."""

    def __init__(self, chain: Chain, payer: str, unlock: Callable[[], Awaitable[LocalAccount]]) -> None:
        self._chain, self._payer, self._unlock = chain, payer, unlock
        self._specs: dict[bytes, ModelSpec] = {}

    @property
    def domain(self) -> Domain:
        return self._chain.deployment.domain

    @property
    def payer(self) -> str:
        return self._payer

    @property
    def token(self) -> Token:
        return Token(self._chain.deployment.token_symbol, self._chain.deployment.token_decimals)

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
        state = await self._chain.channels.channel_of(self._payer, worker, session_key)
        return ChannelState(state.deposit, state.claimed, state.closing_at != 0, state.epoch)

    async def balance(self) -> int:
        return await self._chain.token.balance_of(self._payer)

    async def fund(self, session_key: str, tops: Sequence[Top]) -> None:
        chain, channels = self._chain, self._chain.channels
        sender = chain.sender(await self._unlock())
        if await chain.token.allowance(self._payer, channels.address) < sum(top.amount for top in tops):
            # Once for all: the contract is immutable and takes only what its caller puts into channels.
            await sender.send(chain.token.approve(channels.address, UNLIMITED))
        await sender.send(channels.fund(session_key, [Funding(top.worker, top.amount) for top in tops]))
