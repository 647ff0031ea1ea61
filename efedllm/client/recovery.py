"""Whether what a worker shows may take the place of a book that is too old: pure decisions.

Nobody but the session key makes its signature. So a voucher that carries it was signed once, whoever shows it, and what
it pays for was checked then. Its root fixes every receipt and amount below it. The request ids beside them are only the
worker's word; a wrong one makes this client expect another book than the worker's own, which then refuses the vouchers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from efedllm.client.errors import ClientError, OldCopy, Violation
from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError, VoucherError
from efedllm.protocol.merkle import tree_root
from efedllm.protocol.objects import Voucher
from efedllm.protocol.vouchers import Book, Leaf, keccak_node


@dataclass(frozen=True)
class Held:
    """A voucher that a worker shows, with the leaves that it says lie under its root."""

    voucher: Voucher
    signature: bytes
    leaves: Sequence[Leaf]


def check_signed(domain: eip712.Domain, session_key: str, book: Book, voucher: Voucher, signature: bytes) -> None:
    """Raises Violation unless the session key signed `voucher` for this channel and epoch."""
    if (voucher.payer, voucher.worker, voucher.epoch) != (book.payer, book.worker, book.epoch):
        raise Violation(book.worker, "it shows a voucher of another channel")
    try:
        signer = eip712.recover(domain, voucher, signature)
    except ProtocolError as error:
        raise Violation(book.worker, f"it shows a voucher without a signature ({error})") from error
    if signer != session_key:
        raise Violation(book.worker, f"it shows a voucher signed by {signer}, not by {session_key}")


def continued(book: Book, held: Held) -> Book:
    """The book that `held` stands for, which must continue `book`; `check_signed` passed.

    Raises Violation for leaves that are not under the voucher's root, OldCopy where the books contradict each other.
    """
    voucher, leaves = held.voucher, list(held.leaves)
    hashes = [leaf.hash() for leaf in leaves]
    if len(leaves) != voucher.count or tree_root(hashes, keccak_node) != voucher.receiptsRoot:
        raise Violation(book.worker, "the leaves it shows are not those under the voucher's root")
    try:
        restored = Book.restore(book.payer, book.worker, book.epoch, leaves)
    except VoucherError as error:
        raise Violation(book.worker, "the leaves it shows do not lie end to end") from error
    if restored.total != voucher.total:
        raise Violation(book.worker, "the leaves it shows do not end at the voucher's total")
    if not _continues(book.leaves, leaves):
        raise OldCopy(
            book.worker,
            f"this data directory and worker {book.worker} hold different vouchers of one session key; {ADVICE}",
        )
    return restored


ADVICE = "close the channel with `efedllm channel close`, then ask again"


def too_old(worker: str, known: int, signed: int) -> ClientError:
    """For a book of `known` base units that is behind what was `signed`, where the worker does not show the rest."""
    return OldCopy(
        worker,
        f"this data directory is an older copy: {signed} base units were signed for worker {worker}, it knows of "
        f"{known}, and the worker does not show the rest; use the latest copy, or {ADVICE}",
    )


def _continues(before: Sequence[Leaf], after: Sequence[Leaf]) -> bool:
    """Whether a book can have grown from one into the other: only its last leaf may have been replaced."""
    if not before:
        return True
    if len(after) < len(before):
        return False
    if [leaf.hash() for leaf in before[:-1]] != [leaf.hash() for leaf in after[: len(before) - 1]]:
        return False
    old, new = before[-1], after[len(before) - 1]
    return old.hash() == new.hash() or (old.before == new.before and old.after < new.after)
