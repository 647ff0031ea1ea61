"""Operands that a valid trace could hold: what one of them has to be, given the others."""

from __future__ import annotations

from random import Random

from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Shape, Step
from efedllm.protocol.trace_operand import Choice, InputToken, Operand, sigmoid_leaf
from efedllm.protocol.trace_operands import choice_of, operands
from efedllm.protocol.trace_tensors import DIGITS, Exit, Layer, Program
from tests.support.steps.answers import choice, kept_weights, tile_count, tile_of
from tests.support.steps.opened import Opened
from tests.support.steps.values import operand_bytes


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
    opened.data = {one: known.get(one) or operand_bytes(rng, opened.shape, one) for one in wanted}
    if not known:
        _repair(rng, opened)


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
    elif Exit.TOP_K_0 <= tensor <= Exit.TOP_P_2 and tensor is not Exit.MASSES_0:
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
    opened.put(Exit.SUMS, 0, rng.randrange(tiles), 1 + rng.getrandbits(30))
    opened.put(Exit.SUMS, 1, 0, sum(opened.many(Exit.SUMS, 0, 0, tiles)))
    tile = tile_of(opened)
    _fill(rng, opened, operands(shape, sampling, step, tile))
    _repair_last(rng, opened)
    token = tile * 256 + rng.randrange(tile_count(opened, tile))
    opened.put(Exit.DISTANCES, 0, token, 0)
    opened.put(Exit.WEIGHTS, 0, token, 2**24)
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
