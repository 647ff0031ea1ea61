"""What the verifier learns from the chain, kept in its store: claims, and its own games."""

import logging
from collections.abc import Sequence

from efedllm.chain.event_reader import Cursor, Page
from efedllm.chain.events import Claimed
from efedllm.chain.follower import handle
from efedllm.protocol.claims import unpack_entries

from .docket import Docket
from .findings import Claim
from .store import Store

log = logging.getLogger("efedllm.verifier")


class ClaimLedger:
    """Claims go into the store with the cursor behind them, and out when their blocks are replaced."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def cursors(self) -> Sequence[Cursor]:
        return self._store.cursors()

    def enter(self, page: Page) -> None:
        claims: list[Claim] = []
        handle({Claimed: lambda event: claims.append(_claim(event))}, page.events)
        self._store.advance(page.cursor.block, page.cursor.hash, claims)
        for claim in claims:
            log.info("claim %d of %s in block %d", claim.index, claim.worker, claim.block)

    def roll_back(self, block: int) -> None:
        self._store.roll_back(block)


class GameLedger:
    """What the dispute game tells goes into the docket with the cursor behind it, and out again."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket

    def cursors(self) -> Sequence[Cursor]:
        return self._docket.cursors()

    def enter(self, page: Page) -> None:
        self._docket.advance(page.cursor, page.events)

    def roll_back(self, block: int) -> None:
        self._docket.roll_back(block)


def _claim(event: Claimed) -> Claim:
    origin = event.origin
    return Claim(
        event.worker, event.claim_index, origin.block_number, origin.transaction_hash, unpack_entries(event.entries)
    )
