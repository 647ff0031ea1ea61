"""A game as the contract has it: `IDisputeGame.Game` with its phases and sides, and what is shown to it."""

from dataclasses import dataclass
from enum import IntEnum

from efedllm.protocol.objects import Receipt, Request

TOKENS_PER_CHUNK = 1024
"""Token ids that one demand asks for."""
ROW_SHIFT = 24
"""In a row, `Game.path` is `slot << ROW_SHIFT` and the number of the node in the row's tree."""


class Side(IntEnum):
    """Which of the three trees of the game root the worker is led down."""

    NONE = 0
    INPUT = 1
    BODY = 2
    OUTPUT = 3


class Phase(IntEnum):
    """Whose turn it is, and for what."""

    NONE = 0
    TRACE = 1
    SIDE = 2
    REVEAL = 3
    PICK = 4
    LEAF = 5
    PROOF = 6
    LOST = 7
    DEMAND = 8
    ANSWERED = 9
    WORKER_WON = 10
    CHALLENGER_WON = 11


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


@dataclass(frozen=True)
class Paper:
    """A signed receipt and its request. The signature is only looked at where a paper is first shown."""

    request: Request
    receipt: Receipt
    signature: bytes = b""
