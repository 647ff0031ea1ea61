"""The tensors of a trace and the parts of their rows, as the tables of docs/trace.md list them."""

from dataclasses import dataclass
from enum import Enum, IntEnum

from efedllm.protocol.merkle import LEAF_BYTES
from efedllm.protocol.model_spec import ModelSpec

BLOCK = 256
"""Positions in a block of values and scores."""
TILE = 256
"""Token ids in a tile of the vocabulary: the int32 of one leaf."""
DIGITS = 128
"""Values of one digit of a distance `z`."""


class Program(Enum):
    """What a segment computes."""

    ENTRY = "entry"
    LAYER = "layer"
    EXIT = "exit"


class Entry(IntEnum):
    """Tensors of the entry."""

    EMBED = 0


class Layer(IntEnum):
    """Tensors of a layer."""

    ATTENTION_NORM = 0
    LINEAR_Q = 1
    LINEAR_K = 2
    LINEAR_V = 3
    ROTARY_Q = 4
    ROTARY_K = 5
    QUERY = 6
    KEY = 7
    VALUE = 8
    VALUE_BLOCKS = 9
    SCORES = 10
    MAXIMA = 11
    WEIGHTS = 12
    SUMS = 13
    LARGEST = 14
    PROBABILITIES = 15
    PARTIAL_SUMS = 16
    MIXED = 17
    QUANTISE_MIXED = 18
    LINEAR_O = 19
    ADD_ATTENTION = 20
    MLP_NORM = 21
    LINEAR_GATE = 22
    LINEAR_UP = 23
    SWIGLU = 24
    QUANTISE_SWIGLU = 25
    LINEAR_DOWN = 26
    ADD_MLP = 27


class Exit(IntEnum):
    """Tensors of the exit."""

    FINAL_NORM = 0
    LOGITS = 1
    MAXIMA = 2
    DISTANCES = 3
    WEIGHTS = 4
    COUNTS_0 = 5
    TOP_K_0 = 6
    COUNTS_1 = 7
    TOP_K_1 = 8
    COUNTS_2 = 9
    TOP_K_2 = 10
    MASSES_0 = 11
    TOP_P_0 = 12
    MASSES_1 = 13
    TOP_P_1 = 14
    MASSES_2 = 15
    TOP_P_2 = 16
    SUMS = 17
    SAMPLE = 18


class Kind(Enum):
    """What an element of a part is. `size`: its bytes."""

    INT8 = "int8", 1
    INT16 = "int16", 2
    UINT16 = "uint16", 2
    INT32 = "int32", 4
    UINT32 = "uint32", 4
    UINT64 = "uint64", 8
    SCALE = "scale", 16  # M uint64 | m uint32 | e int32
    CUT = "cut", 24  # prefix uint32 | 0 uint32 | before uint64 | target uint64
    SAMPLE = "sample", 16  # token uint32 | tile uint32 | rest uint64

    def __init__(self, label: str, size: int) -> None:
        self.label = label
        self.size = size


@dataclass(frozen=True)
class Part:
    """An array of a row: `count` elements, cut into leaves of 1,024 bytes."""

    kind: Kind
    count: int

    @property
    def per_leaf(self) -> int:
        """Elements of every leaf but perhaps the last."""
        return LEAF_BYTES // self.kind.size

    @property
    def leaves(self) -> int:
        return -(-self.count // self.per_leaf)

    def elements(self, leaf: int) -> int:
        """Elements of leaf `leaf` of the part."""
        return min(self.per_leaf, self.count - leaf * self.per_leaf)


def tensor_count(program: Program) -> int:
    return {Program.ENTRY: len(Entry), Program.LAYER: len(Layer), Program.EXIT: len(Exit)}[program]


def parts_of(program: Program, tensor: int, model: ModelSpec, blocks: int) -> tuple[Part, ...]:
    """Parts of every row of a tensor. blocks: of positions, `T`. The tensor is one of the program's."""
    match program:
        case Program.ENTRY:
            return (Part(Kind.INT32, model.hidden),)
        case Program.LAYER:
            return _layer_parts(Layer(tensor), model, blocks)
        case Program.EXIT:
            return _exit_parts(Exit(tensor), model)


def _layer_parts(tensor: Layer, model: ModelSpec, blocks: int) -> tuple[Part, ...]:
    heads, kv_heads, head_dim = model.heads, model.kv_heads, model.head_dim
    query, key_value, scores = heads * head_dim, kv_heads * head_dim, heads * BLOCK * blocks
    match tensor:
        case Layer.ATTENTION_NORM | Layer.MLP_NORM:
            return Part(Kind.SCALE, 1), Part(Kind.INT16, model.hidden)
        case Layer.LINEAR_Q | Layer.ROTARY_Q | Layer.MIXED:
            return (Part(Kind.INT32, query),)
        case Layer.LINEAR_K | Layer.LINEAR_V | Layer.ROTARY_K:
            return (Part(Kind.INT32, key_value),)
        case Layer.QUERY:
            return Part(Kind.SCALE, heads), Part(Kind.INT16, query)
        case Layer.KEY | Layer.VALUE:
            return Part(Kind.UINT32, kv_heads), Part(Kind.INT8, key_value)
        case Layer.VALUE_BLOCKS:
            return Part(Kind.UINT32, kv_heads * BLOCK), Part(Kind.INT8, key_value * BLOCK)
        case Layer.SCORES:
            return (Part(Kind.INT32, scores),)
        case Layer.MAXIMA:
            return Part(Kind.INT32, heads * blocks), Part(Kind.INT32, heads)
        case Layer.WEIGHTS:
            return (Part(Kind.UINT32, scores),)
        case Layer.SUMS | Layer.LARGEST:
            return Part(Kind.UINT64, heads * blocks), Part(Kind.UINT64, heads)
        case Layer.PROBABILITIES:
            return (Part(Kind.INT16, scores),)
        case Layer.PARTIAL_SUMS:
            return (Part(Kind.INT32, query * blocks),)
        case Layer.QUANTISE_MIXED:
            return Part(Kind.SCALE, 1), Part(Kind.INT16, query)
        case Layer.LINEAR_O | Layer.ADD_ATTENTION | Layer.LINEAR_DOWN | Layer.ADD_MLP:
            return (Part(Kind.INT32, model.hidden),)
        case Layer.LINEAR_GATE | Layer.LINEAR_UP | Layer.SWIGLU:
            return (Part(Kind.INT32, model.intermediate),)
        case Layer.QUANTISE_SWIGLU:
            return Part(Kind.SCALE, 1), Part(Kind.INT16, model.intermediate)


def _exit_parts(tensor: Exit, model: ModelSpec) -> tuple[Part, ...]:
    vocab, tiles = model.vocab, -(-model.vocab // TILE)
    match tensor:
        case Exit.FINAL_NORM:
            return Part(Kind.SCALE, 1), Part(Kind.INT16, model.hidden)
        case Exit.LOGITS:
            return (Part(Kind.INT32, vocab),)
        case Exit.MAXIMA:
            return Part(Kind.INT32, tiles), Part(Kind.INT32, 1)
        case Exit.DISTANCES | Exit.WEIGHTS:
            return (Part(Kind.UINT32, vocab),)
        case Exit.COUNTS_0 | Exit.COUNTS_1 | Exit.COUNTS_2:
            return (Part(Kind.UINT16, DIGITS * tiles),)
        case Exit.TOP_K_0 | Exit.TOP_K_1 | Exit.TOP_K_2:
            return Part(Kind.UINT32, DIGITS), Part(Kind.CUT, 1)
        case Exit.MASSES_0 | Exit.MASSES_1 | Exit.MASSES_2:
            return (Part(Kind.UINT64, DIGITS * tiles),)
        case Exit.TOP_P_0 | Exit.TOP_P_1 | Exit.TOP_P_2:
            return Part(Kind.UINT64, DIGITS), Part(Kind.CUT, 1)
        case Exit.SUMS:
            return Part(Kind.UINT64, tiles), Part(Kind.UINT64, 1)
        case Exit.SAMPLE:
            return (Part(Kind.SAMPLE, 1),)
