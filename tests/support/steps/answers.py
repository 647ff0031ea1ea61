"""What an element has to be, given its operands: docs/trace.md in plain integers, with the reference's functions."""

from __future__ import annotations

import struct
from hashlib import sha256

from efedllm.numerics import reference as ref
from efedllm.numerics.tables import exp2_table, sigmoid_table
from efedllm.protocol.trace_operand import exp2_leaf, has_top_k, has_top_p
from efedllm.protocol.trace_tensors import BLOCK, DIGITS, TILE, Exit, Layer, Program
from tests.support.steps.opened import RESIDUAL, Opened

EXP2, SIGMOID = exp2_table(), sigmoid_table()


def answer(opened: Opened) -> int:
    """The element as the number that its little-endian bytes are."""
    part, index = opened.shape.find_element(opened.step)
    match opened.program:
        case Program.ENTRY:
            data, (scale, exponent, _) = opened.weight("embedding")
            value = ref.embed(0, [[_int8(data, index % 1024)]], [scale], exponent)[0]
            size = 4
        case Program.LAYER:
            value = _layer(opened, Layer(opened.step.tensor), part, index)
            size = opened.part(opened.step.tensor, part).kind.size
        case Program.EXIT:
            value = _exit(opened, Exit(opened.step.tensor), part, index)
            size = opened.part(opened.step.tensor, part).kind.size
    return value % (1 << 8 * size)


def pack_scale(largest: int, scale: ref.Scale) -> int:
    m, e = scale
    return largest | m << 64 | e % (1 << 32) << 96


def read_scale(value: int) -> tuple[int, ref.Scale]:
    e = value >> 96
    return value % (1 << 64), (value >> 64 & 0xFFFFFFFF, e - (1 << 32) if e >> 31 else e)


def exp2neg(distance: int) -> int:
    return ref.exp2neg(distance, EXP2)


def _int8(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 1], "little", signed=True)


def _quantised(value: int, limit: int, largest: int) -> int:
    """`q` of one value of a vector with that maximum."""
    t = max(0, largest.bit_length() - 32)
    den = largest >> t
    return (2 * limit * (value >> t) + den) // (2 * den)


def _largest(values: list[int]) -> int:
    return max(1, *(abs(value) for value in values))


def _norm(opened: Opened, source: int, gain: str, part: int, index: int) -> int:
    data, (_, exponent, _) = opened.weight(gain)
    hidden = opened.shape.model.hidden
    if part == 0:
        x = opened.many(source, 0, 0, hidden)
        gains = list(struct.unpack(f"<{hidden}h", data))
        _, scale = ref.norm(x, gains, exponent, opened.shape.model.epsilon)
        return pack_scale(_largest([a * b for a, b in zip(x, gains, strict=True)]), scale)
    at = 2 * (index % 512)
    value = opened.get(source, 0, index) * int.from_bytes(data[at : at + 2], "little", signed=True)
    largest, _ = read_scale(opened.get(opened.step.tensor, 0, 0))
    return _quantised(value, ref.ACTIVATION, largest)


def _quantise(opened: Opened, source: int, part: int, index: int) -> int:
    if part == 0:
        row = opened.many(source, 0, 0, opened.part(source, 0).count)
        return pack_scale(_largest(row), ref.quantise_row(row)[1])
    largest, _ = read_scale(opened.get(opened.step.tensor, 0, 0))
    return _quantised(opened.get(source, 0, index), ref.ACTIVATION, largest)


def _linear(opened: Opened, source: int, matrix: str) -> int:
    data, (row_scale, exponent, _) = opened.weight(matrix)
    _, scale = read_scale(opened.get(source, 0, 0))
    q = opened.many(source, 1, 0, opened.part(source, 1).count)
    return ref.linear(q, scale, [struct.unpack(f"<{len(data)}b", data)], [row_scale], exponent)[0]


def _rotary(opened: Opened, source: int, index: int) -> int:
    head_dim = opened.shape.model.head_dim
    head, i = index - index % head_dim, index % head_dim
    pair = i % (head_dim // 2)
    data, _ = opened.weight("rotary")
    turn = struct.unpack(f"<{head_dim}h", data)
    a, b = (opened.get(source, 0, head + at) for at in (pair, pair + head_dim // 2))
    turned = ref.rotary([a, b], [turn[pair], turn[pair + head_dim // 2]])
    return turned[i >= head_dim // 2]


def _heads(opened: Opened, source: int, part: int, index: int) -> int:
    head_dim, tensor = opened.shape.model.head_dim, opened.step.tensor
    is_query = tensor == Layer.QUERY
    if part == 0:
        head = opened.many(source, 0, index * head_dim, head_dim)
        return pack_scale(_largest(head), ref.quantise_query(head)[1]) if is_query else _largest(head)
    largest = opened.get(tensor, 0, index // head_dim)
    if is_query:
        largest, _ = read_scale(largest)
    return _quantised(opened.get(source, 0, index), ref.ACTIVATION if is_query else ref.CACHED, largest)


def _layer(opened: Opened, tensor: Layer, part: int, index: int) -> int:
    match tensor:
        case Layer.ATTENTION_NORM:
            return _norm(opened, RESIDUAL, "attention_norm", part, index)
        case Layer.LINEAR_Q | Layer.LINEAR_K | Layer.LINEAR_V:
            return _linear(opened, Layer.ATTENTION_NORM, "qkv"[tensor - 1])
        case Layer.ROTARY_Q | Layer.ROTARY_K:
            return _rotary(opened, tensor - 3, index)
        case Layer.QUERY | Layer.KEY:
            return _heads(opened, tensor - 2, part, index)
        case Layer.VALUE:
            return _heads(opened, Layer.LINEAR_V, part, index)
        case Layer.QUANTISE_MIXED | Layer.QUANTISE_SWIGLU:
            return _quantise(opened, tensor - 1, part, index)
        case Layer.LINEAR_O:
            return _linear(opened, Layer.QUANTISE_MIXED, "o")
        case Layer.ADD_ATTENTION:
            return ref.add([opened.get(RESIDUAL, 0, index)], [opened.get(Layer.LINEAR_O, 0, index)])[0]
        case Layer.MLP_NORM:
            return _norm(opened, Layer.ADD_ATTENTION, "mlp_norm", part, index)
        case Layer.LINEAR_GATE | Layer.LINEAR_UP:
            return _linear(opened, Layer.MLP_NORM, "gate" if tensor is Layer.LINEAR_GATE else "up")
        case Layer.SWIGLU:
            gate, up = opened.get(Layer.LINEAR_GATE, 0, index), opened.get(Layer.LINEAR_UP, 0, index)
            return ref.swiglu([gate], [up], SIGMOID)[0]
        case Layer.LINEAR_DOWN:
            return _linear(opened, Layer.QUANTISE_SWIGLU, "down")
        case Layer.ADD_MLP:
            return ref.add([opened.get(Layer.ADD_ATTENTION, 0, index)], [opened.get(Layer.LINEAR_DOWN, 0, index)])[0]
        case _:
            return _attention(opened, tensor, part, index)


def _attention(opened: Opened, tensor: Layer, part: int, index: int) -> int:
    model, blocks, row = opened.shape.model, opened.shape.blocks, opened.step.row
    head_dim, group = model.head_dim, model.heads // model.kv_heads
    head, j = divmod(index, BLOCK * blocks)
    match tensor:
        case Layer.VALUE_BLOCKS:
            position = row * BLOCK + index % BLOCK
            if position >= opened.shape.positions:
                return 0
            return opened.get(Layer.VALUE, part, index // BLOCK, position)
        case Layer.SCORES:
            if j > row:
                return -(2**31)
            _, scale = read_scale(opened.get(Layer.QUERY, 0, head))
            query = opened.many(Layer.QUERY, 1, head * head_dim, head_dim)
            key = opened.many(Layer.KEY, 1, head // group * head_dim, head_dim, j)
            return ref.scores(query, scale, [key], [opened.get(Layer.KEY, 0, head // group, j)])[0]
        case Layer.WEIGHTS:
            if j > row:
                return 0
            return exp2neg(opened.get(Layer.MAXIMA, 1, head) - opened.get(Layer.SCORES, 0, index))
        case Layer.MAXIMA | Layer.SUMS | Layer.LARGEST if part == 1:
            of_head = opened.many(tensor, 0, index * blocks, blocks)
            if tensor is Layer.SUMS:
                return sum(of_head)
            return max(of_head) if tensor is Layer.MAXIMA else max(1, *of_head)
        case Layer.MAXIMA:
            return max(opened.many(Layer.SCORES, 0, index * BLOCK, BLOCK))
        case Layer.SUMS:
            return sum(opened.many(Layer.WEIGHTS, 0, index * BLOCK, BLOCK))
        case Layer.LARGEST:
            head, block = divmod(index, blocks)
            weights = opened.many(Layer.WEIGHTS, 0, index * BLOCK, BLOCK)
            maxima = opened.many(Layer.VALUE_BLOCKS, 0, head // group * BLOCK, BLOCK, block)
            return max(ref.rr(w * m, 8) for w, m in zip(weights, maxima, strict=True))
        case Layer.PROBABILITIES:
            m = opened.get(Layer.VALUE_BLOCKS, 0, head // group * BLOCK + j % BLOCK, j // BLOCK)
            a = ref.rr(opened.get(Layer.WEIGHTS, 0, index) * m, 8)
            return _quantised(a, ref.PROBABILITY, opened.get(Layer.LARGEST, 1, head))
        case Layer.PARTIAL_SUMS:
            above, block = divmod(index, blocks)
            head, i = divmod(above, head_dim)
            p = opened.many(Layer.PROBABILITIES, 0, (head * blocks + block) * BLOCK, BLOCK)
            first = (head // group * head_dim + i) * BLOCK
            return ref.dot(p, opened.many(Layer.VALUE_BLOCKS, 1, first, BLOCK, block))
        case Layer.MIXED:
            head = index // head_dim
            total, largest = opened.get(Layer.SUMS, 1, head), opened.get(Layer.LARGEST, 1, head)
            m, e = ref.scale_of(largest, ref.CACHED * total)
            return ref.sat32(ref.rr(sum(opened.many(Layer.PARTIAL_SUMS, 0, index * blocks, blocks)) * m, e + 6))
    raise AssertionError(tensor)


def tile_count(opened: Opened, tile: int) -> int:
    return min(TILE, opened.shape.model.vocab - tile * TILE)


def _tile(opened: Opened, tensor: int, tile: int) -> list[int]:
    return opened.many(tensor, 0, tile * TILE, tile_count(opened, tile))


def kept_weights(opened: Opened, tile: int) -> list[int]:
    """Of a tile, 0 for those that a cut drops."""
    ends = [1 << 32]
    if has_top_k(opened.shape.model, opened.sampling):
        ends.append(opened.get(Exit.TOP_K_2, 1, 0) & 0xFFFFFFFF)
    if has_top_p(opened.sampling):
        ends.append(opened.get(Exit.TOP_P_2, 1, 0) & 0xFFFFFFFF)
    pairs = zip(_tile(opened, Exit.DISTANCES, tile), _tile(opened, Exit.WEIGHTS, tile), strict=True)
    return [w if z <= min(ends) else 0 for z, w in pairs]


def draw(opened: Opened, total: int) -> int:
    digest = sha256(opened.seed + (opened.step.row + 1).to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") * total >> 256


def tile_of(opened: Opened) -> int:
    """The tile of a sample, from the first of its operands."""
    tiles = opened.shape.tiles
    if opened.sampling.temperature == 0:
        return opened.many(Exit.MAXIMA, 0, 0, tiles).index(opened.get(Exit.MAXIMA, 1, 0))
    return _first_above(opened.many(Exit.SUMS, 0, 0, tiles), draw(opened, opened.get(Exit.SUMS, 1, 0)))[0]


def _first_above(values: list[int], rest: int) -> tuple[int, int]:
    for at, value in enumerate(values):
        if value > rest:
            return at, rest
        rest -= value
    raise AssertionError("a draw below the sum has a place")


def _exit(opened: Opened, tensor: Exit, part: int, index: int) -> int:
    sampling, tiles = opened.sampling, opened.shape.tiles
    if tensor is Exit.FINAL_NORM:
        return _norm(opened, RESIDUAL, "final_norm", part, index)
    if tensor is Exit.LOGITS:
        return _linear(opened, Exit.FINAL_NORM, "head")
    if tensor is Exit.MAXIMA:
        return max(opened.many(tensor, 0, 0, tiles) if part else _tile(opened, Exit.LOGITS, index))
    if tensor is Exit.SAMPLE:
        return _sample(opened)
    if sampling.temperature == 0:
        return 0
    if tensor is Exit.DISTANCES:
        below = opened.get(Exit.MAXIMA, 1, 0) - opened.get(Exit.LOGITS, 0, index)
        return min(ref.rr(below * (ref.LOG2_E // sampling.temperature), 16), 2**21 - 1)
    if tensor is Exit.WEIGHTS:
        return exp2neg(opened.get(Exit.DISTANCES, 0, index))
    if tensor is Exit.SUMS:
        return sum(opened.many(tensor, 0, 0, tiles)) if part else sum(kept_weights(opened, index))
    if tensor <= Exit.TOP_K_2:
        return _cut(opened, tensor, part, index) if has_top_k(opened.shape.model, sampling) else 0
    return _cut(opened, tensor, part, index) if has_top_p(sampling) else 0


def _cut(opened: Opened, tensor: Exit, part: int, index: int) -> int:
    """Histograms, their sums and cuts; of counts from 5 on, of masses from 11 on."""
    of_counts = tensor <= Exit.TOP_K_2
    level, is_cut = divmod(tensor - (Exit.COUNTS_0 if of_counts else Exit.MASSES_0), 2)
    tiles = opened.shape.tiles
    if is_cut and part == 0:
        return sum(opened.many(tensor - 1, 0, index * tiles, tiles))
    shift = 14 - 7 * level
    prefix, before, target = 0, 0, opened.sampling.topK
    if level:
        cut = opened.get(tensor - (2 if is_cut else 1), 1, 0)
        prefix, before, target = cut & 0xFFFFFFFF, cut >> 64 & (1 << 64) - 1, cut >> 128
    if is_cut:
        sums = opened.many(tensor, 0, 0, DIGITS)
        if not of_counts and not level:
            target = -(-opened.sampling.topP * sum(sums) // 65536)
        for digit, value in enumerate(sums):
            if before + value >= target:
                return (prefix << 7 | digit) | before << 64 | target << 128
            before += value
        raise AssertionError("a cut's target is reached")
    digit, tile = divmod(index, tiles)
    wanted = prefix << 7 | digit
    distances = _tile(opened, Exit.DISTANCES, tile)
    if of_counts:
        return sum(z >> shift == wanted for z in distances)
    last = opened.get(Exit.TOP_K_2, 1, 0) & 0xFFFFFFFF if has_top_k(opened.shape.model, opened.sampling) else 1 << 32
    pairs = zip(distances, _tile(opened, Exit.WEIGHTS, tile), strict=True)
    return sum(w for z, w in pairs if z >> shift == wanted and z <= last)


def _sample(opened: Opened) -> int:
    tile = tile_of(opened)
    if opened.sampling.temperature == 0:
        token = _tile(opened, Exit.LOGITS, tile).index(opened.get(Exit.MAXIMA, 1, 0))
        return (tile * TILE + token) | tile << 32
    sums = opened.many(Exit.SUMS, 0, 0, opened.shape.tiles)
    _, rest = _first_above(sums, draw(opened, opened.get(Exit.SUMS, 1, 0)))
    token, _ = _first_above(kept_weights(opened, tile), rest)
    return (tile * TILE + token) | tile << 32 | rest << 64


def choice(opened: Opened) -> int | None:
    """The number that `choice_of` asks for an element of weights or SwiGLU, from the operands opened so far."""
    _, index = opened.shape.find_element(opened.step)
    if opened.program is Program.EXIT:
        return exp2_leaf(opened.get(Exit.DISTANCES, 0, index))
    head = index // (BLOCK * opened.shape.blocks)
    return exp2_leaf(opened.get(Layer.MAXIMA, 1, head) - opened.get(Layer.SCORES, 0, index))
