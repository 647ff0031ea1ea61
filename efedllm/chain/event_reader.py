"""Reads events block by block: in pages, resumable, only from confirmed blocks, and without ever skipping one.

History is asked for by block numbers, many blocks at once. The newest blocks are asked for one by one and by their
hashes: behind one address there may be nodes that lag, and one that lags answers a question about numbers that it does
not know yet with silence. A page of one block is also one that can be rolled back alone.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from efedllm.chain.answers import Block, Log
from efedllm.chain.errors import ChainError, ChainSlow, ChainUnreachable, Reorganised, UnknownBlock
from efedllm.chain.events import Event, decode_log
from efedllm.chain.rpc import BlockId

PAGE_BLOCKS = 2_000  # public endpoints commonly refuse more
NEAR_BLOCKS = 64
"""How many of the newest confirmed blocks are read one by one: more than any reorganisation that is to be survived."""
_AT_ONCE = 16
_QUICK_BLOCKS = 32

log = logging.getLogger(__name__)


class LogSource(Protocol):
    """What the reader asks of a chain; `Rpc` is one."""

    async def block(self, block: BlockId = "latest") -> Block: ...

    async def logs(self, addresses: Sequence[str], first: int, last: int) -> list[Log]: ...

    async def logs_of(self, addresses: Sequence[str], block: Block) -> list[Log]: ...


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
        near_blocks: int = NEAR_BLOCKS,
    ) -> None:
        self._source = source
        self._names = {address: name for name, address in contracts.items()}
        self.first_block = first_block
        self._confirmations = confirmations
        self._page_blocks = page_blocks
        self._near_blocks = near_blocks

    async def read(self, cursor: Cursor | None = None, last: int | None = None) -> AsyncIterator[Page]:
        """Pages from behind `cursor` (None: the first block) up to block `last`, at most the last confirmed one.

        Raises Reorganised if the cursor's block is no longer part of the chain, ChainUnreachable, UnknownBlock if the
        node lags behind itself (several nodes behind one address do), ChainError.
        """
        newest = (await self._source.block("latest")).number
        head = newest - self._confirmations
        end = head if last is None else min(head, last)
        near = max(self.first_block, head - self._near_blocks + 1)
        size = self._page_blocks
        while (first := self._first_behind(cursor)) < near and first <= end:
            upto = min(first + size - 1, end, near - 1)
            try:
                page_hash, logs = await self._range(first, upto)
            except ChainError as error:
                # Endpoints refuse answers that are too long, each in other words, or take too long to give them: ask
                # for less, down to one block, or to what any endpoint finds in time.
                is_slow = isinstance(error, ChainSlow)
                is_other = isinstance(error, ChainUnreachable | UnknownBlock) and not is_slow
                size = (upto - first + 1) // 2
                if is_other or size < (_QUICK_BLOCKS if is_slow else 1):
                    raise
                continue
            await self._check(cursor)
            cursor = Cursor(upto, page_hash)
            size = min(2 * size, self._page_blocks)
            yield Page(cursor, self._events(logs))
        while (first := self._first_behind(cursor)) <= end:
            for answer in await self._near(range(first, min(first + _AT_ONCE, end + 1))):
                if isinstance(answer, BaseException):
                    raise answer
                block, logs = answer
                if cursor is not None and cursor.block == block.number - 1 and cursor.hash != block.parent:
                    raise Reorganised(cursor.block)
                cursor = Cursor(block.number, block.hash)
                yield Page(cursor, self._events(logs))
        if cursor is not None and cursor.block <= newest:
            await self._check(cursor)

    async def holds(self, cursor: Cursor) -> bool:
        """Whether the cursor's block is still part of the chain. Raises ChainUnreachable, ChainError."""
        try:
            return (await self._source.block(cursor.block)).hash == cursor.hash
        except UnknownBlock:
            return False

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

    def _first_behind(self, cursor: Cursor | None) -> int:
        return self.first_block if cursor is None else cursor.block + 1

    async def _check(self, cursor: Cursor | None) -> None:
        """Asked after a page was read, so that what was read stands on the cursor's block."""
        if cursor is not None and (await self._source.block(cursor.block)).hash != cursor.hash:
            raise Reorganised(cursor.block)

    async def _range(self, first: int, last: int) -> tuple[bytes, list[Log]]:
        """Hash of block `last`, and the logs of a chain that holds it."""
        before = await self._source.block(last)
        while True:
            logs = await self._source.logs(list(self._names), first, last)
            after = await self._source.block(last)
            if before.hash == after.hash:
                return after.hash, logs
            before = after

    async def _near(self, numbers: range) -> list[tuple[Block, list[Log]] | BaseException]:
        """Each block and the logs in it, or why it cannot be had; they may be of different chains."""

        async def one(number: int) -> tuple[Block, list[Log]]:
            block = await self._source.block(number)
            return block, await self._source.logs_of(list(self._names), block)

        return await asyncio.gather(*map(one, numbers), return_exceptions=True)

    def _events(self, logs: list[Log]) -> tuple[Event, ...]:
        decoded = [decode_log(self._names[entry["address"]], entry) for entry in logs]
        return tuple(sorted((event for event in decoded if event is not None), key=lambda event: event.origin))
