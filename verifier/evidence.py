"""Evidence of a fault: one file that holds everything needed to check it again, written before it is spoken of."""

from hashlib import sha256
from pathlib import Path

import msgpack

from efedllm.protocol.merkle import prove
from efedllm.protocol.records import Record
from efedllm.protocol.vouchers import Leaf, keccak_node
from efedllm.storage import files

from .check import Case
from .errors import StoreError
from .findings import Claim, Draw, Evidence
from .verdict import Fault, Verdict

VERSION = 1


def pack_evidence(claim: Claim, draw: Draw, leaves: list[Leaf], case: Case, verdict: Verdict) -> bytes:
    """The claim's entry, the leaf with its proof, and the records of the worker and its upstream neighbour."""
    packed: bytes = msgpack.packb(
        {
            "version": VERSION,
            "worker": verdict.worker,
            "kind": verdict.kind,
            "reason": verdict.reason,
            "position": verdict.position,
            "claim": {
                "worker": claim.worker,
                "index": claim.index,
                "block": claim.block,
                "transaction": claim.transaction,
                "seed": claim.seed,
                "entries": [entry.pack() for entry in claim.entries],
            },
            "entry": draw.entry,
            "leaf": {
                "index": draw.leaf_index,
                "count": len(leaves),
                "receipt": draw.leaf.receipt_digest,
                "before": str(draw.leaf.before),
                "after": str(draw.leaf.after),
                "proof": prove([leaf.hash() for leaf in leaves], draw.leaf_index, keccak_node),
            },
            "record": case.record.pack(),
            "upstream": _without_rows(case.upstream),
        }
    )
    return packed


def keep_evidence(folder: Path, data: bytes, claim: Claim, draw: Draw, verdict: Verdict) -> Evidence:
    """Write the file, whole and on disk. Raises StoreError."""
    assert isinstance(verdict.kind, Fault)
    path = keep_file(folder, data, draw, verdict)
    return Evidence(
        path=str(path),
        sha256=sha256(data).digest(),
        worker=verdict.worker,
        request_id=draw.leaf.request_id,
        receipt_digest=draw.leaf.receipt_digest,
        claim=claim.index,
        block=claim.block,
        kind=verdict.kind,
        reason=verdict.reason,
    )


def keep_file(folder: Path, data: bytes, draw: Draw, verdict: Verdict) -> Path:
    """The same for what is no fault (yet). Raises StoreError."""
    path = folder / f"{verdict.worker[2:10].lower()}-{draw.leaf.receipt_digest.hex()}.msgpack"
    try:
        files.replace(path, data)
    except OSError as error:
        raise StoreError(f"cannot write {path} ({error.strerror}): free or repair the disk") from error
    return path


def _without_rows(record: Record | None) -> bytes | None:
    """The upstream receipts prove a mismatch; the rows behind them do not."""
    if record is None:
        return None
    return Record(
        record.request, record.request_signature, record.salt, record.prompt, record.generated, record.receipts, b""
    ).pack()
