"""One receipt that is taken to the chain: the verdict, where its draw is, and the file with everything behind it."""

from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgpack

from efedllm.chain.dispute_game import BookLeaf, Part
from efedllm.chain.dispute_game import Draw as DrawProof
from efedllm.protocol.claims import Entry
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.records import Record

from .check import Case, Drawn
from .errors import StoreError
from .findings import Draw
from .verdict import Verdict


@dataclass(frozen=True)
class Dossier:
    """`draw_proof` is None while the claim is not on the chain as it was. `closed` says why nothing is left to do."""

    draw: Draw
    verdict: Verdict
    positions: int
    evidence: str
    draw_proof: DrawProof | None
    closed: str | None = None

    @property
    def worker(self) -> str:
        return self.draw.worker

    @property
    def request_id(self) -> bytes:
        return self.draw.leaf.request_id

    @property
    def receipt_digest(self) -> bytes:
        return self.draw.leaf.receipt_digest


def read_case(dossier: Dossier) -> Case:
    """What the verdict was given on, from the evidence file. Raises StoreError if that is not as it was written."""
    path = Path(dossier.evidence)
    try:
        stat = path.stat()
        return _read(path, stat.st_mtime_ns, dossier.draw)
    except OSError as error:
        raise StoreError(f"cannot read {path} ({error.strerror}): restore it from a backup") from error
    except (ProtocolError, KeyError, IndexError, TypeError, ValueError, msgpack.UnpackException) as error:
        raise StoreError(f"{path} is not as it was written: restore it from a backup") from error


@lru_cache(4)
def _read(path: Path, _changed_ns: int, draw: Draw) -> Case:
    kept: dict[str, Any] = msgpack.unpackb(path.read_bytes())
    entry = Entry.unpack(kept["claim"]["entries"][kept["entry"]])
    record, upstream = Record.unpack(kept["record"]), kept["upstream"]
    return Case(
        Drawn(draw.worker, entry.channel, draw.leaf),
        record,
        {},
        None if upstream is None else Record.unpack(upstream),
    )


def pack_draw(proof: DrawProof) -> bytes:
    packed: bytes = msgpack.packb(_plain(astuple(proof)))
    return packed


def unpack_draw(data: bytes) -> DrawProof:
    """The inverse of `pack_draw`."""
    (claim, entry, entries, groups, leaf), ends, point, demand = msgpack.unpackb(data, use_list=False)
    part = Part(int(claim), int(entry), entries, groups, _leaf(leaf))
    return DrawProof(part, tuple(map(_leaf, ends)), int(point), int(demand))


def _leaf(values: tuple[bytes, str, str, str, tuple[bytes, ...]]) -> BookLeaf:
    digest, before, end, index, proof = values
    return BookLeaf(digest, int(before), int(end), int(index), proof)


def _plain(value: object) -> object:
    """Amounts do not fit 64 bits."""
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, int) else value
