"""Operands that a valid trace could hold: random ones and extremes, with what an element needs of them."""

from __future__ import annotations

import struct
from random import Random

from efedllm.model.layout import Kind as Leaves
from efedllm.model.layout import Layout, TensorSpec
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Shape, Step
from efedllm.protocol.trace_operand import (
    BodyLeaf,
    BodyRow,
    Choice,
    Gain,
    InputLeaf,
    InputRow,
    InputToken,
    MatrixRow,
    Operand,
    WeightLeaf,
    sigmoid_leaf,
)
from efedllm.protocol.trace_operands import choice_of, operands
from efedllm.protocol.trace_tensors import DIGITS, Exit, Kind, Layer, Part, Program

from .answers import EXP2, SIGMOID, choice, draw, kept_weights, pack_scale, tile_count, tile_of
from .opened import HEADER, Opened

EDGES = {
    Kind.INT8: (-127, -1, 0, 1, 127),
    Kind.INT16: (-32639, -32512, -1, 0, 1, 32512, 32639),
    Kind.UINT16: (0, 1, 256),
    Kind.INT32: (-(2**31), 1 - 2**31, -(2**20), -1, 0, 1, 2**20, 2**31 - 1),
    Kind.UINT32: (0, 1, 2**24, 2**31),
    Kind.UINT64: (0, 1, 2**42),
}


def number(rng: Random, kind: Kind) -> int:
    """An element: an edge, or random bits of a random length."""
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


def filled(rng: Random, shape: Shape, sampling: Sampling, step: Step) -> Opened:
    """All operands of a step, in their order."""
    opened = Opened(shape, sampling, rng.randbytes(32), step)
    match choice_of(shape, sampling, step):
        case Choice.TOKEN:
            token = rng.randrange(shape.model.vocab)
            _fill(rng, opened, operands(shape, sampling, step, token))
            opened.data[InputToken(step.row)] = token.to_bytes(4, "little")
        case Choice.EXP2:
            _fill(rng, opened, operands(shape, sampling, step, None))
            _fill(rng, opened, operands(shape, sampling, step, choice(opened)))
        case Choice.SIGMOID:
            _fill(rng, opened, operands(shape, sampling, step, None))
            _, index = shape.find_element(step)
            leaf = sigmoid_leaf(opened.get(Layer.LINEAR_GATE, 0, index))
            _fill(rng, opened, operands(shape, sampling, step, leaf))
        case Choice.TILE:
            _fill_sample(rng, opened)
        case None:
            _fill(rng, opened, operands(shape, sampling, step))
    return opened


def _fill(rng: Random, opened: Opened, wanted: tuple[Operand, ...]) -> None:
    """Fills those that are not filled yet, and puts them in order."""
    known = opened.data
    opened.data = {one: known.get(one) or _bytes(rng, opened.shape, one) for one in wanted}
    if not known:
        _repair(rng, opened)


def _bytes(rng: Random, shape: Shape, operand: Operand) -> bytes:
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
    style = rng.random()
    edge = rng.choice(EDGES[kind]) if kind in EDGES and style < 0.15 else None
    values = [edge if edge is not None else number(rng, kind) for _ in range(count)]
    if bound is not None:
        values = [value % bound for value in values]
    signed = kind.label.startswith("int")
    return b"".join(value.to_bytes(kind.size, "little", signed=signed) for value in values)


def spec_of(shape: Shape, name: str, layout: Layout) -> TensorSpec:
    return layout.place(name, 0).spec


def _weights(rng: Random, shape: Shape, operand: WeightLeaf | MatrixRow | Gain) -> bytes:
    from .trial import layout_of

    layout = layout_of(shape.model)
    spec = spec_of(shape, operand.name, layout)
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


def _repair(rng: Random, opened: Opened) -> None:
    """What one operand of a valid trace has to be, given another."""
    part, index = opened.shape.find_element(opened.step)
    if not opened.data:
        return
    if opened.program is Program.LAYER:
        _repair_layer(rng, opened, part, index)
    elif opened.program is Program.EXIT:
        _repair_exit(rng, opened, part, index)


def _repair_layer(rng: Random, opened: Opened, part: int, index: int) -> None:
    model, blocks = opened.shape.model, opened.shape.blocks
    head, j = divmod(index, 256 * blocks)
    group = model.heads // model.kv_heads
    match opened.step.tensor:
        case Layer.KEY | Layer.VALUE if part == 1:
            opened.put(opened.step.tensor, 0, index // model.head_dim, _key_maximum(rng))
        case Layer.SCORES if j <= opened.step.row:
            opened.put(Layer.KEY, 0, head // group, _key_maximum(rng), j)
        case Layer.WEIGHTS if j <= opened.step.row:
            score = opened.get(Layer.SCORES, 0, index)
            distance = rng.choice((0, 1, (25 << 16) - 1, 25 << 16, rng.randrange(26 << 16), rng.randrange(2**31)))
            opened.put(Layer.MAXIMA, 1, head, min(2**31 - 1, score + distance))
        case Layer.PROBABILITIES:
            weight = opened.get(Layer.WEIGHTS, 0, index)
            m = opened.get(Layer.VALUE_BLOCKS, 0, head // group * 256 + j % 256, j // 256)
            a = (weight * m + 128) >> 8
            opened.put(Layer.LARGEST, 1, head, max(1, a, rng.choice((0, rng.getrandbits(47), 2 * a % 2**47))))
        case Layer.MIXED:
            largest = 1 + rng.getrandbits(47)
            total = max(1 + rng.getrandbits(41) // 2, (largest >> 20) + 1)
            opened.put(Layer.SUMS, 1, index // model.head_dim, total)
            opened.put(Layer.LARGEST, 1, index // model.head_dim, largest)


def _key_maximum(rng: Random) -> int:
    return rng.choice((1, 2**31, rng.randint(1, 2**31) >> rng.randrange(31) or 1))


def _repair_exit(rng: Random, opened: Opened, part: int, index: int) -> None:
    tensor = Exit(opened.step.tensor)
    if tensor is Exit.DISTANCES:
        below = rng.choice((0, 1, rng.getrandbits(16), rng.getrandbits(32)))
        opened.put(Exit.MAXIMA, 1, 0, min(2**31 - 1, opened.get(Exit.LOGITS, 0, index) + below))
    elif tensor in (Exit.COUNTS_1, Exit.COUNTS_2, Exit.MASSES_1, Exit.MASSES_2, Exit.TOP_K_1, Exit.TOP_K_2):
        _repair_cut(rng, opened, tensor, part, index)
    elif tensor in (Exit.TOP_K_0, Exit.TOP_P_0, Exit.TOP_P_1, Exit.TOP_P_2):
        _repair_cut(rng, opened, tensor, part, index)
    if tensor in (Exit.MASSES_0, Exit.MASSES_1, Exit.MASSES_2, Exit.SUMS) and part == 0:
        _repair_last(rng, opened)


def _repair_cut(rng: Random, opened: Opened, tensor: Exit, part: int, index: int) -> None:
    of_counts = tensor <= Exit.TOP_K_2
    level, is_cut = divmod(tensor - (Exit.COUNTS_0 if of_counts else Exit.MASSES_0), 2)
    if not is_cut:
        # Of some distance of the tile, so that the tile has something to count.
        tile = index % opened.shape.tiles
        at = tile * 256 + rng.randrange(tile_count(opened, tile))
        prefix = opened.get(Exit.DISTANCES, 0, at) >> (21 - 7 * level)
        opened.put(tensor - 1, 1, 0, prefix | rng.getrandbits(40) << 64 | rng.getrandbits(40) << 128)
    elif part == 1:
        at = rng.randrange(DIGITS)
        opened.put(tensor, 0, at, max(1, opened.get(tensor, 0, at), opened.sampling.topK if of_counts else 0))
        total = sum(opened.many(tensor, 0, 0, DIGITS))
        if level:
            before = rng.getrandbits(40 if tensor > Exit.TOP_K_2 else 18)
            target = before + rng.choice((1, total, rng.randint(1, total)))
            prefix = rng.getrandbits(7 * level)
            opened.put(tensor - 2, 1, 0, prefix | before << 64 | target << 128)


def _repair_last(rng: Random, opened: Opened) -> None:
    """The last cuts keep about half."""
    for tensor in (Exit.TOP_K_2, Exit.TOP_P_2):
        try:
            opened.put(tensor, 1, 0, rng.getrandbits(21) | rng.getrandbits(40) << 64 | rng.getrandbits(40) << 128)
        except KeyError:
            continue


def _fill_sample(rng: Random, opened: Opened) -> None:
    shape, sampling, step = opened.shape, opened.sampling, opened.step
    tiles = shape.tiles
    _fill(rng, opened, operands(shape, sampling, step, 0))
    first = opened.data
    if sampling.temperature == 0:
        opened.put(Exit.MAXIMA, 1, 0, max(opened.many(Exit.MAXIMA, 0, 0, tiles)))
        tile = tile_of(opened)
        largest = opened.get(Exit.MAXIMA, 1, 0)
        _fill(rng, opened, operands(shape, sampling, step, tile))
        at = [tile * 256 + i for i in range(tile_count(opened, tile))]
        for place in at:
            opened.put(Exit.LOGITS, 0, place, min(largest, opened.get(Exit.LOGITS, 0, place)))
        opened.put(Exit.LOGITS, 0, rng.choice(at), largest)
        return
    assert first
    opened.put(Exit.SUMS, 0, rng.randrange(tiles), 1 + rng.getrandbits(30))
    opened.put(Exit.SUMS, 1, 0, sum(opened.many(Exit.SUMS, 0, 0, tiles)))
    tile = tile_of(opened)
    _fill(rng, opened, operands(shape, sampling, step, tile))
    _repair_last(rng, opened)
    at = tile * 256 + rng.randrange(tile_count(opened, tile))
    opened.put(Exit.DISTANCES, 0, at, 0)
    opened.put(Exit.WEIGHTS, 0, at, 2**24)
    # The tile's sum is that of its kept weights, so that the drawn tile has the token; another tile may be drawn then.
    opened.put(Exit.SUMS, 0, tile, sum(kept_weights(opened, tile)))
    opened.put(Exit.SUMS, 1, 0, sum(opened.many(Exit.SUMS, 0, 0, tiles)))
    for _ in range(64):
        if tile_of(opened) == tile:
            return
        opened.seed = rng.randbytes(32)
    # A tile that is hardly ever drawn: leave only it.
    for other in range(tiles):
        if other != tile:
            opened.put(Exit.SUMS, 0, other, 0)
    opened.put(Exit.SUMS, 1, 0, opened.get(Exit.SUMS, 0, tile))


