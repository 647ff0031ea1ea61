"""Contradictions in what a worker signed, shown by two leaves: `IStatementJudge.TokenEvidence`.

`tokens` are all that the receipt's token root commits to: the prompt and what was generated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from efedllm.protocol.merkle import prove, token_leaf
from efedllm.protocol.objects import Receipt
from efedllm.protocol.values import ZERO_HASH


class TokenStatement(IntEnum):
    """As in the contract: two signed statements about a token that differ, or a token that must not be."""

    PROMPT = 0
    INPUT = 1
    OUTPUT = 2
    VOCABULARY = 3
    STOP_ID = 4


@dataclass(frozen=True)
class TokenEvidence:
    """Fields as in the contract: `leaf` with `siblings` under the token root (STOP_ID: under the output root), `other`
    with `other_siblings` under the prompt's, the input's or the output's root."""

    statement: TokenStatement
    index: int
    token: int = 0
    leaf: bytes = ZERO_HASH
    siblings: tuple[bytes, ...] = ()
    other: bytes = ZERO_HASH
    other_siblings: tuple[bytes, ...] = ()
    salt: bytes = ZERO_HASH


def show_prompt(tokens: Sequence[int], prompt: Sequence[int], salt: bytes) -> TokenEvidence | None:
    """The first token of the prompt that is another one under the token root; None if all are the same."""
    index = next((at for at, token in enumerate(prompt) if tokens[at] != token), None)
    if index is None:
        return None
    return _two(TokenStatement.PROMPT, index, _leaves(tokens), index, _leaves(prompt), salt)


def show_input(tokens: Sequence[int], fed: Sequence[int]) -> TokenEvidence | None:
    """First shard: the first token fed that is another one under the token root; None if all are the same."""
    index = next((at for at, token in enumerate(fed) if tokens[at] != token), None)
    return None if index is None else _two(TokenStatement.INPUT, index, _leaves(tokens), index, _leaves(fed))


def show_output(receipt: Receipt, tokens: Sequence[int], given: Sequence[int]) -> TokenEvidence | None:
    """Last shard: the first token of its output that is another one under the token root; None if all are the same."""
    first = receipt.promptCount
    index = next((at for at, token in enumerate(given) if tokens[first + at] != token), None)
    return None if index is None else _two(TokenStatement.OUTPUT, first + index, _leaves(tokens), index, _leaves(given))


def show_vocabulary(tokens: Sequence[int], index: int) -> TokenEvidence:
    """A token under the token root that is none of the model's."""
    siblings = tuple(prove(_leaves(tokens), index))
    return TokenEvidence(TokenStatement.VOCABULARY, index, tokens[index], siblings=siblings)


def show_stop_id(given: Sequence[int], index: int) -> TokenEvidence:
    """Last shard: a stop id in its output, `given`, behind which it went on."""
    return TokenEvidence(TokenStatement.STOP_ID, index, given[index], siblings=tuple(prove(_leaves(given), index)))


def _two(
    statement: TokenStatement,
    index: int,
    leaves: list[bytes],
    other: int,
    others: list[bytes],
    salt: bytes = ZERO_HASH,
) -> TokenEvidence:
    at = other if statement is TokenStatement.OUTPUT else index
    return TokenEvidence(
        statement,
        at,
        leaf=leaves[index],
        siblings=tuple(prove(leaves, index)),
        other=others[other],
        other_siblings=tuple(prove(others, other)),
        salt=salt,
    )


def _leaves(tokens: Sequence[int]) -> list[bytes]:
    return [token_leaf(token) for token in tokens]
