"""What shows a draw to the contract, judged by a contract written down in Python."""

from __future__ import annotations

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from efedllm.protocol.claims import Entry
from efedllm.protocol.drawing import BPS, DrawPolicy, draw
from efedllm.protocol.merkle import tree_root
from efedllm.protocol.vouchers import Leaf, keccak_node
from tests.support.draw_judge import is_shown
from verifier.draw_proof import NotDrawn, prove_draw
from verifier.findings import Claim, Draw

WORKER = "0x" + "11" * 20


@st.composite
def books(draw_: st.DrawFn) -> tuple[DrawPolicy, Claim, int, list[Leaf]]:
    """A claim of some entries, one of which pays for the leaves."""
    policy = DrawPolicy(draw_(st.sampled_from([1, 500, 5000, BPS])), draw_(st.sampled_from([0, 1000, 10**6])), 4000)
    ends = sorted(draw_(st.sets(st.integers(1, 4000), min_size=1, max_size=30)))
    leaves = [
        Leaf(bytes([at]) * 32, keccak(bytes([at])), before, after)
        for at, (before, after) in enumerate(zip([0, *ends], ends, strict=False))
    ]
    end = ends[-1]
    start = draw_(st.integers(0, end - 1))
    at, count = draw_(st.integers(0, 11)), draw_(st.integers(1, 12))
    at = min(at, count - 1)
    entries = [Entry(bytes([n]) * 20, n, n + 5, bytes([n]) * 32) for n in range(count)]
    entries[at] = Entry(b"\xcc" * 20, start, end, tree_root([leaf.hash() for leaf in leaves], keccak_node))
    return (
        policy,
        Claim(WORKER, 7, 10, b"\1" * 32, tuple(entries), draw_(st.binary(min_size=32, max_size=32))),
        at,
        leaves,
    )


@given(books())
def test_every_drawn_leaf_is_shown_and_no_other(case: tuple[DrawPolicy, Claim, int, list[Leaf]]) -> None:
    policy, claim, at, leaves = case
    assert claim.seed is not None
    drawn = draw(policy, claim.seed, claim.entries[at], leaves)
    for number, leaf in enumerate(leaves):
        one = Draw(WORKER, claim.index, at, number, leaf)
        if number in drawn:
            proof = prove_draw(policy, claim, one, leaves)
            assert is_shown(policy, claim, leaf.receipt_digest, proof)
            assert not proof.ends or policy.minimum_rate_bps < BPS
        elif leaf.after > claim.entries[at].start:
            with pytest.raises(NotDrawn, match="is not drawn"):
                prove_draw(policy, claim, one, leaves)
