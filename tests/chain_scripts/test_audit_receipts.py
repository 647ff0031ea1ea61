"""What lies behind claims: vouchers in the transactions' inputs, books, records. Every forgery is named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from chain_scripts.ledger.books import BookKey, by_book, check_leaves
from chain_scripts.ledger.receipts import check_record
from chain_scripts.ledger.state import ChannelKey, ClaimKey, ClaimState, Part
from chain_scripts.ledger.vouchers import Paid, check_vouchers
from efedllm.chain.abi import interface
from efedllm.chain.channels import VoucherClaim
from efedllm.chain.events import Origin
from efedllm.protocol import eip712
from efedllm.protocol.claims import Entry, channel_id
from efedllm.protocol.merkle import token_leaf, tree_root
from efedllm.protocol.objects import Hop, Receipt, Request, Sampling, Voucher
from efedllm.protocol.records import Record
from efedllm.protocol.requests import prompt_root
from efedllm.protocol.values import ZERO_HASH
from efedllm.protocol.vouchers import Book, Leaf

CHANNELS = "0x" + "c1" * 20
DOMAIN = eip712.Domain(31337, CHANNELS)
TRANSACTION = b"\x07" * 32
ORIGIN = Origin(9, 0, bytes(32), TRANSACTION, CHANNELS)


def key(name: str) -> LocalAccount:
    account: LocalAccount = Account.from_key(sha256(name.encode()).digest())
    return account


PAYER, SESSION, WORKER, HOT, STRANGER = map(key, ("payer", "session", "worker", "hot", "stranger"))
CHANNEL = ChannelKey(PAYER.address, WORKER.address, SESSION.address)
CLAIM = ClaimKey(WORKER.address, 0)


# vouchers


def voucher(total: int = 100, **changes: Any) -> Voucher:
    made = Voucher(PAYER.address, WORKER.address, 2, total, 3, sha256(b"root").digest())
    return replace(made, **changes)


def claim_of(start: int, end: int, deposit: int) -> dict[ClaimKey, ClaimState]:
    entry = Entry(channel_id(*CHANNEL), start, end, sha256(b"root").digest())
    part = Part(CHANNEL, 2, deposit, entry)
    return {CLAIM: ClaimState(ORIGIN, end - start, end - start, bytes(32), (part,))}


def input_of(*signed: tuple[Voucher, bytes], worker: str = WORKER.address) -> bytes:
    packed = b"".join(VoucherClaim.of(one, signature).pack() for one, signature in signed)
    return interface("Channels").encode_call("claim", worker, packed)


def signed(one: Voucher, signer: LocalAccount = SESSION) -> tuple[Voucher, bytes]:
    return one, eip712.sign(DOMAIN, one, signer)


def test_check_vouchers_finds_the_voucher_behind_a_claim() -> None:
    data = input_of(signed(voucher(90), STRANGER), signed(voucher()))
    check = check_vouchers(DOMAIN, CHANNELS, claim_of(40, 100, 200), {TRANSACTION: (CHANNELS.upper(), data)})
    assert check.paid == [Paid(CLAIM, CHANNEL, voucher())]
    assert check.differences == [] and check.unavailable == []


def test_check_vouchers_allows_a_total_beyond_the_deposit() -> None:
    inputs = {TRANSACTION: (CHANNELS, input_of(signed(voucher(150))))}
    assert check_vouchers(DOMAIN, CHANNELS, claim_of(40, 100, 100), inputs).differences == []
    assert check_vouchers(DOMAIN, CHANNELS, claim_of(40, 100, 120), inputs).differences != []


@pytest.mark.parametrize(
    "forged",
    [
        signed(voucher(), STRANGER),
        signed(voucher(total=99)),
        signed(voucher(epoch=1)),
        signed(voucher(receiptsRoot=bytes(32))),
        signed(voucher(payer=STRANGER.address)),
        (voucher(), bytes(63) + b"\x01" + b"\x1b"),
        (voucher(), eip712.sign(replace(DOMAIN, chain_id=1), voucher(), SESSION)),
        (voucher(), eip712.sign(replace(DOMAIN, verifying_contract=STRANGER.address), voucher(), SESSION)),
    ],
)
def test_check_vouchers_names_a_forged_one(forged: tuple[Voucher, bytes]) -> None:
    check = check_vouchers(DOMAIN, CHANNELS, claim_of(40, 100, 200), {TRANSACTION: (CHANNELS, input_of(forged))})
    (difference,) = check.differences
    assert difference.field == "voucher"
    assert str(CLAIM) in difference.account and SESSION.address in str(difference.expected)
    assert TRANSACTION.hex() in difference.account and difference.found != difference.expected
    assert check.paid == []


@pytest.mark.parametrize(
    "found",
    [
        (STRANGER.address, input_of(signed(voucher()))),
        (CHANNELS, b""),
        (CHANNELS, input_of(signed(voucher()))[:4]),
        (CHANNELS, input_of(signed(voucher()), worker=STRANGER.address)),
        ("", b"\x60\x80"),
    ],
)
def test_check_vouchers_counts_a_claim_without_them_as_unavailable(found: tuple[str, bytes]) -> None:
    check = check_vouchers(DOMAIN, CHANNELS, claim_of(40, 100, 200), {TRANSACTION: found})
    assert (check.paid, check.differences, check.unavailable) == ([], [], [CLAIM])


# books


@dataclass
class Ledgered:
    """A book with the vouchers that were given for it, latest first."""

    book: Book
    vouchers: list[Voucher]


def filled(*steps: tuple[int, int]) -> Ledgered:
    """`steps`: request and its fee so far."""
    book, vouchers = Book(PAYER.address, WORKER.address, 2), []
    for request, fee in steps:
        request_id = sha256(bytes([request])).digest()
        leaf, replaces = book.next_leaf(request_id, sha256(bytes([request, fee])).digest(), fee)
        vouchers.append(book.voucher_after(leaf, replaces))
        book.add(leaf, replaces)
    return Ledgered(book, vouchers[::-1])


BOOK = BookKey(CHANNEL, 2)


def test_check_leaves_speaks_for_all_vouchers_that_end_at_a_leaf() -> None:
    ledgered = filled((1, 10), (2, 20), (2, 30), (3, 5), (1, 15))
    differences, left = check_leaves(BOOK, ledgered.book.leaves, ledgered.vouchers)
    assert differences == []
    assert [voucher.total for voucher in left] == [30]  # its last receipt was replaced by a later one
    earlier = filled((1, 10), (2, 20))
    assert check_leaves(BOOK, earlier.book.leaves, left) == ([], [])


def test_check_leaves_names_an_altered_receipt_and_the_first_voucher_over_it() -> None:
    ledgered = filled((1, 10), (2, 20), (3, 5))
    leaves = list(ledgered.book.leaves)
    leaves[1] = replace(leaves[1], receipt_digest=bytes(32))
    differences, left = check_leaves(BOOK, leaves, ledgered.vouchers)
    assert left == []
    assert [(one.field, one.account) for one in differences] == [
        ("receiptsRoot over receipts 1 to 2, of which 1 are right", f"{BOOK}, voucher of 30"),
    ]


def test_check_leaves_names_a_wrong_count() -> None:
    ledgered = filled((1, 10), (2, 20))
    wrong = [replace(ledgered.vouchers[0], count=3), ledgered.vouchers[1]]
    differences, _ = check_leaves(BOOK, ledgered.book.leaves, wrong)
    assert [(one.field, one.expected, one.found) for one in differences] == [("count of receipts", 3, 2)]


@pytest.mark.parametrize("cut", [0, 1])
def test_check_leaves_names_leaves_that_end_elsewhere(cut: int) -> None:
    ledgered = filled((1, 10), (2, 20))
    differences, left = check_leaves(BOOK, ledgered.book.leaves[:cut], ledgered.vouchers)
    assert [(one.field, one.expected, one.found) for one in differences] == [("total of the receipts", 30, 10 * cut)]
    assert left == ledgered.vouchers[1:]


def test_by_book_orders_vouchers_of_each_epoch() -> None:
    paid = [Paid(CLAIM, CHANNEL, voucher(total, epoch=epoch)) for total, epoch in ((10, 0), (30, 0), (5, 1), (20, 0))]
    books = by_book(paid)
    assert {key.epoch: [one.total for one in vouchers] for key, vouchers in books.items()} == {0: [30, 20, 10], 1: [5]}


# records

PROMPT, GENERATED, SALT = [5, 6, 7], [8, 9], bytes(32)


def make_record() -> tuple[Record, list[Leaf]]:
    request = Request(
        payer=PAYER.address,
        nonce=1,
        expiry=2_000_000_000,
        kind=0,
        modelId=bytes(32),
        path=(Hop(WORKER.address, 0, 4, 2, 3),),
        promptRoot=prompt_root(SALT, PROMPT),
        promptCount=3,
        maxTokens=4,
        stopIds=(),
        seed=bytes(32),
        sampling=Sampling(0, 0, 65536),
    )
    receipts = [_receipt(request, generated) for generated in (1, 2)]
    record = Record(
        request=request,
        request_signature=eip712.sign(DOMAIN, request, SESSION),
        salt=SALT,
        prompt=PROMPT,
        generated=GENERATED,
        receipts=[(receipt, eip712.sign(DOMAIN, receipt, HOT)) for receipt in receipts],
        rows=b"",
    )
    last = receipts[-1]
    return record, [Leaf(last.requestId, eip712.digest(DOMAIN, last), 50, 50 + last.fee)]


def _receipt(request: Request, generated: int) -> Receipt:
    leaves = [token_leaf(token) for token in PROMPT + GENERATED[:generated]]
    return Receipt(
        requestId=eip712.digest(DOMAIN, request),
        shard=0,
        worker=WORKER.address,
        payer=PAYER.address,
        epoch=2,
        positions=2 + generated,
        promptCount=3,
        generated=generated,
        tokenRoot=tree_root(leaves),
        inputRoot=tree_root(leaves[: 2 + generated]),
        outputRoot=tree_root(leaves[3:]),
        upstream=ZERO_HASH,
        fee=3 * 2 + generated * 3,
    )


def check(record: Record, leaves: list[Leaf]) -> tuple[list[str], int]:
    differences, missing = check_record(DOMAIN, BOOK, leaves, record, {HOT.address})
    return list(dict.fromkeys(one.field for one in differences)), len(missing)


def test_check_record_passes_an_honest_one() -> None:
    assert check(*make_record()) == ([], 0)


def test_check_record_passes_receipts_in_any_order() -> None:
    record, leaves = make_record()
    assert check(replace(record, receipts=record.receipts[::-1]), leaves) == ([], 0)


def test_check_record_names_a_receipt_that_is_not_paid_for() -> None:
    """A record holds what the worker signed; all of it has to be right."""
    record, leaves = make_record()
    wrong = replace(record.receipts[0][0], fee=1)
    receipts = [(wrong, eip712.sign(DOMAIN, wrong, HOT)), *record.receipts[1:]]
    assert check(replace(record, receipts=receipts), leaves) == (["content"], 0)


def test_check_record_counts_a_receipt_it_lacks_as_missing() -> None:
    record, leaves = make_record()
    assert check(replace(record, receipts=record.receipts[:1]), leaves) == ([], 1)


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"generated": [8, 1]}, ["content"]),
        ({"prompt": [5, 6, 1]}, ["content", "promptRoot"]),
        ({"salt": bytes([1]) * 32}, ["promptRoot"]),
        ({"request_signature": bytes(65)}, ["signature"]),
    ],
)
def test_check_record_names_what_was_altered(changes: dict[str, Any], fields: list[str]) -> None:
    record, leaves = make_record()
    assert check(replace(record, **changes), leaves) == (fields, 0)


def test_check_record_names_strangers_signatures() -> None:
    record, leaves = make_record()
    receipts = [(receipt, eip712.sign(DOMAIN, receipt, STRANGER)) for receipt, _ in record.receipts]
    assert check(replace(record, receipts=receipts), leaves) == (["signature"], 0)
    signature = eip712.sign(DOMAIN, record.request, STRANGER)
    assert check(replace(record, request_signature=signature), leaves) == (["signature"], 0)


def test_check_record_names_another_request() -> None:
    record, leaves = make_record()
    request = replace(record.request, nonce=2)
    other = replace(record, request=request, request_signature=eip712.sign(DOMAIN, request, SESSION))
    assert check(other, leaves) == (["record", "content", "request"], 0)


@pytest.mark.parametrize("change", [-1, 1])
def test_check_record_names_a_leaf_that_is_not_the_fee(change: int) -> None:
    record, (leaf,) = make_record()
    assert check(record, [replace(leaf, after=leaf.after + change)]) == (["fee"], 0)


def test_check_record_adds_up_the_leaves_of_a_request() -> None:
    record, (leaf,) = make_record()
    first = record.receipts[0][0]
    before = Leaf(first.requestId, eip712.digest(DOMAIN, first), 0, first.fee)
    rest = replace(leaf, before=70, after=70 + 3)
    assert check(record, [before, rest]) == ([], 0)
