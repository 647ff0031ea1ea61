"""A deployment on a chain: the one object through which programs read and write contracts."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from eth_account.signers.local import LocalAccount

from efedllm.chain.beacon import Beacon
from efedllm.chain.channels import Channels
from efedllm.chain.deployment import Deployment, find_deployment
from efedllm.chain.dispute_game import DisputeGame
from efedllm.chain.errors import DeploymentError, UnknownBlock, WrongChain
from efedllm.chain.event_reader import EventReader
from efedllm.chain.model_registry import ModelRegistry
from efedllm.chain.rpc import Rpc
from efedllm.chain.stake_registry import StakeRegistry
from efedllm.chain.transactions import Sender, UnlockedAccount
from efedllm.chain.work_token import WorkToken
from efedllm.options import DEFAULT_MAX_GAS_PRICE, DEFAULT_RPC

_CONFIRMED_FOR_SECONDS = 0.25  # how long a confirmed block may be taken for the newest one; blocks take seconds


class Chain:
    """Contracts of one deployment behind one endpoint. Made by `Chain.connect`, ended by `async with` or `close`."""

    def __init__(self, rpc: Rpc, deployment: Deployment, max_fee_wei: int = DEFAULT_MAX_GAS_PRICE) -> None:
        """`max_fee_wei` is the most that its senders offer per gas."""
        self.rpc = rpc
        self.max_fee_wei = max_fee_wei
        self.deployment = deployment
        contracts = deployment.contracts
        self.token = WorkToken(rpc, contracts.token)
        self.models = ModelRegistry(rpc, contracts.model_registry)
        self.stakes = StakeRegistry(rpc, contracts.stake_registry)
        self.channels = Channels(rpc, contracts.channels)
        self.beacon = Beacon(rpc, contracts.beacon)
        self.game = DisputeGame(rpc, contracts.dispute_game) if contracts.has_game else None
        self._confirmed: tuple[float, int] | None = None  # when it was asked for, and the block
        self._senders: dict[str, Sender] = {}

    @classmethod
    async def connect(
        cls,
        url: str = DEFAULT_RPC,
        deployment: Deployment | Path | None = None,
        environ: Mapping[str, str] = os.environ,
        max_fee_wei: int = DEFAULT_MAX_GAS_PRICE,
    ) -> Self:
        """Connect and make sure that the deployment (by default: `find_deployment`) is on this chain.

        Raises ChainUnreachable, WrongChain or another DeploymentError. Once connected, every method that asks the chain
        raises WrongChain if the endpoint comes to serve another one.
        """
        rpc = Rpc(url)
        try:
            identity = await rpc.identity()
            chain_id = identity.chain_id
            if not isinstance(deployment, Deployment):
                deployment = find_deployment(chain_id, deployment, environ)
            if deployment.chain_id != chain_id:
                raise WrongChain(f"the deployment is for chain {deployment.chain_id}, but {url} serves {chain_id}")
            if not await rpc.code(deployment.contracts.channels):
                raise DeploymentError(
                    f"there is no contract at {deployment.contracts.channels} on {url}:"
                    " if the chain was restarted, run `efedllm deploy` again"
                )
        except BaseException:
            await rpc.close()
            raise
        rpc.expect(identity)
        return cls(rpc, deployment, max_fee_wei)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        for sender in self._senders.values():
            sender.close()
        await self.rpc.close()

    async def confirmed_block(self) -> int:
        """The newest block that counts: `confirmations` others stand on it. What money depends on is read at it.

        Raises UnknownBlock while the contracts themselves are not confirmed, ChainUnreachable.
        """
        confirmations = self.deployment.parameters.confirmations
        now = time.monotonic()
        if self._confirmed is not None and confirmations and now < self._confirmed[0] + _CONFIRMED_FOR_SECONDS:
            return self._confirmed[1]
        block = await self.rpc.block_number() - confirmations
        if (missing := self.deployment.deploy_block - block) > 0:
            raise UnknownBlock(f"the contracts are not confirmed yet: wait for {missing} more blocks")
        self._confirmed = now, block
        return block

    def sender(self, account: LocalAccount | UnlockedAccount) -> Sender:
        """Sends transactions of `account`; the same sender for the same account.

        From its first send no other process can use the key, until the sender or this object is closed.
        """
        sender = self._senders.get(account.address)
        if sender is None or sender.account != account:
            sender = self._senders[account.address] = Sender(
                self.rpc,
                self.deployment.chain_id,
                account,
                self.deployment.contracts.names(),
                max_fee_wei=self.max_fee_wei,
                confirmations=self.deployment.parameters.confirmations,
            )
        return sender

    def events(self, *contracts: str) -> EventReader:
        """Events of these contracts (names from abi.CONTRACTS; default: all but the token, which may be a busy one)."""
        addresses = {name: address for address, name in self.deployment.contracts.names().items()}
        wanted = contracts or [name for name in addresses if name != "WorkToken"]
        return EventReader(
            self.rpc,
            {name: addresses[name] for name in wanted},
            self.deployment.deploy_block,
            self.deployment.parameters.confirmations,
        )
