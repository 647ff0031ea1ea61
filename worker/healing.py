"""Vouchers that this worker lost, brought back by the client who signed them.

A crash between an acknowledgement and the disk cannot lose one, but a restored backup can. What comes back has to prove
itself: receipts by this worker's own signature, vouchers by continuing the book end to end. So a book only ever grows,
and strangers can add nothing. Keys are rotated because they may be stolen: of an earlier one, only those receipts count
that this worker knows, or whose money is claimed already.
"""

import asyncio
from dataclasses import dataclass

from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError, VoucherError
from efedllm.protocol.objects import Receipt, Voucher
from efedllm.protocol.packing import unpack
from efedllm.protocol.vouchers import accept
from efedllm.storage.threads import to_the_end

from .account import Account
from .accounts import Accounts
from .context import Context

MAX_HEALING_BYTES = 1 << 19
MAX_PROOFS = 256
"""Vouchers in one request; who has more to bring sends several."""

_FIELDS = frozenset({"voucher", "signature", "receipt", "receipt_signature"})


@dataclass(frozen=True)
class Proof:
    """A voucher, and the receipt that it adds to the book, each with its signature."""

    voucher: Voucher
    signature: bytes
    receipt: Receipt
    receipt_signature: bytes


def parse_proofs(data: bytes) -> list[Proof]:
    """The body of `POST /v1/vouchers`. Raises ProtocolError."""
    body = unpack(data)
    if not isinstance(body, list) or not 0 < len(body) <= MAX_PROOFS:
        raise ProtocolError(f"expected a list of 1 to {MAX_PROOFS} vouchers with their receipts")
    return [_proof(item) for item in body]


def _proof(item: object) -> Proof:
    if not isinstance(item, dict) or item.keys() != _FIELDS:
        raise ProtocolError(f"expected maps of {', '.join(sorted(_FIELDS))}")
    if not isinstance(item["signature"], bytes) or not isinstance(item["receipt_signature"], bytes):
        raise ProtocolError("a signature is 65 bytes")
    return Proof(
        Voucher.from_wire(item["voucher"]),
        item["signature"],
        Receipt.from_wire(item["receipt"]),
        item["receipt_signature"],
    )


async def heal(context: Context, accounts: Accounts, proofs: list[Proof]) -> int:
    """Takes the vouchers that the channel's book lacks, oldest first; those it has are passed over. Returns the total
    that is held now.

    Raises ProtocolError for what does not prove itself, ChainError, StoreError; what was taken before stays.
    """
    first = proofs[0].voucher
    signer = eip712.recover(context.domain, first, proofs[0].signature)
    account = await accounts.get(first.payer, signer)
    if account.state.deposit == 0 or account.state.epoch != first.epoch:
        raise VoucherError(f"{signer} signs for no channel of {first.payer} in epoch {first.epoch} here")
    digests, keys = await asyncio.to_thread(_check_signatures, context.domain, proofs, signer)
    await _check_keys(context, account, proofs, digests, keys)
    async with account.lock:
        for proof, digest in zip(proofs, digests, strict=True):
            await _take(context, account, proof, digest)
        account.paid()
        return account.book.total


def _check_signatures(domain: eip712.Domain, proofs: list[Proof], signer: str) -> tuple[list[bytes], list[str]]:
    """Digests of the receipts, and who signed them. Raises ProtocolError unless `signer` signed every voucher."""
    for proof in proofs:
        if eip712.recover(domain, proof.voucher, proof.signature) != signer:
            raise VoucherError("the vouchers are not all signed by the channel's session key")
    digests = [eip712.digest(domain, proof.receipt) for proof in proofs]
    return digests, [
        eip712.recover_digest(digest, proof.receipt_signature) for proof, digest in zip(proofs, digests, strict=True)
    ]


async def _check_keys(
    context: Context, account: Account, proofs: list[Proof], digests: list[bytes], keys: list[str]
) -> None:
    """Raises ProtocolError for a receipt that somebody else may have signed: whoever holds an earlier key could invent
    work, which this worker would then claim and answer for."""
    own = str(context.hot_key.address)
    for key in set(keys) - {own}:
        if not await context.network.was_own_key(key):
            raise ProtocolError(f"a receipt is signed by {key}, which was never a hot key of this worker")
    for proof, digest, key in zip(proofs, digests, keys, strict=True):
        if key == own or proof.voucher.total <= account.state.claimed:
            continue
        if await asyncio.to_thread(context.store.receipt, digest) is None:
            raise ProtocolError(f"a receipt is signed by {key}, which counts no more, and is not known here")


async def _take(context: Context, account: Account, proof: Proof, digest: bytes) -> None:
    """One voucher. The account's lock is held."""
    book, voucher, receipt = account.book, proof.voucher, proof.receipt
    if voucher.total <= book.total:
        if not await asyncio.to_thread(context.store.holds_voucher, account.session_key, voucher):
            raise VoucherError(f"voucher.total {voucher.total} is not above the {book.total} held, which is another")
        return
    if (receipt.worker, receipt.payer, receipt.epoch) != (book.worker, book.payer, book.epoch):
        raise VoucherError("the receipt was not signed for this channel")
    if await asyncio.to_thread(context.store.payer_key, receipt.requestId) not in (None, account.session_key):
        raise VoucherError("the receipt is for a request of another channel")
    leaf, replaces = accept(book, voucher, receipt, digest)
    account.check_covers(leaf.after)
    index = len(book.leaves) - (1 if replaces else 0)
    paid = (receipt, digest, proof.receipt_signature)

    def keep() -> None:
        context.store.keep_voucher(account.session_key, leaf, index, voucher, proof.signature, paid)
        book.add(leaf, replaces)

    await to_the_end(keep)
