"""The work behind the leaves: do a worker's records hold what its book was paid for, signed by who has to sign?"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.objects import Receipt
from efedllm.protocol.receipts import ShownTokens, check_link, check_shape
from efedllm.protocol.records import Record
from efedllm.protocol.requests import prompt_root
from efedllm.protocol.vouchers import Leaf

from .books import BookKey
from .difference import Difference


@dataclass(frozen=True)
class _Known:
    """A receipt of a record, and who signed it."""

    receipt: Receipt
    signer: str


def check_record(
    domain: eip712.Domain, key: BookKey, leaves: Sequence[Leaf], record: Record, signers: Set[str]
) -> tuple[list[Difference], list[Leaf]]:
    """Hold the record of one request against the book's leaves for it, in their order. `signers`: the worker's hot
    keys of all times.

    Returns what differs, and the leaves whose receipt the record lacks without showing another one in its place.
    """
    channel = key.channel
    differences: list[Difference] = []
    missing: list[Leaf] = []
    known: dict[bytes, _Known] = {}
    for receipt, signature in record.receipts:
        digest = eip712.digest(domain, receipt)
        known[digest] = _Known(receipt, _signer(digest, signature))
    # Who signed these is seen in the book of that worker.
    upstream = {eip712.digest(domain, receipt): receipt for receipt, _ in record.upstream}
    request_id = eip712.digest(domain, record.request)
    asked = f"{key}, request 0x{leaves[0].request_id.hex()}"
    if request_id != leaves[0].request_id:
        differences.append(Difference(asked, "record", "of that request", f"of request 0x{request_id.hex()}"))
    tokens = ShownTokens(record.prompt, record.generated)
    for digest, found in known.items():
        differences += _content(f"{key}, receipt 0x{digest.hex()}", record, request_id, tokens, found, signers)
    covered = 0
    paid = {leaf.receipt_digest for leaf in leaves}
    for leaf in leaves:
        covered += leaf.after - leaf.before
        where = f"{key}, receipt 0x{leaf.receipt_digest.hex()}"
        if leaf.receipt_digest in known:
            found = known[leaf.receipt_digest]
            differences += _terms(where, key, request_id, covered, found.receipt)
            differences += _link(where, found.receipt, upstream)
            continue
        instead = {digest: one for digest, one in known.items() if digest not in paid}
        if other := _in_its_place(covered, instead, signers):
            differences.append(Difference(where, "receipt", "what was paid for", f"altered: 0x{other.hex()}"))
        else:
            missing.append(leaf)
    signer = _signer(request_id, record.request_signature)
    if signer != channel.session_key:
        differences.append(Difference(asked, "signature", channel.session_key, signer))
    if record.request.promptRoot != (root := prompt_root(record.salt, record.prompt)):
        differences.append(Difference(asked, "promptRoot", record.request.promptRoot, root))
    return differences, missing


def _terms(where: str, key: BookKey, request_id: bytes, covered: int, receipt: Receipt) -> Iterator[Difference]:
    """Who pays whom, from where, and as much as the leaves of the request add up to."""
    expected = {
        "request": receipt.requestId,
        "worker": key.channel.worker,
        "payer": key.channel.payer,
        "epoch": key.epoch,
        "fee": covered,
    }
    found = {
        "request": request_id,
        "worker": receipt.worker,
        "payer": receipt.payer,
        "epoch": receipt.epoch,
        "fee": receipt.fee,
    }
    for name, value in expected.items():
        if value != found[name]:
            yield Difference(where, name, value, found[name])


def _content(
    where: str, record: Record, request_id: bytes, tokens: ShownTokens, known: _Known, signers: Set[str]
) -> Iterator[Difference]:
    receipt = known.receipt
    if known.signer not in signers:
        yield Difference(where, "signature", f"by a hot key of {receipt.worker}", f"by {known.signer}")
    try:
        check_shape(record.request, request_id, receipt)
        tokens.check(record.request, receipt)
    except ProtocolError as error:
        yield Difference(where, "content", "what follows from its request and tokens", str(error))


def _link(where: str, receipt: Receipt, upstream: Mapping[bytes, Receipt]) -> Iterator[Difference]:
    """Whether a receipt continues the one it names, where the record holds that."""
    if receipt.upstream not in upstream:
        return
    try:
        check_link(upstream[receipt.upstream], receipt.upstream, receipt)
    except ProtocolError as error:
        yield Difference(where, "content", "what follows from the upstream receipt", str(error))


def _in_its_place(covered: int, instead: Mapping[bytes, _Known], signers: Set[str]) -> bytes | None:
    """The receipt that a record shows where it should hold one of this fee: one that was altered afterwards was not
    signed like that, or it asks for the same fee."""
    altered = [digest for digest, one in instead.items() if one.signer not in signers]
    same_fee = [digest for digest, one in instead.items() if one.receipt.fee == covered]
    return next(iter(altered + same_fee), None)


def _signer(digest: bytes, signature: bytes) -> str:
    try:
        return eip712.recover_digest(digest, signature)
    except ProtocolError as error:
        return f"nobody ({error})"
