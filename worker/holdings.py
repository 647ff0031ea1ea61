"""What a worker could collect now: its vouchers and claims against the state of the contracts, at one block."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from efedllm.chain.abi import build
from efedllm.chain.batch import read_all, read_some
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Channel, Claim
from efedllm.chain.rpc import Block

from .collecting import SLOTS, Credit, Pending, Situation
from .store import HeldVoucher, Store

DEEP_BLOCKS = 32
"""Vouchers are forgotten this far below the newest block at least, also on chains that confirm sooner: what was claimed
in a block that is replaced has to be claimed again."""

Key = tuple[str, str, int]
"""Payer, session key, epoch."""


def key_of(held: HeldVoucher) -> Key:
    return held.payer, held.session_key, held.voucher.epoch


@dataclass(frozen=True)
class Holdings:
    """A situation, and the vouchers that its credits number."""

    block: int
    situation: Situation
    vouchers: Sequence[HeldVoucher]


class HoldingsReader:
    """Reads anew each time. It only remembers vouchers that can bring nothing any more."""

    def __init__(self, chain: Chain, worker: str, store: Store) -> None:
        self._chain, self._worker, self._store = chain, worker, store
        self._spent: dict[Key, int] = {}  # totals

    async def read(self) -> Holdings:
        """Raises ChainError, StoreError."""
        chain = self._chain
        block = await chain.rpc.block()
        account = await chain.channels.account_of(self._worker, block.number)
        pending = await self._pending(account.next, block.number) if account.pending else []
        held = [one for one in await asyncio.to_thread(self._store.best_vouchers) if not self._is_spent(one)]
        credits = await self._credits(held, block.number)
        situation = Situation(
            credits=credits,
            pending=pending,
            last_claim_at=account.last_claim_at,
            gas_price_wei=await self._gas_price(block),
            # What a block made now would have at least.
            now=max(block.timestamp, int(time.time())),
        )
        return Holdings(block.number, situation, held)

    async def _credits(self, held: Sequence[HeldVoucher], block: int) -> list[Credit]:
        credits, idle = [], []
        for number, (one, state) in enumerate(zip(held, await self._channels(held, block), strict=True)):
            value = _value(one, state)
            if value > 0:
                since = await asyncio.to_thread(self._store.waiting_since, one, state.claimed)
                credits.append(Credit(number, value, state.closing_at, since))
            elif _brings_nothing_more(one, state):
                idle.append(one)
        if idle:
            await self._forget(idle, block)
        return credits

    async def _forget(self, idle: Sequence[HeldVoucher], block: int) -> None:
        """Vouchers that are claimed in full, or of an epoch that ended, once no reorganisation can change that."""
        deployment = self._chain.deployment
        deep = block - max(DEEP_BLOCKS, deployment.parameters.confirmations)
        if deep < deployment.deploy_block:
            return
        for one, state in zip(idle, await self._channels(idle, deep), strict=True):
            if _brings_nothing_more(one, state):
                self._spent[key_of(one)] = one.voucher.total

    def _is_spent(self, held: HeldVoucher) -> bool:
        return held.voucher.total <= self._spent.get(key_of(held), 0)

    async def _channels(self, held: Sequence[HeldVoucher], block: int) -> list[Channel]:
        calls = [("channelOf", (one.payer, self._worker, one.session_key)) for one in held]
        return [build(Channel, state) for (state,) in await read_all(self._chain.channels, block, calls)]

    async def _pending(self, following: int, block: int) -> list[Pending]:
        """The ring's claims with something in them; `following` is the lowest index that the next claim may get."""
        channels, worker = self._chain.channels, self._worker
        wanted = list(range(max(0, following - SLOTS), following))
        amounts: dict[int, int] = {}
        while wanted:
            answers = await read_some(channels, block, [("claimOf", (worker, index)) for index in wanted])
            found = {index: build(Claim, answer[0]) for index, answer in zip(wanted, answers, strict=True) if answer}
            amounts |= {index: claim.amount for index, claim in found.items() if claim.amount}
            # A slot that was passed over since holds an older claim.
            wanted = [index - SLOTS for index in wanted if index not in found and index >= SLOTS]
        calls = [("releasableAt", (worker, index)) for index in amounts]
        times = await read_all(channels, block, calls)
        return [Pending(index, amounts[index], at) for index, (at,) in zip(amounts, times, strict=True)]

    async def _gas_price(self, block: Block) -> int:
        """Wei per gas that a transaction would pay now."""
        rpc = self._chain.rpc
        if block.base_fee_wei is None:
            return await rpc.gas_price()
        return block.base_fee_wei + await rpc.priority_fee()


def _value(held: HeldVoucher, state: Channel) -> int:
    """What a claim would move. A total above the deposit counts up to the deposit; another epoch's counts nothing."""
    if held.voucher.epoch != state.epoch:
        return 0
    return max(0, min(held.voucher.total, state.deposit) - state.claimed)


def _brings_nothing_more(held: HeldVoucher, state: Channel) -> bool:
    """Unlike a voucher that only waits for the deposit to grow."""
    return state.epoch > held.voucher.epoch or (
        state.epoch == held.voucher.epoch and state.claimed >= held.voucher.total
    )
