"""Deletes the rows of requests that nothing can be asked about any more (`keeping.py`), some at a time."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from efedllm.chain.abi import build
from efedllm.chain.batch import read_all
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Channel
from efedllm.chain.errors import ChainError
from efedllm.chain.rpc import Block

from .errors import StoreError
from .holdings import DEEP_BLOCKS
from .keeping import Matter, Windows, is_settled, may_go, waits_until
from .kept import Ended
from .store import Store

log = logging.getLogger("efedllm.worker")

EVERY_SECONDS = 600.0


class Sweeper:
    """`run` it as a task of the worker program, where games can be opened."""

    def __init__(self, chain: Chain, worker: str, store: Store, windows: Windows) -> None:
        self._chain, self._worker, self._store, self._windows = chain, worker, store, windows

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; may be cancelled at any time."""
        while not stop.is_set():
            try:
                await self.sweep()
            except (ChainError, StoreError) as error:
                log.warning("nothing is deleted for now: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), EVERY_SECONDS)

    async def sweep(self) -> int:
        """Returns how many requests' rows were deleted. Raises ChainError, StoreError."""
        kept = self._store.kept
        deleted = await asyncio.to_thread(kept.delete)  # what a kill left half done
        deep = await self._deep_block()
        if deep is None:
            return deleted
        before, after = waits_until(self._windows, deep.timestamp), b""
        while ended := await asyncio.to_thread(kept.ended, before, after):
            after = ended[-1].request_id
            settled = await self._settle(ended, deep)
            going = [one.request_id for one in ended if self._may_go(one, settled, deep.timestamp)]
            await asyncio.to_thread(kept.let_go, going)
            deleted += await asyncio.to_thread(kept.delete)
        if deleted:
            log.info("deleted the rows of %d requests that nobody can dispute any more", deleted)
        return deleted

    def _may_go(self, ended: Ended, settled: dict[bytes, int], now: int) -> bool:
        disputed = self._store.games.disputed(ended.request_id)
        at = settled.get(ended.request_id, ended.settled_at)
        return may_go(self._windows, Matter(ended.expiry, ended.last_digest is not None, at, disputed), now)

    async def _settle(self, ended: Sequence[Ended], deep: Block) -> dict[bytes, int]:
        """Those that are settled as of the deep block and were not known to be, with its time."""
        open_ones = [one for one in ended if one.settled_at is None and one.last_digest is not None]
        calls = [("channelOf", (one.payer, self._worker, one.session_key)) for one in open_ones]
        states = [build(Channel, state) for (state,) in await read_all(self._chain.channels, deep.number, calls)]
        found = [
            one.request_id
            for one, state in zip(open_ones, states, strict=True)
            if is_settled(
                one.last_is_paid,
                one.reach,
                state.claimed if state.epoch == one.epoch else 0,
                state.epoch > one.epoch,
            )
        ]
        await asyncio.to_thread(self._store.kept.settle, found, deep.timestamp)
        return dict.fromkeys(found, deep.timestamp)

    async def _deep_block(self) -> Block | None:
        """A block that no reorganisation reaches; None while there is none."""
        deployment = self._chain.deployment
        newest = await self._chain.rpc.block_number()
        deep = newest - max(DEEP_BLOCKS, deployment.parameters.confirmations)
        return await self._chain.rpc.block(deep) if deep >= deployment.deploy_block else None
