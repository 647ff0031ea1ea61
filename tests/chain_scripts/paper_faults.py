"""What can be wrong in what was signed: vouchers, books, receipts. Some faults are planted so that all else fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from eth_account.signers.local import LocalAccount

from efedllm.chain import events as e
from efedllm.chain.abi import interface
from efedllm.chain.channels import VoucherClaim
from efedllm.chain.claims import vouchers_in
from efedllm.chain.events import Event
from efedllm.protocol import eip712
from efedllm.protocol.claims import commitment, unpack_entries
from efedllm.protocol.objects import Receipt, Voucher
from efedllm.protocol.records import Record
from efedllm.protocol.vouchers import Book, Leaf

from .ledger_market import COLD, HOT, PAYERS, SESSIONS, STRANGER
from .planting import Fault, World, first

WORKERS = [account.address for account in COLD]
Signed = tuple[Voucher, bytes]


def channel(payer: int, worker: int) -> str:
    return f"channel {PAYERS[payer].address} -> {WORKERS[worker]} (key {SESSIONS[payer].address})"


# vouchers in the inputs of claims


def with_voucher(change: Callable[[World, Voucher], Signed]) -> Callable[[World], None]:
    """The first voucher of the first claim of worker 0 is another one."""

    def plant(world: World) -> None:
        put_vouchers(world, 0, 0, lambda signed: [change(world, signed[0][0]), *signed[1:]])

    return plant


def put_vouchers(world: World, worker: int, number: int, change: Callable[[list[Signed]], list[Signed]]) -> None:
    claim = first(world, e.Claimed, worker=WORKERS[worker], claim_index=number)
    before = world.copy.planted.inputs

    def inputs(transaction: bytes, data: bytes) -> bytes:
        data = before(transaction, data)
        if transaction != claim.origin.transaction_hash:
            return data
        signed = change(vouchers_in(data, WORKERS[worker]))
        packed = b"".join(VoucherClaim.of(*one).pack() for one in signed)
        return interface("Channels").encode_call("claim", WORKERS[worker], packed)

    world.copy.planted.inputs = inputs


def forged(
    signer: LocalAccount = SESSIONS[0], domain: dict[str, Any] | None = None, **changes: Any
) -> Callable[[World], None]:
    """Another voucher with a good signature of `signer`."""

    def change(world: World, voucher: Voucher) -> Signed:
        other = replace(voucher, **changes)
        return other, eip712.sign(replace(world.deployment.domain, **(domain or {})), other, signer)

    return with_voucher(change)


def unsigned(**changes: Any) -> Callable[[World], None]:
    """Another voucher with the signature of the honest one."""

    def change(world: World, voucher: Voucher) -> Signed:
        return replace(voucher, **changes), eip712.sign(world.deployment.domain, voucher, SESSIONS[0])

    return with_voucher(change)


OF_VOUCHER = (
    f"claim 0 of {WORKERS[0]}, {channel(0, 0)}, transaction 0x",
    "voucher is of ",
    f"signed by {SESSIONS[0].address}",
)
VOUCHERS = {
    "another key": Fault(forged(STRANGER), (*OF_VOUCHER, f"signed by {STRANGER.address}")),
    "the worker's key": Fault(forged(HOT[0]), (*OF_VOUCHER, f"signed by {HOT[0].address}")),
    "another epoch": Fault(forged(epoch=1), (*OF_VOUCHER, "epoch 1, signed by", "epoch 0, signed by")),
    "another chain": Fault(forged(domain={"chain_id": 1}), OF_VOUCHER),
    "another deployment": Fault(forged(domain={"verifying_contract": STRANGER.address}), OF_VOUCHER),
    "another payer": Fault(forged(payer=STRANGER.address), (*OF_VOUCHER, f"of payer {STRANGER.address}")),
    "another root": Fault(forged(receiptsRoot=bytes(32)), (*OF_VOUCHER, f"over root 0x{bytes(32).hex()}")),
    "another total": Fault(forged(total=5), (*OF_VOUCHER, "voucher is of 5, epoch 0")),
    "a total that was not signed": Fault(unsigned(total=6), (*OF_VOUCHER, "voucher is of 6, epoch 0")),
    "another count": Fault(
        forged(count=9), (f"{channel(0, 0)}, epoch 0, voucher of ", "count of receipts is 4, should be 9")
    ),
}


# books


def with_leaves(payer: int, worker: int, change: Callable[[list[Leaf]], list[Leaf]]) -> Callable[[World], None]:
    """The worker tells other leaves for every root of one channel."""

    def plant(world: World) -> None:
        own = requests_of(world, payer, worker)

        def alter(leaves: list[Leaf]) -> list[Leaf]:
            return change(list(leaves)) if leaves and leaves[0].request_id in own else leaves

        world.counter.alter_book = alter

    return plant


def requests_of(world: World, payer: int, worker: int) -> list[bytes]:
    return [
        request_id
        for (who, request_id), record in world.counter.records.items()
        if who == WORKERS[worker] and record.request.payer == PAYERS[payer].address
    ]


def last_shorter(leaves: list[Leaf]) -> list[Leaf]:
    return [*leaves[:-1], replace(leaves[-1], after=leaves[-1].after - 1)]


def boundary_moved(leaves: list[Leaf]) -> list[Leaf]:
    at = leaves[0].after - 1
    return [replace(leaves[0], after=at), replace(leaves[1], before=at), *leaves[2:]]


def digest_of_another(leaves: list[Leaf]) -> list[Leaf]:
    return [leaves[0], replace(leaves[1], receipt_digest=sha256(b"another").digest()), *leaves[2:]]


def one_twice(leaves: list[Leaf]) -> list[Leaf]:
    return [*leaves[:-1], replace(leaves[-1], receipt_digest=leaves[0].receipt_digest)]


def request_of_another(world: World) -> None:
    """A leaf's hash does not hold its request: the root stays right."""
    (other, *_) = requests_of(world, 1, 0)
    with_leaves(0, 0, lambda leaves: [*leaves[:-1], replace(leaves[-1], request_id=other)])(world)


BOOK = f"{channel(0, 0)}, epoch 0, voucher of "
BOOKS = {
    "an altered receipt": Fault(
        with_leaves(0, 0, digest_of_another), (BOOK, "receiptsRoot over receipts 1 to 4, of which 0 are right is 0x")
    ),
    "a moved boundary": Fault(with_leaves(0, 0, boundary_moved), (BOOK, "receiptsRoot over receipts 1 to 4")),
    "receipts that add up to less": Fault(with_leaves(0, 0, last_shorter), (BOOK, "total of the receipts is ")),
    "no receipts": Fault(with_leaves(0, 0, lambda leaves: []), (BOOK, "total of the receipts is 0, should be ")),
    "a receipt left out": Fault(with_leaves(0, 0, lambda leaves: leaves[:-1]), (BOOK, "total of the receipts is ")),
    "a receipt in two leaves": Fault(
        with_leaves(0, 0, one_twice),
        (
            "receipt 0x",
            f"paid is by leaf 1 of {channel(0, 0)}, epoch 0 and again by leaf 5 of {channel(0, 0)}, epoch 0",
            "should be once",
        ),
    ),
    "a request in two channels": Fault(
        request_of_another,
        ("request 0x", "paid from is ", channel(0, 0), channel(1, 0), "should be one channel and epoch"),
    ),
}


# records


def with_record(change: Callable[[World, Record], Record]) -> Callable[[World], None]:
    """Worker 2 hands out another record of what it did for payer 0."""

    def plant(world: World) -> None:
        (own,) = requests_of(world, 0, 2)
        honest = world.counter.records[WORKERS[2], own]

        def alter(worker: str, record: Record) -> Record:
            return change(world, record) if record is honest else record

        world.counter.alter_record = alter

    return plant


def with_receipt(signs: bool, **changes: Any) -> Callable[[World], None]:
    """The receipt that was paid for says something else; the worker signs it anew, or not."""

    def change(world: World, record: Record) -> Record:
        receipt, signature = record.receipts[-1]
        other = replace(receipt, **{name: made(getattr(receipt, name)) for name, made in changes.items()})
        if signs:
            signature = eip712.sign(world.deployment.domain, other, HOT[2])
        return replace(record, receipts=[*record.receipts[:-1], (other, signature)])

    return with_record(change)


def signed_by(signer: LocalAccount) -> Callable[[World], None]:
    def change(world: World, record: Record) -> Record:
        sign = eip712.sign
        return replace(
            record, receipts=[(one, sign(world.deployment.domain, one, signer)) for one, _ in record.receipts]
        )

    return with_record(change)


def of_another_request(world: World) -> None:
    (other,) = requests_of(world, 1, 2)
    with_record(lambda world, record: world.counter.records[WORKERS[2], other])(world)


def request_signed_by(signer: LocalAccount) -> Callable[[World], None]:
    return with_record(
        lambda world, record: replace(
            record, request_signature=eip712.sign(world.deployment.domain, record.request, signer)
        )
    )


OTHER_VALUES: dict[str, Callable[[Any], Any]] = {
    name: (lambda value: value + 1)
    if name in ("shard", "epoch", "positions", "promptCount", "generated", "fee")
    else (lambda value: STRANGER.address)
    if name in ("worker", "payer")
    else (lambda value: sha256(value).digest())
    for name in (field.name for field in Receipt.__dataclass_fields__.values())
}
RECORD = f"{channel(0, 2)}, epoch 0, re"
RECORDS = {
    **{
        f"{name} altered": Fault(with_receipt(False, **{name: other}), (RECORD, "receipt is altered: 0x"))
        for name, other in OTHER_VALUES.items()
    },
    **{
        f"{name} altered and signed": Fault(
            with_receipt(True, **{name: other}),
            (RECORD, "receipt.fee is ") if name == "fee" else (RECORD, "receipt is altered: 0x"),
        )
        for name, other in OTHER_VALUES.items()
    },
    "receipts of a stranger": Fault(
        signed_by(STRANGER),
        (RECORD, "ceipt 0x", f"signature is by {STRANGER.address}, should be by a hot key of {WORKERS[2]}"),
    ),
    "receipts of a colleague": Fault(signed_by(HOT[0]), (RECORD, "ceipt 0x", f"signature is by {HOT[0].address}")),
    "a request of a stranger": Fault(
        request_signed_by(STRANGER),
        (RECORD, "quest 0x", f"signature is {STRANGER.address}, should be {SESSIONS[0].address}"),
    ),
    "another request": Fault(of_another_request, (RECORD, "quest 0x", "record is of request 0x")),
    "another prompt": Fault(
        with_record(lambda world, record: replace(record, prompt=[*record.prompt[:-1], 299])),
        (RECORD, "quest 0x", "promptRoot is 0x"),
    ),
    "another answer": Fault(
        with_record(lambda world, record: replace(record, generated=[1] * 5)),
        (RECORD, "ceipt 0x", "tokenRoot is not that of the tokens"),
    ),
}


# everything fits but the fault: payer and worker signed it


def repaid(world: World, payer: int, leaf: Leaf) -> None:
    """Payer and worker 2 sign for `leaf` in place of the one leaf there is; claim and contract agree."""
    claim = first(world, e.Claimed, worker=WORKERS[2], claim_index=payer)
    assert isinstance(claim, e.Claimed)
    book = Book(PAYERS[payer].address, WORKERS[2], 0)
    voucher = book.voucher_after(leaf, replaces=False)
    (entry,) = unpack_entries(claim.entries)
    assert entry.end == voucher.total, "amounts stay as they are on chain"
    other = replace(entry, receipts_root=voucher.receiptsRoot)
    changed = replace(claim, entries=other.pack(), commitment=commitment((other,)))
    signature = eip712.sign(world.deployment.domain, voucher, SESSIONS[payer])
    put_vouchers(world, 2, payer, lambda signed: [(voucher, signature)])
    planted = world.copy.planted

    def events(honest: list[Event]) -> list[Event]:
        return [changed if event == claim else event for event in honest]

    def claim_of(arguments: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
        if arguments != (WORKERS[2], payer):
            return values
        return ((*values[0][:4], changed.commitment),)

    planted.events, planted.reads = events, {("Channels", "claimOf"): claim_of}
    world.counter.planted_books[voucher.receiptsRoot] = [leaf]


def leaf_of(world: World, payer: int) -> Leaf:
    (own,) = requests_of(world, payer, 2)
    return next(leaves[0] for leaves in world.counter.books.values() if leaves[0].request_id == own)


def paid_twice(world: World) -> None:
    """Payer 1 pays for the receipt of payer 0."""
    repaid(world, 1, replace(leaf_of(world, 1), receipt_digest=leaf_of(world, 0).receipt_digest))


def dearer(world: World) -> None:
    """A receipt of fewer tokens for the same fee."""
    leaf = leaf_of(world, 0)
    record = world.counter.records[WORKERS[2], leaf.request_id]
    honest, _ = record.receipts[-1]
    receipt = replace(honest, generated=honest.generated - 1, positions=honest.positions - 1)
    signature = eip712.sign(world.deployment.domain, receipt, HOT[2])
    with_record(lambda world, record: replace(record, receipts=[*record.receipts[:-1], (receipt, signature)]))(world)
    repaid(world, 0, replace(leaf, receipt_digest=eip712.digest(world.deployment.domain, receipt)))


def of_another_epoch(world: World) -> None:
    leaf = leaf_of(world, 0)
    honest, _ = world.counter.records[WORKERS[2], leaf.request_id].receipts[-1]
    receipt = replace(honest, epoch=4)
    with_receipt(True, epoch=lambda epoch: 4)(world)
    repaid(world, 0, replace(leaf, receipt_digest=eip712.digest(world.deployment.domain, receipt)))


AGREED = {
    "one receipt paid by two payers": Fault(
        paid_twice,
        (
            "receipt 0x",
            f"paid is by leaf 1 of {channel(0, 2)}, epoch 0 and again by leaf 1 of {channel(1, 2)}, epoch 0",
            "should be once",
        ),
    ),
    "a fee above the request's prices": Fault(
        dearer, (RECORD, "ceipt 0x", "content is receipt.fee is ", "the request gives ")
    ),
    "a receipt of another epoch": Fault(of_another_epoch, (RECORD, "ceipt 0x", "epoch is 4, should be 0")),
}

PAPER_FAULTS = {
    **{f"voucher: {name}": fault for name, fault in VOUCHERS.items()},
    **{f"book: {name}": fault for name, fault in BOOKS.items()},
    **{f"record: {name}": fault for name, fault in RECORDS.items()},
    **{f"agreed: {name}": fault for name, fault in AGREED.items()},
}
