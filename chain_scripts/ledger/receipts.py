"""The work behind the leaves: do a worker's records hold what its book was paid for, signed by who has to sign?"""

from collections.abc import Mapping, Sequence, Set

from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.objects import Receipt, Request
from efedllm.protocol.receipts import check_shape, check_tokens
from efedllm.protocol.records import Record
from efedllm.protocol.vouchers import Leaf

from .difference import Difference
from .state import ChannelKey


def check_record(
    domain: eip712.Domain, channel: ChannelKey, leaves: Sequence[Leaf], record: Record, hot_keys: Mapping[str, Set[str]]
) -> tuple[list[Difference], list[Leaf]]:
    """Hold the record of one request against the channel's leaves for it, in their order.

    `hot_keys`: all that a worker ever registered. Returns what differs, and the leaves whose receipt the record lacks.
    """
    differences: list[Difference] = []
    missing: list[Leaf] = []
    known = {eip712.digest(domain, receipt): (receipt, signature) for receipt, signature in record.receipts}
    request_id = eip712.digest(domain, record.request)
    covered = 0
    for leaf in leaves:
        covered += leaf.after - leaf.before
        if leaf.receipt_digest not in known:
            missing.append(leaf)
            continue
        receipt, signature = known[leaf.receipt_digest]
        where = f"{channel}, receipt 0x{leaf.receipt_digest.hex()}"
        expected = {"request": receipt.requestId, "worker": channel.worker, "payer": channel.payer, "fee": covered}
        found = {"request": request_id, "worker": receipt.worker, "payer": receipt.payer, "fee": receipt.fee}
        differences += [
            Difference(where, name, value, found[name]) for name, value in expected.items() if value != found[name]
        ]
        signer = _signer(domain, receipt, signature)
        if signer not in hot_keys.get(channel.worker, frozenset()):
            differences.append(Difference(where, "signature", f"a hot key of {channel.worker}", signer))
        try:
            check_shape(record.request, request_id, receipt)
            check_tokens(record.request, receipt, record.prompt, record.generated)
        except ProtocolError as error:
            differences.append(Difference(where, "receipt", "one that follows from its request and tokens", error))
    signer = _signer(domain, record.request, record.request_signature)
    if signer != channel.session_key:
        where = f"{channel}, request 0x{request_id.hex()}"
        differences.append(Difference(where, "signature", channel.session_key, signer))
    return differences, missing


def _signer(domain: eip712.Domain, value: Receipt | Request, signature: bytes) -> str:
    try:
        return eip712.recover(domain, value, signature)
    except ProtocolError as error:
        return f"nobody ({error})"
