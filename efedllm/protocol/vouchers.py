"""The book of one channel: which receipts its vouchers pay for. Client and worker keep equal books.

Leaves lie end to end over the channel's value: leaf = (receipt digest, fee before, fee after). A later receipt of the
request in the last leaf replaces it; any other receipt appends. The same receipts in the same order give the same root.
"""

from dataclasses import dataclass

from eth_utils.crypto import keccak

from efedllm.protocol.errors import VoucherError
from efedllm.protocol.merkle import AppendTree, prove
from efedllm.protocol.objects import Receipt, Voucher


def keccak_node(left: bytes, right: bytes) -> bytes:
    """`keccak256(0x01 || left || right)`."""
    return bytes(keccak(b"\x01" + left + right))


@dataclass(frozen=True)
class Leaf:
    """One receipt's share `(before, after]` of a channel's value, in base units."""

    request_id: bytes
    receipt_digest: bytes
    before: int
    after: int

    def hash(self) -> bytes:
        return bytes(keccak(b"\x00" + self.receipt_digest + self.before.to_bytes(16) + self.after.to_bytes(16)))


class Book:
    """Leaves of one channel and epoch. All but the last leaf are final and live in an append-only tree."""

    def __init__(self, payer: str, worker: str, epoch: int) -> None:
        self.payer, self.worker, self.epoch = payer, worker, epoch
        self.leaves: list[Leaf] = []
        self._covered: dict[bytes, int] = {}  # fee of each request that the leaves cover
        self._settled = AppendTree(keccak_node)  # all leaves but the last

    @property
    def total(self) -> int:
        return self.leaves[-1].after if self.leaves else 0

    def covered(self, request_id: bytes) -> int:
        """Fee of this request that is already in the book."""
        return self._covered.get(request_id, 0)

    def next_leaf(self, request_id: bytes, receipt_digest: bytes, fee: int) -> tuple[Leaf, bool]:
        """The leaf that paying `receipt_digest` up to `fee` makes, and whether it replaces the last one.

        Raises VoucherError if nothing is added.
        """
        added = fee - self.covered(request_id)
        if added <= 0:
            raise VoucherError(
                f"the receipt's fee {fee} adds nothing to the {self.covered(request_id)} already paid for it"
            )
        last = self.leaves[-1] if self.leaves else None
        if last is not None and last.request_id == request_id:
            return Leaf(request_id, receipt_digest, last.before, last.after + added), True
        return Leaf(request_id, receipt_digest, self.total, self.total + added), False

    def add(self, leaf: Leaf, replaces: bool) -> None:
        """Takes a leaf made by `next_leaf`."""
        if replaces:
            self._covered[leaf.request_id] += leaf.after - self.leaves[-1].after
            self.leaves[-1] = leaf
            return
        if self.leaves:
            self._settled.append(self.leaves[-1].hash())
        self._covered[leaf.request_id] = self.covered(leaf.request_id) + leaf.after - leaf.before
        self.leaves.append(leaf)

    def voucher_after(self, leaf: Leaf, replaces: bool) -> Voucher:
        """The voucher that pays for the book with `leaf` taken; the book itself stays as it is."""
        tree = self._settled.copy()
        if not replaces and self.leaves:
            tree.append(self.leaves[-1].hash())
        tree.append(leaf.hash())
        return Voucher(self.payer, self.worker, self.epoch, leaf.after, tree.count, tree.root())

    def proof(self, index: int) -> list[bytes]:
        """Siblings of leaf `index` under the latest voucher's root."""
        return prove([leaf.hash() for leaf in self.leaves], index, keccak_node)

    @classmethod
    def restore(cls, payer: str, worker: str, epoch: int, leaves: list[Leaf]) -> "Book":
        """A book from stored leaves. Raises VoucherError if they do not lie end to end."""
        book = cls(payer, worker, epoch)
        for leaf in leaves:
            if leaf.before != book.total or leaf.after <= leaf.before:
                raise VoucherError(
                    f"stored leaves do not lie end to end at {leaf.before}: restore the store from a backup"
                )
            book.add(leaf, replaces=False)
        return book


def accept(book: Book, voucher: Voucher, receipt: Receipt, receipt_digest: bytes) -> tuple[Leaf, bool]:
    """Checks that `voucher` is exactly the book plus `receipt`; returns the leaf to add. The signature is the caller's.

    Raises VoucherError naming the field: another channel or epoch, a total that goes back or differs, an unknown root.
    """
    for name in ("payer", "worker", "epoch"):
        if getattr(voucher, name) != getattr(book, name):
            raise VoucherError(f"voucher.{name} is {getattr(voucher, name)}, this channel's is {getattr(book, name)}")
    if voucher.total <= book.total:
        raise VoucherError(f"voucher.total {voucher.total} does not exceed the {book.total} already held")
    leaf, replaces = book.next_leaf(receipt.requestId, receipt_digest, receipt.fee)
    expected = book.voucher_after(leaf, replaces)
    for name in ("total", "count", "receiptsRoot"):
        if getattr(voucher, name) != getattr(expected, name):
            raise VoucherError(f"voucher.{name} does not pay for exactly the receipts held plus the one named")
    return leaf, replaces
