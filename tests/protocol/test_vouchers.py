"""Books: both sides stay equal over any receipts, and nothing is paid that is not receipted."""

import json
from dataclasses import fields, replace
from hashlib import sha256

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from efedllm.protocol import eip712
from efedllm.protocol.errors import VoucherError
from efedllm.protocol.merkle import verify
from efedllm.protocol.objects import Receipt, Voucher
from efedllm.protocol.vouchers import Book, Leaf, accept, keccak_node
from tests.vectors.make_protocol import DOMAIN, FOLDER, naive_root

PAYER, WORKER = "0x" + "ab" * 20, "0x" + "cd" * 20
receipts = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 50)), max_size=30)


def receipt(request: int, fee: int, salt: int = 0) -> Receipt:
    """The fields that books read, and some that tell receipts apart."""
    return Receipt(
        requestId=sha256(bytes([request])).digest(),
        shard=0,
        worker=Book(PAYER, WORKER, 1).worker,
        payer=PAYER,
        epoch=1,
        positions=salt,
        promptCount=1,
        generated=1,
        tokenRoot=bytes(32),
        inputRoot=bytes(32),
        outputRoot=bytes(32),
        upstream=bytes(32),
        fee=fee,
    )


def new_book() -> Book:
    checked = Voucher(PAYER, WORKER, 1, 0, 0, bytes(32))
    return Book(checked.payer, checked.worker, 1)


def pay(book: Book, item: Receipt) -> Voucher:
    """As a client does."""
    leaf, replaces = book.next_leaf(item.requestId, eip712.digest(DOMAIN, item), item.fee)
    voucher = book.voucher_after(leaf, replaces)
    book.add(leaf, replaces)
    return voucher


@given(receipts)
def test_client_and_worker_stay_equal(steps: list[tuple[int, int]]) -> None:
    client, worker, fees = new_book(), new_book(), dict.fromkeys(range(5), 0)
    for at, (request, added) in enumerate(steps):
        fees[request] += added
        item = receipt(request, fees[request], at)
        digest = eip712.digest(DOMAIN, item)
        if not added:
            with pytest.raises(VoucherError, match="adds nothing"):
                client.next_leaf(item.requestId, digest, item.fee)
            continue
        before = client.voucher_after(*client.next_leaf(item.requestId, digest, item.fee))
        voucher = pay(client, item)
        assert voucher == before  # looking ahead changes nothing
        worker.add(*accept(worker, voucher, item, digest))
        assert worker.leaves == client.leaves
        assert voucher.total == worker.total == sum(fees.values())
        assert voucher.count == len(worker.leaves)
        assert voucher.receiptsRoot == naive_root([leaf.hash() for leaf in worker.leaves], keccak_node)
        assert worker.covered(item.requestId) == item.fee
    for index, leaf in enumerate(client.leaves):
        root = naive_root([item.hash() for item in client.leaves], keccak_node)
        assert verify(root, leaf.hash(), index, len(client.leaves), client.proof(index), keccak_node)
        assert leaf.before == (client.leaves[index - 1].after if index else 0)
        assert leaf.after > leaf.before


@given(receipts)
def test_a_book_is_restored_from_its_leaves(steps: list[tuple[int, int]]) -> None:
    book, fees = new_book(), dict.fromkeys(range(5), 0)
    for at, (request, added) in enumerate(steps):
        fees[request] += added
        if added:
            pay(book, receipt(request, fees[request], at))
    again = Book.restore(book.payer, book.worker, book.epoch, list(book.leaves))
    assert again.leaves == book.leaves
    for request in range(5):
        item = receipt(request, fees[request] + 7, 99)
        assert again.covered(item.requestId) == book.covered(item.requestId)
        assert pay(again, item) == pay(book, item)


def test_a_later_receipt_replaces_only_the_last_leaf() -> None:
    book = new_book()
    pay(book, receipt(1, 5, 1))
    pay(book, receipt(1, 8, 2))
    assert [(leaf.before, leaf.after) for leaf in book.leaves] == [(0, 8)]
    pay(book, receipt(2, 4, 3))
    pay(book, receipt(1, 10, 4))
    assert [(leaf.before, leaf.after) for leaf in book.leaves] == [(0, 8), (8, 12), (12, 14)]


@pytest.mark.parametrize("fee", [0, 4, 5])
def test_a_receipt_that_adds_nothing_is_not_paid(fee: int) -> None:
    book = new_book()
    pay(book, receipt(1, 5))
    with pytest.raises(VoucherError, match=f"fee {fee} adds nothing to the 5 already paid"):
        book.next_leaf(receipt(1, fee).requestId, bytes(32), fee)


STRANGER = "0x" + "77" * 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"payer": STRANGER}, "voucher.payer is"),
        ({"worker": STRANGER}, "voucher.worker is"),
        ({"epoch": 0}, "voucher.epoch is 0, this channel's is 1"),
        ({"epoch": 2}, "voucher.epoch is 2, this channel's is 1"),
        ({"total": 5}, "voucher.total 5 does not exceed the 5 already held"),
        ({"total": 4}, "voucher.total 4 does not exceed"),
        ({"total": 8}, "voucher.total does not pay for exactly"),
        ({"total": 10}, "voucher.total does not pay for exactly"),
        ({"count": 1}, "voucher.count does not pay for exactly"),
        ({"receiptsRoot": bytes(32)}, "voucher.receiptsRoot does not pay for exactly"),
    ],
)
def test_vouchers_that_are_not_credited(change: dict[str, object], message: str) -> None:
    client, worker = new_book(), new_book()
    for book in (client, worker):
        pay(book, receipt(1, 5))
    item = receipt(2, 4)
    voucher = replace(pay(client, item), **change)  # type: ignore[arg-type]
    with pytest.raises(VoucherError, match=message):
        accept(worker, voucher, item, eip712.digest(DOMAIN, item))
    assert worker.total == 5


def test_a_voucher_of_another_history_is_not_credited() -> None:
    """Same totals and counts, but for a receipt the worker never signed."""
    client, worker = new_book(), new_book()
    pay(client, receipt(1, 5, salt=1))
    pay(worker, receipt(1, 5, salt=2))
    item = receipt(2, 4)
    with pytest.raises(VoucherError, match="receiptsRoot does not pay"):
        accept(worker, pay(client, item), item, eip712.digest(DOMAIN, item))


def test_a_voucher_is_credited_once() -> None:
    client, worker, item = new_book(), new_book(), receipt(1, 5)
    voucher, digest = pay(client, item), eip712.digest(DOMAIN, item)
    worker.add(*accept(worker, voucher, item, digest))
    with pytest.raises(VoucherError, match="does not exceed"):
        accept(worker, voucher, item, digest)


@pytest.mark.parametrize("bounds", [[(1, 5)], [(0, 5), (6, 7)], [(0, 5), (4, 7)], [(0, 0)], [(0, 5), (5, 5)]])
def test_damaged_leaves_are_not_restored(bounds: list[tuple[int, int]]) -> None:
    leaves = [Leaf(bytes(32), bytes(32), *bound) for bound in bounds]
    with pytest.raises(VoucherError, match="do not lie end to end"):
        Book.restore(PAYER, WORKER, 1, leaves)


def test_leaf_is_that_of_the_document() -> None:
    leaf = Leaf(b"\x01" * 32, b"\x02" * 32, 3, 4)
    assert leaf.hash() == keccak(b"\x00" + b"\x02" * 32 + (3).to_bytes(16) + (4).to_bytes(16))


def test_vectors() -> None:
    content = json.loads((FOLDER / "vouchers.json").read_text())
    book = Book(content["payer"], content["worker"], int(content["epoch"]))
    for step in content["steps"]:
        request_id, digest = (bytes.fromhex(step[name][2:]) for name in ("requestId", "receiptDigest"))
        leaf, replaces = book.next_leaf(request_id, digest, int(step["fee"]))
        voucher = book.voucher_after(leaf, replaces)
        book.add(leaf, replaces)
        assert (str(leaf.before), str(leaf.after), replaces) == (step["before"], step["after"], step["replaces"])
        assert {
            item.name: "0x" + value.hex() if isinstance(value := getattr(voucher, item.name), bytes) else str(value)
            for item in fields(Voucher)
        } == step["voucher"]
        assert "0x" + eip712.digest(DOMAIN, voucher).hex() == step["digest"]
