"""Collects what a worker earned, while it serves: looks, decides (`collecting.py`), sends with the hot key, tells.

Everything is read again for every decision, so crashes, reorganisations and other programs' claims need no repair.
"""

import asyncio
import contextlib
import time
from dataclasses import replace

from efedllm.chain.amounts import format_amount
from efedllm.chain.chain import Chain
from efedllm.chain.channels import VoucherClaim
from efedllm.chain.errors import (
    ChainError,
    ChainUnreachable,
    EarlierTransaction,
    GasTooDear,
    OutOfGasMoney,
    Reverted,
    UnknownBlock,
)
from efedllm.chain.events import Claimed, Released
from efedllm.chain.transactions import Sender
from efedllm.protocol.claims import channel_id, unpack_entries

from .collecting import RESERVE, SLOTS, Claim, Release, Rules, Wait, decide
from .errors import StoreError
from .holdings import Holdings, HoldingsReader, Key, key_of
from .notices import Notices
from .store import Store

LAG_SECONDS = 60.0
"""How long a node may not know yet what was mined from here."""


class Collector:
    """`run` it as a task of the worker program."""

    def __init__(self, chain: Chain, worker: str, store: Store, sender: Sender, rules: Rules, notices: Notices) -> None:
        self._chain, self._worker, self._sender = chain, worker, sender
        self._rules, self._notices = rules, notices
        self._reader = HoldingsReader(chain, worker, store)
        self._acted = (0, 0.0)  # block of the last action, and until when a node may lag behind it
        self._aside: dict[Key, tuple[int, int]] = {}  # totals that a claim left out, and until when they are left alone

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set, and then once more. Cancel it at any time: the next start finds what was left."""
        while True:
            is_last = stop.is_set()
            pause = await self.collect()
            if is_last:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)

    async def collect(self) -> float:
        """Do whatever there is to do. Returns the seconds until it is worth looking again. Never raises: whatever is in
        the way is told to the operator, and tried again."""
        try:
            while True:
                pause = await self._act(await self._reader.read())
                if pause is not None:
                    self._all_well()
                    return pause
        except EarlierTransaction:
            return 1.0
        except OutOfGasMoney as error:
            self._notices.warn("gas money", f"claims wait: {error}")
        except GasTooDear as error:
            self._notices.warn("gas price", f"claims wait: {error}")
        except (ChainUnreachable, UnknownBlock) as error:
            self._notices.warn("chain", f"claims wait, and known channels are served on credit: {error}")
        except (ChainError, StoreError) as error:
            self._notices.warn("claims", f"claims wait: {error}")
        return float(self._rules.look_every)

    def _all_well(self) -> None:
        for kind in ("gas money", "gas price", "chain", "claims"):
            self._notices.over(kind)

    async def _act(self, holdings: Holdings) -> float | None:
        """Perform one decision. Returns the pause until the next look, None for none."""
        now = holdings.situation.now
        if holdings.block < self._acted[0] and time.monotonic() < self._acted[1]:
            return 1.0  # a node that does not know our last transaction: whatever it says is old
        situation = replace(
            holdings.situation,
            credits=[
                credit for credit in holdings.situation.credits if not self._is_aside(holdings, credit.number, now)
            ],
        )
        if SLOTS - len(situation.pending) <= RESERVE:
            self._notices.warn(
                "slots",
                f"{len(situation.pending)} of {SLOTS} claims wait for their release, so that only closing channels are"
                " claimed: a larger stake releases more at a time (`efedllm stake AMOUNT`)",
            )
        else:
            self._notices.over("slots")
        match decide(self._rules, situation):
            case Claim(numbers):
                return await self._claim(holdings, numbers)
            case Release(indices):
                return await self._release(indices)
            case Wait(until):
                return float(max(1, until - now))

    async def _claim(self, holdings: Holdings, numbers: tuple[int, ...]) -> float | None:
        batch = [holdings.vouchers[number] for number in numbers]
        vouchers = [VoucherClaim.of(held.voucher, held.signature) for held in batch]
        try:
            receipt = await self._sender.send(self._chain.channels.claim(self._worker, vouchers))
        except Reverted as error:
            if error.name != "NothingToClaim":
                raise
            moved: set[bytes] = set()
        else:
            self._acted = receipt.block_number, time.monotonic() + LAG_SECONDS
            claims = [event for event in receipt.events if isinstance(event, Claimed)]
            moved = {entry.channel for claim in claims for entry in unpack_entries(claim.entries)}
            for claim in claims:
                self._notices.announce(
                    f"claimed {self._show(claim.amount)} from {len(moved)} channels as claim {claim.claim_index}",
                    {
                        "event": "claimed",
                        "index": claim.claim_index,
                        "amount": str(claim.amount),
                        "channels": len(moved),
                        "gas_wei": str(receipt.fee_wei),
                    },
                )
        # The contract passes over what brings nothing in its own state: another claim was faster, or the node lags.
        later = holdings.situation.now + 10 * self._rules.look_every
        for held in batch:
            if channel_id(held.payer, self._worker, held.session_key) not in moved:
                self._aside[key_of(held)] = held.voucher.total, later
        return None if moved else float(self._rules.look_every)

    async def _release(self, indices: tuple[int, ...]) -> float | None:
        for index in indices:
            try:
                receipt = await self._sender.send(self._chain.channels.release(self._worker, index))
            except Reverted:
                return float(self._rules.look_every)  # anybody may release: somebody was faster, or the stake moved
            self._acted = receipt.block_number, time.monotonic() + LAG_SECONDS
            for event in receipt.events:
                if isinstance(event, Released):
                    amount = event.amount - event.fee
                    self._notices.announce(
                        f"released claim {index}: {self._show(amount)} more to withdraw (`efedllm withdraw earnings`)",
                        {"event": "released", "index": index, "amount": str(amount), "fee": str(event.fee)},
                    )
        return None

    def _is_aside(self, holdings: Holdings, number: int, now: int) -> bool:
        held = holdings.vouchers[number]
        total, until = self._aside.get(key_of(held), (0, 0))
        return held.voucher.total <= total and now < until

    def _show(self, amount: int) -> str:
        deployment = self._chain.deployment
        return f"{format_amount(amount, deployment.token_decimals)} {deployment.token_symbol}"
