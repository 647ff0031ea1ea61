"""Follows a chain through reorganisations: confirmed events go into a ledger of the caller's, and out again.

The ledger keeps, in one transaction each, the events of a page with the cursor behind them. Rolling back is the same
for a reorganisation of one block and of many: the ledger forgets what came of the blocks above the last one that both
chains share, and reading goes on from there. So a program that is killed at any moment goes on where it stood.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from efedllm.chain.errors import Reorganised, UnknownBlock
from efedllm.chain.event_reader import Cursor, EventReader, Page
from efedllm.chain.events import Event

KEPT_CURSORS = 128
"""How many of the newest cursors a ledger should keep; the newest blocks have one each (event_reader.NEAR_BLOCKS)."""

log = logging.getLogger(__name__)

Handlers = Mapping[type[Event], Callable[[Any], None]]
"""What to do with an event, by its class; other events are left alone."""


class Ledger(Protocol):
    """What is learnt from a chain, kept by the caller."""

    def cursors(self) -> Sequence[Cursor]:
        """The cursors kept, newest first; empty before the first page."""
        ...

    def enter(self, page: Page) -> None:
        """Keep a page: its cursor and what came of its events, together or not at all."""
        ...

    def roll_back(self, block: int) -> None:
        """Forget the cursors of blocks above `block` and all that came of such blocks, together or not at all."""
        ...


class Follower:
    """Brings a ledger up to the last confirmed block."""

    def __init__(self, reader: EventReader, ledger: Ledger) -> None:
        self._reader, self._ledger = reader, ledger

    async def catch_up(self) -> int | None:
        """Enter all that is confirmed by now; the block up to which events are entered, None before the first.

        Raises ChainUnreachable, UnknownBlock or another ChainError; what was entered before stays and is right.
        """
        while True:
            cursors = self._ledger.cursors()
            try:
                async for page in self._reader.read(cursors[0] if cursors else None):
                    self._ledger.enter(page)
            except Reorganised as error:
                await self._roll_back(error.block)
                continue
            cursors = self._ledger.cursors()
            return cursors[0].block if cursors else None

    async def _roll_back(self, replaced: int) -> None:
        """Back to the newest block entered that is still part of the chain, or to the beginning."""
        newest, *_ = cursors = self._ledger.cursors()
        for cursor in cursors:
            if await self._reader.holds(cursor):
                ancestor = cursor.block
                break
        else:
            ancestor = self._reader.first_block - 1
        if ancestor == newest.block:
            raise UnknownBlock(f"nodes disagree about the blocks behind {ancestor}: reading again")
        log.warning("block %d was replaced: back to block %d", replaced, ancestor)
        self._ledger.roll_back(ancestor)


def handle(handlers: Handlers, events: Sequence[Event]) -> None:
    """Give each event to its handler, in order."""
    for event in events:
        if (handler := handlers.get(type(event))) is not None:
            handler(event)
