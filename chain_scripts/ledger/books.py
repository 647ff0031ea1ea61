"""The receipts behind the vouchers: do the leaves that a worker keeps have the roots that were paid for?"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from efedllm.protocol.merkle import AppendTree
from efedllm.protocol.objects import Voucher
from efedllm.protocol.vouchers import Leaf, keccak_node

from .difference import Difference
from .state import ChannelKey
from .vouchers import Paid


@dataclass(frozen=True)
class BookKey:
    """One channel in one epoch: its vouchers pay from the same book."""

    channel: ChannelKey
    epoch: int

    def __str__(self) -> str:
        return f"{self.channel}, epoch {self.epoch}"


def by_book(paid: Iterable[Paid]) -> Mapping[BookKey, Sequence[Voucher]]:
    """Vouchers of each book, the latest first: its leaves hold those of the others, but for their last one."""
    books: dict[BookKey, dict[int, Voucher]] = defaultdict(dict)
    for one in paid:
        books[BookKey(one.channel, one.voucher.epoch)][one.voucher.total] = one.voucher
    return {key: [vouchers[total] for total in sorted(vouchers, reverse=True)] for key, vouchers in books.items()}


def check_leaves(
    key: BookKey, leaves: Sequence[Leaf], vouchers: Sequence[Voucher]
) -> tuple[list[Difference], list[Voucher]]:
    """Compare what a worker told as the leaves under the first of `vouchers` with it and with the earlier ones.

    Returns what differs, and those vouchers that these leaves cannot speak for, since a later receipt took the place of
    their last leaf. Every leaf is hashed once, however many vouchers there are. Of several roots that differ only the
    first is named, with the receipts of which one is not what was paid for: the later ones follow from it.
    """
    wanted = {voucher.total: voucher for voucher in vouchers}
    if not leaves or leaves[-1].after != vouchers[0].total:
        where, found = f"{key}, voucher of {vouchers[0].total}", leaves[-1].after if leaves else 0
        return [Difference(where, "total of the receipts", vouchers[0].total, found)], list(vouchers[1:])
    tree = AppendTree(keccak_node)
    differences: list[Difference] = []
    agreed, is_altered = 0, False
    for leaf in leaves:
        tree.append(leaf.hash())
        voucher = wanted.pop(leaf.after, None)
        if voucher is None:
            continue
        where = f"{key}, voucher of {voucher.total}"
        if (root := tree.root()) == voucher.receiptsRoot:
            agreed = tree.count
        elif not is_altered:
            is_altered = True
            receipts = f"receiptsRoot over receipts 1 to {tree.count}, of which {agreed} are right"
            differences.append(Difference(where, receipts, voucher.receiptsRoot, root))
        if tree.count != voucher.count:
            differences.append(Difference(where, "count of receipts", voucher.count, tree.count))
    return differences, [voucher for voucher in vouchers if voucher.total in wanted]
