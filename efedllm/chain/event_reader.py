"""Reads events block by block: in pages, resumable, only from confirmed blocks, and without ever skipping one."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from web3.types import LogReceipt

from efedllm.chain.errors import ChainError, ChainUnreachable, Reorganised, UnknownBlock
from efedllm.chain.events import Event, decode_log
from efedllm.chain.rpc import Block, BlockId

PAGE_BLOCKS = 2_000  # public endpoints commonly refuse more

log = logging.getLogger(__name__)


class LogSource(Protocol):
    """What the reader asks of a chain; `Rpc` is one."""

    async def block(self, block: BlockId = "latest") -> Block: ...

    async def logs(self, addresses: Sequence[str], first: int, last: int) -> list[LogReceipt]: ...


@dataclass(frozen=True)
class Cursor:
    """All blocks up to number `block`, whose hash is `hash`, were read. To be stored with what was learnt from them."""

    block: int
    hash: bytes


@dataclass(frozen=True)
class Page:
    """The events of some confirmed blocks, in order, and the cursor that stands behind them."""

    cursor: Cursor
    events: tuple[Event, ...]


class EventReader:
    """Reads the events of `contracts` (names to addresses) from block `first_block` on.

    A block counts as confirmed when `confirmations` further blocks stand on it.
    """

    def __init__(
        self,
        source: LogSource,
        contracts: Mapping[str, str],
        first_block: int,
        confirmations: int,
        page_blocks: int = PAGE_BLOCKS,
    ) -> None:
        self._source = source
        self._names = {address: name for name, address in contracts.items()}
        self._first_block = first_block
        self._confirmations = confirmations
        self._page_blocks = page_blocks

    async def read(self, cursor: Cursor | None = None, last: int | None = None) -> AsyncIterator[Page]:
        """Pages from behind `cursor` (None: the first block) up to block `last`, at most the last confirmed one.

        Raises Reorganised if the cursor's block is no longer part of the chain, ChainUnreachable, UnknownBlock if the
        node lags behind itself (several nodes behind one address do), ChainError.
        """
        head = (await self._source.block("latest")).number - self._confirmations
        end = head if last is None else min(head, last)
        size = self._page_blocks
        while (first := self._first_block if cursor is None else cursor.block + 1) <= end:
            upto = min(first + size - 1, end)
            try:
                page_hash, logs = await self._logs(first, upto)
            except (ChainUnreachable, UnknownBlock):
                raise
            except ChainError:
                # Endpoints refuse answers that are too long, each in other words: ask for less, down to one block.
                if upto == first:
                    raise
                size = (upto - first + 1) // 2
                continue
            # Checked after reading, so that what was read stands on the cursor's block.
            if cursor is not None and (await self._source.block(cursor.block)).hash != cursor.hash:
                raise Reorganised(cursor.block)
            cursor = Cursor(upto, page_hash)
            size = min(2 * size, self._page_blocks)
            yield Page(cursor, self._events(logs))

    async def follow(self, cursor: Cursor | None = None, poll_seconds: float = 1.0) -> AsyncIterator[Page]:
        """Like `read`, and then page after page as blocks are confirmed. An unreachable chain is waited for."""
        is_down = False
        while True:
            try:
                async for page in self.read(cursor):
                    cursor = page.cursor
                    is_down = False
                    yield page
            except (ChainUnreachable, UnknownBlock) as error:
                log.log(logging.DEBUG if is_down else logging.WARNING, "%s; waiting", error)
                is_down = True
            await asyncio.sleep(poll_seconds)

    async def _logs(self, first: int, last: int) -> tuple[bytes, list[LogReceipt]]:
        """Hash of block `last`, and the logs of a chain that holds it."""
        before = await self._source.block(last)
        while True:
            logs = await self._source.logs(list(self._names), first, last)
            after = await self._source.block(last)
            if before.hash == after.hash:
                return after.hash, logs
            before = after

    def _events(self, logs: list[LogReceipt]) -> tuple[Event, ...]:
        decoded = [decode_log(self._names[entry["address"]], entry) for entry in logs]
        return tuple(sorted((event for event in decoded if event is not None), key=lambda event: event.origin))
