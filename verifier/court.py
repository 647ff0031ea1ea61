"""The dispute game as one account plays it: what the newest block says, and sending."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from efedllm.chain.answers import Block
from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.dispute_game import DisputeGame, Fault
from efedllm.chain.errors import Reverted
from efedllm.chain.event_reader import Cursor, EventReader
from efedllm.chain.origin import Event
from efedllm.chain.transactions import Receipt, Sender
from efedllm.protocol.game import Game

MOST_APPROVED = (1 << 96) - 1
"""No amount on the chain is larger."""


@dataclass(frozen=True)
class Money:
    """Where the money for a receipt stands. `open_until`: when it can no longer be disputed, 0 if there is no claim."""

    open_until: int
    is_refundable: bool


class Court(Protocol):
    """What a challenger asks of the chain, at its newest block. Methods raise ChainError."""

    address: str
    """Who opens games: moves and bonds are this account's."""
    calls: DisputeGame
    """Makes the calls to send."""

    async def block(self) -> Block: ...
    async def game(self, game_id: int) -> Game | None: ...
    async def fault(self, worker: str, request_id: bytes) -> Fault: ...
    async def shares(self, worker: str, request_id: bytes) -> int: ...
    async def money(self, worker: str, claim: int, entry: int, receipt_digest: bytes) -> Money: ...
    async def bond(self, worker: str) -> int: ...
    async def demand_fee(self) -> int: ...
    async def balance(self) -> int: ...
    async def approve(self, amount: int) -> None: ...
    async def news(self, behind: Cursor | None) -> Sequence[Event]: ...
    async def send(self, call: Call) -> Receipt: ...
    async def gas(self, transaction_hash: bytes) -> int: ...


class ChainCourt:
    """On a real chain. The account holds the float that bonds are paid from."""

    def __init__(self, chain: Chain, game: DisputeGame, sender: Sender) -> None:
        self._chain, self.calls, self._sender = chain, game, sender
        self.address = sender.address
        # The newest blocks without waiting for others to stand on them: deadlines run.
        self._reader = EventReader(chain.rpc, {"DisputeGame": game.address}, chain.deployment.deploy_block, 0)

    async def block(self) -> Block:
        return await self._chain.rpc.block("latest")

    async def game(self, game_id: int) -> Game | None:
        """None once its place was given to another, or where its block was replaced."""
        try:
            return await self.calls.game_of(game_id)
        except Reverted as error:
            if error.name != "NoSuchGame":
                raise
            return None

    async def fault(self, worker: str, request_id: bytes) -> Fault:
        return await self.calls.fault_of(worker, request_id)

    async def shares(self, worker: str, request_id: bytes) -> int:
        return await self.calls.shares_of(worker, request_id, self.address)

    async def money(self, worker: str, claim: int, entry: int, receipt_digest: bytes) -> Money:
        forced = await self.calls.forced_until(receipt_digest)
        found = await self._chain.channels.claim_of(worker, claim)
        if not found.amount:
            return Money(forced, False)
        *_, refunded = await self.calls.part_of(worker, claim, entry, receipt_digest)
        window = self._chain.deployment.parameters.challenge_window_seconds
        return Money(max(forced, found.claimed_at + window), not refunded)

    async def bond(self, worker: str) -> int:
        return await self.calls.bond_for(worker)

    async def demand_fee(self) -> int:
        return await self.calls.number("demandFee")

    async def balance(self) -> int:
        return await self._chain.token.balance_of(self.address)

    async def approve(self, amount: int) -> None:
        """Lets the game take at least so much; it has no way to take more than a bond or a fee that one asks for."""
        token, game = self._chain.token, self.calls.address
        if await token.allowance(self.address, game) < amount:
            await self._sender.send(token.approve(game, MOST_APPROVED))

    async def news(self, behind: Cursor | None) -> Sequence[Event]:
        """Events of blocks that are not confirmed yet, in order. Raises Reorganised if the cursor's block is gone."""
        return [event async for page in self._reader.read(behind) for event in page.events]

    async def send(self, call: Call) -> Receipt:
        return await self._sender.send(call)

    async def gas(self, transaction_hash: bytes) -> int:
        """That a transaction used; 0 where the node does not know it any more."""
        mined = await self._chain.rpc.receipt(transaction_hash)
        return 0 if mined is None else mined.gas_used
