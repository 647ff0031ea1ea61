"""Receipts: the honest ones pass, and every field that is changed is found by one of the three checks."""

from dataclasses import fields, replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError, ReceiptError
from efedllm.protocol.merkle import EMPTY, token_leaf, tree_root
from efedllm.protocol.objects import Receipt, Request
from efedllm.protocol.receipts import Commitments, check_link, check_shape, check_tokens, receipt_for
from efedllm.protocol.values import ZERO_HASH
from tests.protocol.test_requests import REQUEST as TWO
from tests.protocol.test_requests import hops
from tests.vectors.make_protocol import DOMAIN

PROMPT = [at % 90 for at in range(70)]
GENERATED = [(at * 31) % 90 for at in range(20)]
REQUEST = replace(TWO, path=hops(0, 1, 3, 4), promptCount=len(PROMPT), maxTokens=20)
ID = eip712.digest(DOMAIN, REQUEST)


def chain(request: Request, positions: int, generated: int) -> list[Receipt]:
    """Honest receipts of the whole path at one count."""
    last = len(request.path) - 1
    shards = [Commitments(PROMPT) for _ in request.path]
    for shard, trees in enumerate(shards):
        for token in GENERATED[:generated]:
            trees.tokens.append(token_leaf(token))
        for at in range(positions):
            trees.inputs.append(token_leaf((PROMPT + GENERATED)[at]) if shard == 0 else row(shard, at))
            if shard < last:
                trees.outputs.append(row(shard + 1, at))
        if shard == last:
            for token in GENERATED[:generated]:
                trees.outputs.append(token_leaf(token))
    receipts: list[Receipt] = []
    for shard, trees in enumerate(shards):
        upstream = eip712.digest(DOMAIN, receipts[-1]) if receipts else ZERO_HASH
        receipts.append(receipt_for(request, ID, shard, 3, trees.progress(), upstream))
    return receipts


def row(boundary: int, at: int) -> bytes:
    return sha256(f"{boundary} {at}".encode()).digest()


def check(request: Request, receipts: list[Receipt]) -> None:
    """All that a client compares."""
    for shard, receipt in enumerate(receipts):
        check_shape(request, ID, receipt)
        check_tokens(request, receipt, PROMPT, GENERATED)
        if shard:
            upstream = receipts[shard - 1]
            check_link(upstream, eip712.digest(DOMAIN, upstream), receipt)


COUNTS = [(64, 0), (70, 1), (85, 16), (89, 20)]


@pytest.mark.parametrize("layers", [(0, 4), (0, 1, 4), (0, 1, 3, 4)])
@pytest.mark.parametrize(("positions", "generated"), COUNTS)
def test_honest_paths_pass(layers: tuple[int, ...], positions: int, generated: int) -> None:
    request = replace(REQUEST, path=hops(*layers))
    check(request, chain(request, positions, generated))


@given(st.sampled_from(COUNTS), st.integers(0, 2), st.data())
def test_every_field_counts(counts: tuple[int, int], shard: int, data: st.DataObject) -> None:
    """Except the epoch, which only the channel knows, a change anywhere is found at the latest behind the path."""
    receipts = chain(REQUEST, *counts)
    receipt = receipts[shard]
    name = data.draw(st.sampled_from([item.name for item in fields(Receipt) if item.name != "epoch"]))
    value = getattr(receipt, name)
    changed: object
    if isinstance(value, int):
        changed = value + 1
    elif isinstance(value, bytes):
        changed = sha256(value).digest()
    else:
        changed = "0x" + "77" * 20
    receipts[shard] = replace(receipt, **{name: changed})
    with pytest.raises(ReceiptError):
        check(REQUEST, receipts)


@pytest.mark.parametrize(
    ("shard", "change", "message"),
    [
        (0, {"requestId": bytes(32)}, "is another request's"),
        (0, {"shard": 3}, "shard 3 is outside the path of 3"),
        (1, {"worker": "0x" + "77" * 20}, "receipt.worker is"),
        (1, {"payer": "0x" + "77" * 20}, "receipt.payer is"),
        (1, {"promptCount": 71}, "receipt.promptCount is 71, the request gives 70"),
        (1, {"fee": 1}, "receipt.fee is 1, the request gives 86"),
        (1, {"positions": 86}, "receipt.positions is 86, 16 generated tokens need 85"),
        (1, {"generated": 21, "positions": 90, "fee": 91}, "exceeds maxTokens 20"),
        (1, {"generated": 0, "positions": 70, "fee": 70}, "is outside the prompt"),
        (1, {"generated": 0, "positions": 0, "fee": 0}, "is outside the prompt"),
        (0, {"upstream": b"\x01" * 32}, "must be zero in the first shard and only there"),
        (1, {"upstream": bytes(32)}, "must be zero in the first shard and only there"),
    ],
)
def test_shape(shard: int, change: dict[str, object], message: str) -> None:
    receipt = replace(chain(REQUEST, 85, 16)[shard], **change)  # type: ignore[arg-type]
    with pytest.raises(ReceiptError, match=message):
        check_shape(REQUEST, ID, receipt)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"upstream": b"\x01" * 32}, "is not the receipt of shard 0"),
        ({"positions": 86}, "receipt.positions of shard 1 differs from shard 0's"),
        ({"generated": 17}, "receipt.generated of shard 1 differs"),
        ({"tokenRoot": bytes(32)}, "receipt.tokenRoot of shard 1 differs"),
        ({"inputRoot": bytes(32)}, "shard 1 received other rows than shard 0 committed to"),
    ],
)
def test_links(change: dict[str, object], message: str) -> None:
    first, second, _ = chain(REQUEST, 85, 16)
    with pytest.raises(ReceiptError, match=message):
        check_link(first, eip712.digest(DOMAIN, first), replace(second, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shard", "change", "message"),
    [
        (1, {"tokenRoot": bytes(32)}, "receipt.tokenRoot is not"),
        (0, {"inputRoot": bytes(32)}, "receipt.inputRoot of the first shard is not"),
        (2, {"outputRoot": bytes(32)}, "receipt.outputRoot of the last shard is not"),
        (1, {"generated": 21}, "receipt.generated 21 exceeds the 20 tokens that were shown"),
    ],
)
def test_tokens(shard: int, change: dict[str, object], message: str) -> None:
    receipt = replace(chain(REQUEST, 85, 16)[shard], **change)  # type: ignore[arg-type]
    with pytest.raises(ReceiptError, match=message):
        check_tokens(REQUEST, receipt, PROMPT, GENERATED)


def test_other_tokens_than_shown() -> None:
    for receipt in chain(REQUEST, 85, 16):
        check_tokens(REQUEST, receipt, PROMPT, GENERATED)
        with pytest.raises(ReceiptError):
            check_tokens(REQUEST, receipt, PROMPT, [GENERATED[0] + 1, *GENERATED[1:]])
        with pytest.raises(ReceiptError):
            check_tokens(REQUEST, receipt, [*PROMPT[:-1], 89], GENERATED)


def test_commitments_count_and_hold_what_was_put_in() -> None:
    trees = Commitments(PROMPT)
    assert (trees.generated, trees.inputs.count) == (0, 0)
    before = trees.progress()
    assert before.token_root == tree_root([token_leaf(token) for token in PROMPT])
    assert (before.positions, before.input_root, before.output_root) == (0, EMPTY, EMPTY)
    trees.tokens.append(token_leaf(5))
    trees.inputs.append(bytes(32))
    after = trees.progress()
    assert (after.generated, after.positions) == (1, 1)
    assert before.generated == 0  # a progress is of its moment


def test_errors_are_protocol_errors() -> None:
    assert issubclass(ReceiptError, ProtocolError)
