"""What receipts must say about shown tokens, against the checks of the protocol and from scratch."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.client.errors import Violation
from efedllm.client.shown import Counts, Roots, Shown, after, next_due
from efedllm.protocol.merkle import token_leaf, tree_root
from efedllm.protocol.messages import Token
from efedllm.protocol.pricing import is_due
from tests.protocol.test_requests import REQUEST, hops

ID = bytes(32)


def shown(prompt: list[int], tokens: list[int], max_tokens: int = 1000) -> Shown:
    request = replace(REQUEST, path=hops(0, 4), promptCount=len(prompt), maxTokens=max_tokens, stopIds=(99,))
    made = Shown(request, prompt, 100)
    for at, token in enumerate(tokens):
        made.add(Token(ID, len(prompt) + at, token, ""))
    return made


@given(st.integers(1, 300), st.integers(0, 60))
def test_next_due_walks_exactly_the_due_counts(prompt: int, generated: int) -> None:
    every = [Counts(at, 0) for at in range(1, prompt)] + [after(prompt, at) for at in range(1, generated + 1)]
    due = [counts for counts in every if is_due(prompt, counts.positions, counts.generated)]
    walked, at = [], Counts(0, 0)
    while (at := next_due(prompt, at)).positions <= (every[-1].positions if every else 0):
        walked.append(at)
    assert walked == due


@given(st.lists(st.integers(0, 98), min_size=1, max_size=150), st.lists(st.integers(0, 98), max_size=40), st.data())
def test_roots_at_any_count(prompt: list[int], tokens: list[int], data: st.DataObject) -> None:
    made = shown(prompt, tokens)
    every = [Counts(at, 0) for at in range(1, len(prompt))] + [after(len(prompt), at + 1) for at in range(len(tokens))]
    if not every:
        return
    counts = data.draw(st.sampled_from(every))
    leaves = [token_leaf(token) for token in prompt + tokens[: counts.generated]]
    assert made.has(counts)
    assert made.roots(counts) == Roots(
        tree_root(leaves), tree_root(leaves[: counts.positions]), tree_root(leaves[len(prompt) :])
    )


def test_roots_at_due_counts_cost_no_rehash(monkeypatch: pytest.MonkeyPatch) -> None:
    made = shown([1] * 200, [2] * 100)
    hashed = 0

    def count(token: int) -> bytes:
        nonlocal hashed
        hashed += 1
        return token_leaf(token)

    monkeypatch.setattr("efedllm.client.shown.token_leaf", count)
    for at in range(100, 120):
        made.add(Token(ID, 200 + at, 2, ""))
        counts = after(200, at + 1)
        if is_due(200, counts.positions, counts.generated):
            made.roots(counts)
    assert hashed <= 40


def test_end() -> None:
    made = shown([1, 2, 3], [4, 5], max_tokens=3)
    assert made.final is None
    assert not made.has(after(3, 3))
    made.add(Token(ID, 5, 6, "length"))
    assert made.final == Counts(5, 3)
    assert (made.tokens, made.reason) == ([4, 5, 6], "length")


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (Token(ID, 4, 1, ""), "where 5 was due"),
        (Token(ID, 6, 1, ""), "where 5 was due"),
        (Token(ID, 5, 100, ""), "outside the vocabulary"),
        (Token(ID, 5, 99, ""), "gave the reason ''"),
        (Token(ID, 5, 99, "length"), "gave the reason 'length'"),
        (Token(ID, 5, 1, "stop"), "gave the reason 'stop'"),
        (Token(ID, 5, 1, "tired"), "gave the reason 'tired'"),
    ],
)
def test_tokens_that_cannot_be(token: Token, message: str) -> None:
    made = shown([1, 2, 3], [4, 5])
    with pytest.raises(Violation, match=message):
        made.add(token)
    assert made.tokens == [4, 5]


def test_nothing_after_the_end_or_beyond_the_limit() -> None:
    made = shown([1], [], max_tokens=2)
    made.add(Token(ID, 1, 5, ""))
    with pytest.raises(Violation, match="goes on after all 2 tokens"):
        made.add(Token(ID, 2, 5, ""))
    made.add(Token(ID, 2, 99, "stop"))
    with pytest.raises(Violation, match="after the last one"):
        made.add(Token(ID, 3, 5, ""))
