"""What a verifier keeps: claims, draws, what was checked, evidence."""

from dataclasses import dataclass

from efedllm.protocol.claims import Entry
from efedllm.protocol.vouchers import Leaf

from .verdict import Fault, Verdict


@dataclass(frozen=True)
class Claim:
    """A claim that was mined in `block`. `seed` is None until its beacon is recorded."""

    worker: str
    index: int
    block: int
    transaction: bytes
    entries: tuple[Entry, ...]
    seed: bytes | None = None


@dataclass(frozen=True)
class Draw:
    """A drawn leaf; the first four fields are its place and its key."""

    worker: str
    claim: int
    entry: int
    leaf_index: int
    leaf: Leaf


@dataclass(frozen=True)
class About:
    """What a drawn receipt is about, once it was had: place in the path, layers such as "0:4", positions."""

    shard: int
    layers: str
    positions: int


@dataclass(frozen=True)
class Checked:
    """A drawn leaf with its latest verdict."""

    draw: Draw
    about: About | None
    verdict: Verdict
    evidence: str | None


@dataclass(frozen=True)
class Undrawn:
    """A claim's entry whose leaves could not be had."""

    worker: str
    claim: int
    entry: int
    verdict: Verdict


@dataclass(frozen=True)
class Evidence:
    """A file that proves a fault, and what it is about."""

    path: str
    sha256: bytes
    worker: str
    request_id: bytes
    receipt_digest: bytes
    claim: int
    block: int
    kind: Fault
    reason: str
