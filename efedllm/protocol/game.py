"""A game as the contract has it (`IDisputeGame.Game`), and the paper that is shown to it."""

from dataclasses import dataclass
from enum import IntEnum

from efedllm.protocol.descent import Phase, Side, Spot
from efedllm.protocol.objects import Receipt, Request

TOKENS_PER_CHUNK = 1024
"""Token ids that one demand asks for."""

WORKER_MOVES = frozenset({Phase.TRACE, Phase.REVEAL, Phase.LEAF, Phase.DEMAND})
CHALLENGER_MOVES = frozenset({Phase.SIDE, Phase.PICK, Phase.PROOF})
OVER = frozenset({Phase.NONE, Phase.WORKER_WON, Phase.CHALLENGER_WON})
"""NONE: there is no such game (any more)."""


class TokenFault(IntEnum):
    """Against what a token that was led to is held."""

    VOCABULARY = 0
    TOKEN_ROOT = 1
    PROMPT = 2
    SAMPLE = 3


@dataclass(frozen=True)
class Game:
    """Amounts in base units, times in unix seconds; fields as in the contract."""

    worker: str
    challenger: str
    receipt_digest: bytes
    phase: Phase
    side: Side
    deadline: int
    bond: int
    holds: bool
    claim_index: int
    entry: int
    body_root: bytes
    node: bytes
    height: int
    in_row: bool
    path: int
    chunk: int

    @property
    def spot(self) -> Spot:
        """Where its descent is."""
        return Spot(self.side, self.height, self.path, self.in_row)


@dataclass(frozen=True)
class Paper:
    """A signed receipt and its request. The signature is only looked at where a paper is first shown."""

    request: Request
    receipt: Receipt
    signature: bytes = b""
