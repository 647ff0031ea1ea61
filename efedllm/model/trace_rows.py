"""Rows of a trace's tensors as they are computed: their bytes, their roots, and what a liar makes of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from efedllm.protocol.merkle import EMPTY, HASH_BYTES, leaf_hash, node_hash
from efedllm.protocol.trace import Shape
from efedllm.protocol.trace_tensors import Kind, Part

Values = NDArray[Any]
Hashes = NDArray[np.uint8]

DTYPES: Mapping[Kind, np.dtype[Any]] = {
    Kind.INT8: np.dtype("|i1"),
    Kind.INT16: np.dtype("<i2"),
    Kind.UINT16: np.dtype("<u2"),
    Kind.INT32: np.dtype("<i4"),
    Kind.UINT32: np.dtype("<u4"),
    Kind.UINT64: np.dtype("<u8"),
    Kind.SCALE: np.dtype([("largest", "<u8"), ("m", "<u4"), ("e", "<i4")]),
    Kind.CUT: np.dtype([("prefix", "<u4"), ("zero", "<u4"), ("before", "<u8"), ("target", "<u8")]),
    Kind.SAMPLE: np.dtype([("token", "<u4"), ("tile", "<u4"), ("rest", "<u8")]),
}


@dataclass(frozen=True)
class Lie:
    """How a trace is made to differ from the truth; for tests, and for whoever wants to know what would happen.

    alter(segment, tensor, part, first, values): changes values [rows, count] of rows `first ..` of a part in place. It
    is called for every part that is computed, also again for one row, and has to do the same every time.
    is_consistent: everything later is computed from the altered values; else they are only shown.
    """

    alter: Callable[[int, int, int, int, Values], None]
    is_consistent: bool = True


@dataclass(frozen=True)
class Blank:
    """Leaves of a part that hold the same constant in all of its rows. mask: bool [leaves]; data: bytes of each."""

    mask: NDArray[np.bool_]
    data: bytes


class Rows:
    """Takes the rows of a segment's tensors part by part, in the order in which they are computed."""

    def __init__(self, shape: Shape, segment: int, lie: Lie | None) -> None:
        self.shape = shape
        self.segment = segment
        self.lie = lie

    @property
    def is_altered(self) -> bool:
        """Whether later values may follow from values that no computation gives."""
        return self.lie is not None and self.lie.is_consistent

    def put(self, tensor: int, part: int, first: int, values: Tensor, blank: Blank | None = None) -> Tensor:
        """Integers of rows `first ..` of a part, [rows, ...] -> those that everything later is computed from."""
        kind = self.shape.parts(self.segment, tensor)[part].kind
        wire = values.reshape(len(values), -1).contiguous().numpy()
        if wire.dtype != DTYPES[kind]:
            same_size = wire.dtype.kind == "i" and wire.dtype.itemsize == kind.size
            wire = wire.view(DTYPES[kind]) if same_size else wire.astype(DTYPES[kind])
        used = self.put_array(tensor, part, first, wire, blank)
        if not self.is_altered:
            return values
        return torch.from_numpy(used.astype(np.int64)).to(values.dtype).view(values.shape)

    def put_scales(
        self, tensor: int, first: int, largest: Tensor, m: Tensor, e: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scales are always part 0. largest, m, e: int64 [rows] or [rows, heads] -> those to compute with."""
        fields = {"largest": largest, "m": m, "e": e}
        wire = np.empty((len(m), m[0].numel()), DTYPES[Kind.SCALE])
        for name, values in fields.items():
            wire[name] = values.reshape(wire.shape).numpy()
        used = self.put_array(tensor, 0, first, wire)
        if not self.is_altered:
            return largest, m, e
        altered = [torch.from_numpy(used[name].astype(np.int64)).view(m.shape) for name in fields]
        return altered[0].clamp_(1, 2**48 - 1), altered[1], altered[2]

    def put_array(self, tensor: int, part: int, first: int, values: Values, blank: Blank | None = None) -> Values:
        """values: [rows, count] as they are on the wire -> those that everything later is computed from."""
        shown = values
        if self.lie is not None:
            shown = values.copy()
            self.lie.alter(self.segment, tensor, part, first, shown)
            blank = None  # what was constant may not be so any more
        self._take(tensor, part, first, shown, blank)
        return shown if self.is_altered else values

    def _take(self, tensor: int, part: int, first: int, values: Values, blank: Blank | None) -> None:
        """Nothing is kept: whoever needs only later values."""


class RowRoots(Rows):
    """Keeps the root of every row. roots: uint8 [tensors, positions, 32], zero where no row has been put."""

    def __init__(self, shape: Shape, segment: int, lie: Lie | None, roots: Hashes) -> None:
        super().__init__(shape, segment, lie)
        self._roots = roots
        self._pending: list[Hashes] = []  # leaf hashes of the parts of a tensor that is not complete yet

    def _take(self, tensor: int, part: int, first: int, values: Values, blank: Blank | None) -> None:
        parts = self.shape.parts(self.segment, tensor)
        assert part == len(self._pending), "parts come in order"
        self._pending.append(part_hashes(values, parts[part], blank))
        if part == len(parts) - 1:
            hashes = self._pending[0] if part == 0 else np.concatenate(self._pending, axis=1)
            self._roots[tensor, first : first + len(values)] = row_roots(hashes)
            self._pending = []


class OneRow(Rows):
    """Keeps the bytes of a single row of one tensor."""

    def __init__(self, shape: Shape, segment: int, lie: Lie | None, tensor: int) -> None:
        super().__init__(shape, segment, lie)
        self._tensor = tensor
        self.data = b""

    def _take(self, tensor: int, part: int, first: int, values: Values, blank: Blank | None) -> None:
        if tensor == self._tensor:
            assert len(values) == 1, "one row at a time"
            self.data += values.tobytes()


def part_hashes(values: Values, part: Part, blank: Blank | None = None) -> Hashes:
    """Leaf hashes of the rows of a part. values: [rows, count] -> uint8 [rows, leaves, 32]."""
    data = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
    size = part.per_leaf * part.kind.size
    rows, full = len(data), data.shape[1] // size
    out = np.empty((rows, part.leaves, HASH_BYTES), np.uint8)
    if full:
        cut = data[:, : full * size].reshape(rows, full, size)
        if blank is None:
            out[:, :full] = _digests(b"\x00", cut).reshape(rows, full, HASH_BYTES)
        else:
            known = blank.mask[:full]
            count = full - int(known.sum())
            out[:, :full][:, known] = np.frombuffer(leaf_hash(blank.data), np.uint8)
            out[:, :full][:, ~known] = _digests(b"\x00", cut[:, ~known]).reshape(rows, count, HASH_BYTES)
    if full < part.leaves:
        out[:, full] = _digests(b"\x00", data[:, full * size :])
    return out


def row_roots(hashes: Hashes) -> Hashes:
    """Roots of the padded trees over each row's leaf hashes. uint8 [rows, leaves, 32] -> [rows, 32]."""
    padding = EMPTY
    while (count := hashes.shape[1]) > 1:
        if count % 2:
            last = np.broadcast_to(np.frombuffer(padding, np.uint8), (len(hashes), 1, HASH_BYTES))
            hashes = np.concatenate((hashes, last), axis=1)
        pairs = hashes.reshape(len(hashes), -1, 2 * HASH_BYTES)
        hashes = _digests(b"\x01", pairs).reshape(len(hashes), -1, HASH_BYTES)
        padding = node_hash(padding, padding)
    return hashes[:, 0]


def _digests(tag: bytes, items: NDArray[np.uint8]) -> Hashes:
    """`sha256(tag || item)`. items: [..., width] -> [items, 32]."""
    # One bytes object per item, made by the library in one go, with its tag in front: what a trace waits for.
    width = items.shape[-1]
    tagged = np.empty((items.size // max(1, width), width + 1), np.uint8)
    tagged[:, 0] = tag[0]
    tagged[:, 1:] = items.reshape(-1, width)
    digests = b"".join([sha256(item).digest() for item in tagged.view(f"V{width + 1}").ravel().tolist()])
    return np.frombuffer(digests, np.uint8).reshape(-1, HASH_BYTES)
