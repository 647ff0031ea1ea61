"""The twin of StepVerifier in plain Python: judges one element of a trace from the bytes of its openings alone.

It knows the case (`efedllm.protocol.trace_case`), where operands lie (`trace_operands`) and the integer reference, no
weights and no torch. Every opening is checked against the root that commits to it before it is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from efedllm.numerics import reference as ref
from efedllm.protocol.hash_tree import Opening, root_above
from efedllm.protocol.merkle import LEAF_BYTES, depth_of, leaf_hash, tree_root
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.trace import Step
from efedllm.protocol.trace_case import Case
from efedllm.protocol.trace_elements import Element, unpack
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
    draw,
    exp2_leaf,
    has_top_k,
    has_top_p,
    sigmoid_leaf,
)
from efedllm.protocol.trace_operands import choice_of, operands
from efedllm.protocol.trace_tensors import BLOCK, TILE, Exit, Kind, Layer, Program

HEADER = Struct("<IHH")
MATRIX, GAIN, ROTARY, EXP2, SIGMOID = 1, 2, 3, 4, 5
LOWEST = -(2**31)


class Refused(Exception):
    """The leaf or an opening proves nothing."""


def is_wrong(case: Case, step: Step, leaf: bytes, openings: Sequence[Opening]) -> bool:
    """Whether an element is not what its operands give. Raises Refused, or ProtocolError for an unknown step."""
    shape = case.shape
    part, at = shape.find_element(step)
    kind = shape.parts(step.segment, step.tensor)[part].kind
    if len(leaf) != shape.leaf_bytes(step.segment, step.tensor, step.leaf):
        raise Refused(f"a leaf of {len(leaf)} bytes")
    claimed = unpack(kind, leaf)[step.element]
    judge = _Judge(case, step, openings)
    right = judge.value(part, at)
    judge.check_all_used()
    return claimed != right


class _Judge:
    """Reads openings one after the other; each is checked when it is read."""

    def __init__(self, case: Case, step: Step, openings: Sequence[Opening]) -> None:
        self._case = case
        self._shape = case.shape
        self._model = case.shape.model
        self._step = step
        self._openings = openings
        # Until a value tells, any choice does: what it decides comes after the operand with that value.
        self._wanted = self._list(None if self._asked() in (Choice.EXP2, Choice.SIGMOID) else 0)
        self._at = 0

    def check_all_used(self) -> None:
        if self._at != len(self._openings) or self._at != len(self._wanted):
            raise Refused(f"{len(self._openings)} openings where {self._at} are needed")

    # ── openings ────────────────────────────────────────────────────────────

    def _list(self, choice: int | None) -> tuple[Operand, ...]:
        return operands(self._shape, self._case.sampling, self._step, choice)

    def _asked(self) -> Choice | None:
        return choice_of(self._shape, self._case.sampling, self._step)

    def _choose(self, choice: int | None) -> bool:
        """From here on operands lie where a value says; whether there are any more."""
        self._wanted = self._list(choice)
        return len(self._wanted) > self._at

    def _next(self) -> tuple[Operand, bytes]:
        if self._at >= min(len(self._openings), len(self._wanted)):
            raise Refused(f"{len(self._openings)} openings are not enough")
        operand, opening = self._wanted[self._at], self._openings[self._at]
        self._at += 1
        self._check(operand, opening)
        return operand, opening.data

    def _check(self, operand: Operand, opening: Opening) -> None:
        root, word, path, depth = self._lies(operand, opening.data)
        try:
            found = root_above(word, path, opening.siblings)
        except ValueError as error:
            raise Refused(str(error)) from error
        if len(opening.siblings) != depth or found != root:
            raise Refused(f"operand {self._at - 1} does not lead to its root")

    def _lies(self, operand: Operand, data: bytes) -> tuple[bytes, bytes, int, int]:
        """Root, hash, path and depth of what an operand is."""
        shape, case = self._shape, self._case
        positions = depth_of(shape.positions)
        row_leaves = -(-self._model.hidden * 4 // LEAF_BYTES)
        match operand:
            case BodyLeaf(place):
                _length(data, shape.leaf_bytes(place.segment, place.tensor, place.leaf))
                node = shape.leaf_node(place)
                return case.body_root, leaf_hash(data), node.path, node.depth
            case BodyRow(segment, tensor, row):
                _length(data, shape.row_bytes(segment, tensor))
                hashes, offset = [], 0
                for at in range(shape.leaves(segment, tensor)):
                    size = shape.leaf_bytes(segment, tensor, at)
                    hashes.append(leaf_hash(data[offset : offset + size]))
                    offset += size
                node = shape.row_node(segment, tensor, row)
                return case.body_root, tree_root(hashes), node.path, node.depth
            case InputToken(position):
                _length(data, 4)
                return case.input_root, leaf_hash(data), position, positions
            case InputRow(position):
                _length(data, self._model.hidden * 4)
                return case.input_root, tree_root(_cut(b"", data)), position, positions
            case InputLeaf(position, at):
                _length(data, min(LEAF_BYTES, self._model.hidden * 4 - at * LEAF_BYTES))
                depth = depth_of(row_leaves)
                return case.input_root, leaf_hash(data), position << depth | at, positions + depth
            case MatrixRow(name, row):
                spot = _spot(self._model, name)
                _length(data, HEADER.size + spot.columns)
                _kind(data, MATRIX)
                path, depth = spot.below(row, spot.rows)
                return self._model.weights_root, tree_root(_cut(data[:8], data[8:])), path, depth
            case Gain(name):
                spot = _spot(self._model, name)
                _length(data, HEADER.size + 2 * spot.columns)
                _kind(data, GAIN)
                return self._model.weights_root, tree_root(_cut(data[:8], data[8:])), *spot.below(0, 1)
            case WeightLeaf(name, at):
                return self._model.weights_root, leaf_hash(data), *self._weight_leaf(name, at, data)

    def _weight_leaf(self, name: str, at: int, data: bytes) -> tuple[int, int]:
        spot = _spot(self._model, name)
        kinds = {"rotary": ROTARY, "exp2": EXP2, "sigmoid": SIGMOID, "embedding": MATRIX}
        kind = kinds.get(name, GAIN)
        if kind == MATRIX:
            tiles = -(-spot.columns // LEAF_BYTES)
            row, tile = divmod(at, tiles)
            size = min(LEAF_BYTES, spot.columns - tile * LEAF_BYTES)
            path, depth = spot.below(row, spot.rows)
            path, depth = path << depth_of(tiles) | tile, depth + depth_of(tiles)
        elif kind == GAIN:
            leaves = -(-2 * spot.columns // LEAF_BYTES)
            size = min(LEAF_BYTES, 2 * spot.columns - at * LEAF_BYTES)
            path, depth = spot.below(at, leaves)
        else:
            size = 2 * spot.columns if kind == ROTARY else LEAF_BYTES
            path, depth = spot.below(at, spot.rows if kind == ROTARY else spot.rows * 8 // LEAF_BYTES)
        _length(data, HEADER.size + size)
        _kind(data, kind)
        return path, depth

    # ── reading ─────────────────────────────────────────────────────────────

    def _leaf(self) -> list[Element]:
        """All elements of the next body or input leaf."""
        operand, data = self._next()
        if isinstance(operand, InputLeaf):
            return unpack(Kind.INT32, data)
        assert isinstance(operand, BodyLeaf)
        return unpack(self._kind_of(operand), data)

    def _kind_of(self, operand: BodyLeaf) -> Kind:
        return self._shape.find_leaf(*operand.place[:2], operand.place.leaf)[1].kind

    def _element(self, index: int) -> Element:
        """Element `index` of its part, from the next leaf."""
        elements = self._leaf()
        operand = self._wanted[self._at - 1]
        kind = self._kind_of(operand) if isinstance(operand, BodyLeaf) else Kind.INT32
        return elements[index % (LEAF_BYTES // kind.size)]

    def _integer(self, index: int) -> int:
        return self._element(index)[0]

    def _integers(self, first: int, count: int) -> list[int]:
        """Elements `first .. first + count` of their part, from as many leaves as hold them."""
        values, at = [], first
        while at < first + count:
            elements = self._leaf()
            operand = self._wanted[self._at - 1]
            assert isinstance(operand, BodyLeaf)
            per_leaf = LEAF_BYTES // self._kind_of(operand).size
            inside = at % per_leaf
            part = elements[inside : inside + first + count - at]
            values.extend(value for (value,) in part)
            at += len(part)
        return values

    def _tile(self) -> list[int]:
        return [value for (value,) in self._leaf()]

    def _residual_row(self) -> list[int]:
        return [value for (value,) in unpack(Kind.INT32, self._next()[1])]

    def _quantised_row(self) -> tuple[list[int], ref.Scale]:
        """A row of a scale and int16."""
        _, data = self._next()
        ((_, m, e),) = unpack(Kind.SCALE, data[:16])
        return [value for (value,) in unpack(Kind.INT16, data[16:])], (m, e)

    def _gain(self) -> tuple[list[int], int]:
        """A gain, or a leaf of it, and its exponent."""
        _, data = self._next()
        _, exponent, _ = HEADER.unpack(data[:8])
        return [value for (value,) in unpack(Kind.INT16, data[8:])], exponent

    def _matrix_row(self) -> tuple[list[int], int, int]:
        """A row of a matrix, or a leaf of it, with its scale and exponent."""
        _, data = self._next()
        scale, exponent, _ = HEADER.unpack(data[:8])
        return [value for (value,) in unpack(Kind.INT8, data[8:])], scale, exponent

    def _table(self, leaf: int | None, size: int) -> list[tuple[int, int]]:
        """A table of which only the leaf that is read is known."""
        table = [(0, 0)] * size
        if self._choose(leaf):
            assert leaf is not None
            values = [value for (value,) in unpack(Kind.INT32, self._next()[1][8:])]
            table[leaf * 128 : (leaf + 1) * 128] = zip(values[::2], values[1::2], strict=True)
        return table

    # ── elements ────────────────────────────────────────────────────────────

    def value(self, part: int, at: int) -> Element:
        """What the element has to be."""
        match self._shape.program(self._step.segment):
            case Program.ENTRY:
                return (self._embed(at),)
            case Program.LAYER:
                result = self._layer(Layer(self._step.tensor), part, at)
            case Program.EXIT:
                result = self._exit(Exit(self._step.tensor), part, at)
        return result if isinstance(result, tuple) else (result,)

    def _embed(self, at: int) -> int:
        token = int.from_bytes(self._next()[1], "little")
        if token >= self._model.vocab:
            raise Refused(f"token {token} has no row")
        self._choose(token)
        row, scale, exponent = self._matrix_row()
        return ref.embed(0, [[row[at % LEAF_BYTES]]], [scale], exponent)[0]

    def _norm(self, part: int, at: int) -> Element | int:
        if part == 0:
            x, (gain, exponent) = self._residual_row(), self._gain()
            _, largest = ref.quantise([a * b for a, b in zip(x, gain, strict=True)], ref.ACTIVATION)
            return largest, *ref.norm(x, gain, exponent, self._model.epsilon)[1]
        x = self._integer(at)
        gain, _ = self._gain()
        return _quantise_by(x * gain[at % 512], self._element(0)[0], ref.ACTIVATION)

    def _quantised(self, part: int, at: int) -> Element | int:
        if part == 0:
            row = self._residual_row()
            return ref.quantise(row, ref.ACTIVATION)[1], *ref.quantise_row(row)[1]
        return _quantise_by(self._integer(at), self._element(0)[0], ref.ACTIVATION)

    def _linear(self) -> int:
        q, scale = self._quantised_row()
        row, row_scale, exponent = self._matrix_row()
        return ref.linear(q, scale, [row], [row_scale], exponent)[0]

    def _rotary(self, at: int) -> int:
        half = self._model.head_dim // 2
        first = at - at % (2 * half) + at % half
        places = [first // BLOCK, (first + half) // BLOCK]
        leaves = {place: self._tile() for place in dict.fromkeys(places)}
        a, b = leaves[places[0]][first % BLOCK], leaves[places[1]][(first + half) % BLOCK]
        turn = [value for (value,) in unpack(Kind.INT16, self._next()[1][8:])]
        i = at % half
        return ref.rotary([a, b], [turn[i], turn[i + half]])[0 if at % (2 * half) < half else 1]

    def _by_heads(self, tensor: Layer, part: int, at: int) -> Element | int:
        head_dim = self._model.head_dim
        limit = ref.ACTIVATION if tensor is Layer.QUERY else ref.CACHED
        if part == 0:
            head = self._integers(at * head_dim, head_dim)
            largest = ref.quantise(head, limit)[1]
            return (largest, *ref.quantise_query(head)[1]) if tensor is Layer.QUERY else largest
        return _quantise_by(self._integer(at), self._element(at // head_dim)[0], limit)

    def _layer(self, tensor: Layer, part: int, at: int) -> Element | int:
        match tensor:
            case Layer.ATTENTION_NORM | Layer.MLP_NORM:
                return self._norm(part, at)
            case Layer.QUANTISE_MIXED | Layer.QUANTISE_SWIGLU:
                return self._quantised(part, at)
            case Layer.LINEAR_Q | Layer.LINEAR_K | Layer.LINEAR_V | Layer.LINEAR_O:
                return self._linear()
            case Layer.LINEAR_GATE | Layer.LINEAR_UP | Layer.LINEAR_DOWN:
                return self._linear()
            case Layer.ROTARY_Q | Layer.ROTARY_K:
                return self._rotary(at)
            case Layer.QUERY | Layer.KEY | Layer.VALUE:
                return self._by_heads(tensor, part, at)
            case Layer.ADD_ATTENTION | Layer.ADD_MLP:
                return ref.add([self._integer(at)], [self._integer(at)])[0]
            case Layer.SWIGLU:
                gate, up = self._integer(at), self._integer(at)
                return ref.swiglu([gate], [up], self._table(sigmoid_leaf(gate), 512))[0]
            case _:
                return self._attention(tensor, part, at)

    def _attention(self, tensor: Layer, part: int, at: int) -> int:
        blocks, row, head_dim = self._shape.blocks, self._step.row, self._model.head_dim
        head, position = divmod(at, BLOCK * blocks)
        group = self._model.heads // self._model.kv_heads
        match tensor:
            case Layer.VALUE_BLOCKS:
                return self._integer(at // BLOCK) if row * BLOCK + at % BLOCK < self._shape.positions else 0
            case Layer.SCORES:
                if position > row:
                    return LOWEST
                _, m, e = self._element(head)
                query = self._integers(head * head_dim, head_dim)
                largest = self._integer(head // group)
                key = self._integers(head // group * head_dim, head_dim)
                return ref.scores(query, (m, e), [key], [largest])[0]
            case Layer.MAXIMA if part == 0:
                return max(self._tile())
            case Layer.MAXIMA:
                return max(self._integers(at * blocks, blocks))
            case Layer.WEIGHTS:
                if position > row:
                    return 0
                score = self._integer(at)
                distance = self._integer(head) - score
                if distance < 0:
                    raise Refused("a score above the maximum")
                return ref.exp2neg(distance, self._table(exp2_leaf(distance), 256))
            case Layer.SUMS if part == 0:
                return sum(self._tile())
            case Layer.SUMS:
                return sum(self._integers(at * blocks, blocks))
            case Layer.LARGEST if part == 0:
                return max(ref.rr(w * m, 8) for w, m in zip(self._tile(), self._maxima(at // blocks), strict=True))
            case Layer.LARGEST:
                return max(1, *self._integers(at * blocks, blocks))
            case Layer.PROBABILITIES:
                w, maxima = self._integer(at), self._maxima(head)
                return _quantise_by(ref.rr(w * maxima[at % BLOCK], 8), self._integer(head), ref.PROBABILITY)
            case Layer.PARTIAL_SUMS:
                above, block = divmod(at, blocks)
                head, i = divmod(above, head_dim)
                p = self._integers((head * blocks + block) * BLOCK, BLOCK)
                return ref.dot(p, self._integers((head // group * head_dim + i) * BLOCK, BLOCK))
            case Layer.MIXED:
                acc = sum(self._integers(at * blocks, blocks))
                total, largest = self._integer(at // head_dim), self._integer(at // head_dim)
                m, e = ref.scale_of(largest, ref.CACHED * total)
                return ref.sat32(ref.rr(acc * m, e + 6))
        raise AssertionError(tensor)

    def _maxima(self, head: int) -> list[int]:
        """Of the values of a block."""
        return self._integers(head // (self._model.heads // self._model.kv_heads) * BLOCK, BLOCK)

    def _exit(self, tensor: Exit, part: int, at: int) -> Element | int:
        sampling, tiles = self._case.sampling, self._shape.tiles
        is_random = sampling.temperature != 0
        match tensor:
            case Exit.FINAL_NORM:
                return self._norm(part, at)
            case Exit.LOGITS:
                return self._linear()
            case Exit.MAXIMA:
                return max(self._tile()) if part == 0 else max(self._integers(0, tiles))
            case Exit.DISTANCES if is_random:
                logit, top = self._integer(at), self._integer(0)
                return min(ref.rr((top - logit) * (ref.LOG2_E // sampling.temperature), 16), 2**21 - 1)
            case Exit.WEIGHTS if is_random:
                z = self._integer(at)
                return ref.exp2neg(z, self._table(exp2_leaf(z), 256))
            case Exit.SUMS if is_random:
                return sum(self._kept()) if part == 0 else sum(self._integers(0, tiles))
            case Exit.SAMPLE:
                return self._sample()
            case Exit.DISTANCES | Exit.WEIGHTS | Exit.SUMS:
                return 0
        is_mass = tensor >= Exit.MASSES_0
        level = (tensor - (Exit.MASSES_0 if is_mass else Exit.COUNTS_0)) // 2
        if not (has_top_p(sampling) if is_mass else has_top_k(self._model, sampling)):
            return 0 if part == 0 else (0, 0, 0, 0)
        if (tensor - Exit.COUNTS_0) % 2 == 0:
            return self._histogram(is_mass, level, at // tiles)
        if part == 0:
            return sum(self._integers(at * tiles, tiles))
        return self._cut(is_mass, level)

    def _histogram(self, is_mass: bool, level: int, digit: int) -> int:
        """A sum over a tile of tokens with this digit."""
        z = self._tile()
        w = [1] * len(z)
        if is_mass:
            w = self._tile()
            if has_top_k(self._model, self._case.sampling):
                largest = self._integer(0)
                w = [x if at <= largest else 0 for at, x in zip(z, w, strict=True)]
        prefix = self._integer(0) if level else 0
        shift = 14 - 7 * level
        return sum(x for at, x in zip(z, w, strict=True) if at >> shift == prefix << 7 | digit)

    def _cut(self, is_mass: bool, level: int) -> Element:
        sums = self._tile()
        if level:
            prefix, _, before, target = self._element(0)
        else:
            sampling = self._case.sampling
            prefix, before = 0, 0
            target = -(-sampling.topP * sum(sums) // 65536) if is_mass else sampling.topK
        for digit, x in enumerate(sums):
            if before + x >= target:
                return prefix << 7 | digit, 0, before, target
            before += x
        raise Refused("sums that do not reach the target")

    def _kept(self) -> list[int]:
        """Weights of a tile that both cuts keep."""
        z, w = self._tile(), self._tile()
        sampling = self._case.sampling
        for is_on in (has_top_k(self._model, sampling), has_top_p(sampling)):
            if is_on:
                largest = self._integer(0)
                w = [x if at <= largest else 0 for at, x in zip(z, w, strict=True)]
        return w

    def _sample(self) -> Element:
        tiles = self._shape.tiles
        if self._case.sampling.temperature == 0:
            maxima, top = self._integers(0, tiles), self._integer(0)
            if top not in maxima:
                raise Refused("a largest logit that no tile has")
            tile = maxima.index(top)
            self._choose(tile)
            logits = self._tile()
            if top not in logits:
                raise Refused("a largest logit that its tile does not have")
            return tile * TILE + logits.index(top), tile, 0
        sums, total = self._integers(0, tiles), self._integer(0)
        tile, rest = _first_above(sums, draw(self._case.seed, self._step.row + 1, total))
        self._choose(tile)
        return tile * TILE + _first_above(self._kept(), rest)[0], tile, rest


def _first_above(sums: Sequence[int], left: int) -> tuple[int, int]:
    """The first at which the running sum exceeds `left`, and what is left before it."""
    for at, x in enumerate(sums):
        if x > left:
            return at, left
        left -= x
    raise Refused("sums that do not reach the draw")


def _quantise_by(v: int, largest: int, limit: int) -> int:
    """`q` of `quantise` for a maximum that is known."""
    if largest < 1 or abs(v) > largest:
        raise Refused(f"a value {v} beyond the maximum {largest}")
    t = max(0, largest.bit_length() - 32)
    den = largest >> t
    return (2 * limit * (v >> t) + den) // (2 * den)


def _length(data: bytes, length: int) -> None:
    if len(data) != length:
        raise Refused(f"{len(data)} bytes where {length} are expected")


def _kind(data: bytes, kind: int) -> None:
    if HEADER.unpack(data[:8])[2] != kind:
        raise Refused("a leaf of another kind of tensor")


def _cut(header: bytes, data: bytes) -> list[bytes]:
    """Hashes of the leaves of a row that carry one header."""
    return [leaf_hash(header + data[at : at + LEAF_BYTES]) for at in range(0, len(data), LEAF_BYTES)]


class _Spot:
    """A tensor of a model: its size and its place under the weights root."""

    def __init__(self, model: ModelSpec, group: int, member: int, members: int, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self._path = group << depth_of(members) | member
        self._depth = depth_of(3 + model.layers) + depth_of(members)

    def below(self, at: int, count: int) -> tuple[int, int]:
        """Path and depth of number `at` of the `count` words of its tree."""
        return self._path << depth_of(count) | at, self._depth + depth_of(count)


def _spot(model: ModelSpec, name: str) -> _Spot:
    hidden, query = model.hidden, model.heads * model.head_dim
    key_value = model.kv_heads * model.head_dim
    fixed = {
        "rotary": (0, 0, 3, model.context, model.head_dim),
        "exp2": (0, 1, 3, 256, 2),
        "sigmoid": (0, 2, 3, 512, 2),
        "embedding": (1, 0, 1, model.vocab, hidden),
        "final_norm": (2, 0, 2, 1, hidden),
        "head": (2, 1, 2, model.vocab, hidden),
    }
    if name in fixed:
        return _Spot(model, *fixed[name])
    _, layer, short = name.split(".")
    shapes = {
        "attention_norm": (0, 1, hidden),
        "q": (1, query, hidden),
        "k": (2, key_value, hidden),
        "v": (3, key_value, hidden),
        "o": (4, hidden, query),
        "mlp_norm": (5, 1, hidden),
        "gate": (6, model.intermediate, hidden),
        "up": (7, model.intermediate, hidden),
        "down": (8, hidden, model.intermediate),
    }
    member, rows, columns = shapes[short]
    return _Spot(model, 3 + int(layer), member, 9, rows, columns)
