"""Bytes of operands of every kind: random ones, extremes, and rows that are large, small or zero as a whole."""

from __future__ import annotations

import struct
from random import Random

from efedllm.model.layout import Kind as Leaves
from efedllm.protocol.trace import Shape
from efedllm.protocol.trace_operand import (
    BodyLeaf,
    BodyRow,
    Gain,
    InputLeaf,
    InputRow,
    InputToken,
    MatrixRow,
    Operand,
    WeightLeaf,
)
from efedllm.protocol.trace_tensors import Exit, Kind, Layer, Program
from tests.support.steps.answers import EXP2, SIGMOID, pack_scale
from tests.support.steps.layouts import layout_of
from tests.support.steps.opened import HEADER

EDGES = {
    Kind.INT8: (-127, -1, 0, 1, 127),
    Kind.INT16: (-32639, -32512, -1, 0, 1, 32512, 32639),
    Kind.UINT16: (0, 1, 256),
    Kind.INT32: (-(2**31), 1 - 2**31, -(2**20), -1, 0, 1, 2**20, 2**31 - 1),
    Kind.UINT32: (0, 1, 2**24, 2**31),
    Kind.UINT64: (0, 1, 2**42),
}


class Dense(Random):
    """Draws whole rows of values as wide as they can be: what costs most as calldata."""


def number(rng: Random, kind: Kind) -> int:
    """An element: an edge, or random bits of a random length."""
    if isinstance(rng, Dense):
        return _wide(rng, kind)
    if kind in EDGES and rng.random() < 0.2:
        return rng.choice(EDGES[kind])
    match kind:
        case Kind.INT8:
            return rng.randint(-127, 127)
        case Kind.INT16:
            return rng.randint(-32639, 32639) >> rng.randrange(16)
        case Kind.UINT16:
            return rng.randint(0, 256)
        case Kind.INT32:
            return rng.randint(-(2**31), 2**31 - 1) >> rng.randrange(32)
        case Kind.UINT32:
            return rng.randint(1, 2**24) >> rng.randrange(24)
        case Kind.UINT64:
            return rng.randint(1, 2**42) >> rng.randrange(42)
        case Kind.SCALE:
            exponent = rng.choice((14, rng.randint(14, 40), rng.randint(14, 90)))
            scale = (rng.choice((2**14, 2**16 - 1, rng.randint(2**14, 2**16 - 1))), exponent)
            return pack_scale(rng.randint(1, 2**46 - 1) >> rng.randrange(46) or 1, scale)
        case Kind.CUT | Kind.SAMPLE:
            return rng.getrandbits(8 * kind.size)


def _wide(rng: Random, kind: Kind) -> int:
    match kind:
        case Kind.INT8:
            return rng.randint(-127, 127)
        case Kind.INT16:
            return rng.randint(-32512, 32512)
        case Kind.UINT16:
            return rng.randint(0, 256)
        case Kind.INT32:
            return rng.randint(-(2**31), 2**31 - 1)
        case Kind.UINT32:
            return rng.randint(1, 2**31)
        case Kind.UINT64:
            return rng.randint(1, 2**42)
        case Kind.SCALE:
            return pack_scale(rng.getrandbits(46) | 1, (rng.randint(2**14, 2**16 - 1), rng.randint(14, 40)))
        case Kind.CUT | Kind.SAMPLE:
            return rng.getrandbits(8 * kind.size)


def operand_bytes(rng: Random, shape: Shape, operand: Operand) -> bytes:
    match operand:
        case BodyLeaf(place):
            _, part, at = shape.find_leaf(place.segment, place.tensor, place.leaf)
            return elements(rng, part.kind, part.elements(at), _bound(shape, place.segment, place.tensor))
        case BodyRow(segment, tensor, _):
            bound = _bound(shape, segment, tensor)
            return b"".join(elements(rng, part.kind, part.count, bound) for part in shape.parts(segment, tensor))
        case InputToken():
            return rng.randbytes(4)
        case InputLeaf(_, leaf):
            return elements(rng, Kind.INT32, min(256, shape.model.hidden - 256 * leaf))
        case InputRow():
            return elements(rng, Kind.INT32, shape.model.hidden)
        case WeightLeaf() | MatrixRow() | Gain():
            return _weights(rng, shape, operand)


def _bound(shape: Shape, segment: int, tensor: int) -> int | None:
    """Past the largest element of tensors that are narrower than their kind."""
    match shape.program(segment), tensor:
        case Program.EXIT, Exit.DISTANCES:
            return 2**21
        case Program.EXIT, Exit.WEIGHTS:
            return 2**24 + 1
        case Program.LAYER, Layer.WEIGHTS:
            return 2**24 + 1
        case Program.LAYER, Layer.PROBABILITIES:
            return 2**14 + 1
    return None


def elements(rng: Random, kind: Kind, count: int, bound: int | None = None) -> bytes:
    """One distribution for all of them now and then, so that whole rows are large, small or zero."""
    alike = kind in EDGES and not isinstance(rng, Dense) and rng.random() < 0.15
    edge = rng.choice(EDGES[kind]) if alike else None
    values = [edge if edge is not None else number(rng, kind) for _ in range(count)]
    if bound is not None:
        values = [value % bound for value in values]
    signed = kind.label.startswith("int")
    return b"".join(value.to_bytes(kind.size, "little", signed=signed) for value in values)


def _weights(rng: Random, shape: Shape, operand: WeightLeaf | MatrixRow | Gain) -> bytes:
    spec = layout_of(shape.model).place(operand.name, 0).spec
    match spec.kind:
        case Leaves.MATRIX:
            scale = rng.choice((1, 2**20, rng.randint(1, 2**20)))
            header = HEADER.pack(scale, rng.choice((16, 60, rng.randint(16, 60))), spec.kind)
            count = spec.columns
            if isinstance(operand, WeightLeaf):
                count = min(1024, spec.columns - operand.index % spec.tiles * 1024)
            return header + elements(rng, Kind.INT8, count)
        case Leaves.GAIN:
            count = spec.columns
            if isinstance(operand, WeightLeaf):
                count = min(512, spec.columns - operand.index * 512)
            return HEADER.pack(0, rng.randint(0, 30), spec.kind) + elements(rng, Kind.INT16, count)
        case Leaves.ROTARY:
            values = [rng.choice((-(2**14), 2**14, rng.randint(-(2**14), 2**14))) for _ in range(spec.columns)]
            return HEADER.pack(0, 14, spec.kind) + struct.pack(f"<{spec.columns}h", *values)
    assert isinstance(operand, WeightLeaf)
    table = EXP2 if spec.kind is Leaves.EXP2 else SIGMOID
    entries = table[128 * operand.index : 128 * operand.index + 128]
    return HEADER.pack(0, 24, spec.kind) + b"".join(struct.pack("<ii", *entry) for entry in entries)
