"""An operand of an element of a trace, by where it lies (docs/trace.md, "Where operands lie")."""

from dataclasses import dataclass
from enum import Enum
from hashlib import sha256

from efedllm.protocol.merkle import LEAF_BYTES
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Place

TOP_P_OFF = 65536
GAIN_LEAF = LEAF_BYTES // 2
"""Values in a leaf of a gain."""
TABLE_LEAF = LEAF_BYTES // 8
"""Entries in a leaf of the exp2 and sigmoid tables."""
EXP2_BITS = 25
"""Whole bits of a distance from which on a weight is 0."""
SIGMOID_END = 1 << 20


@dataclass(frozen=True)
class BodyLeaf:
    """A leaf of the trace itself, under `bodyRoot`."""

    place: Place


@dataclass(frozen=True)
class BodyRow:
    """All bytes of a row of the trace, under `bodyRoot`."""

    segment: int
    tensor: int
    row: int


@dataclass(frozen=True)
class InputToken:
    """The token leaf (4 bytes) of a position, under the `inputRoot` of a first shard."""

    position: int


@dataclass(frozen=True)
class InputLeaf:
    """A leaf of the residual row of a position, under the `inputRoot` of an inner shard."""

    position: int
    leaf: int


@dataclass(frozen=True)
class InputRow:
    """All bytes of the residual row of a position, under the `inputRoot` of an inner shard."""

    position: int


@dataclass(frozen=True)
class WeightLeaf:
    """Leaf `index` of a tensor (of a matrix: row * tiles + tile), with its header, under the model's weights root.

    name: as in the model's layout: "exp2", "embedding", "head" (also a tied one), "layers.0.q", ...
    """

    name: str
    index: int


@dataclass(frozen=True)
class MatrixRow:
    """Header and all tiles of a row of a matrix, under the model's weights root."""

    name: str
    row: int


@dataclass(frozen=True)
class Gain:
    """Header and all values of a gain, under the model's weights root."""

    name: str


Operand = BodyLeaf | BodyRow | InputToken | InputLeaf | InputRow | WeightLeaf | MatrixRow | Gain


class Choice(Enum):
    """The one number that follows from values, not from the place, and says where some operands of an element lie."""

    TOKEN = "token"  # of the input, for the embedding's row
    EXP2 = "exp2"  # leaf of the exp2 table, `exp2_leaf`; None if none is read
    SIGMOID = "sigmoid"  # leaf of the sigmoid table, `sigmoid_leaf`; None if none is read
    TILE = "tile"  # of the sample, as it follows from the sums or maxima that are opened before it


def exp2_leaf(distance: int) -> int | None:
    """The leaf of the exp2 table that `exp2neg(distance)` reads; None from 25 * 2^16 on, where it is 0."""
    return (distance & 0xFFFF) >> 8 >> 7 if distance >> 16 < EXP2_BITS else None


def sigmoid_leaf(x: int) -> int | None:
    """The leaf of the sigmoid table that `sigmoid(x)` reads; None for |x| >= 2^20, where it reads none."""
    return (abs(x) >> 11) // TABLE_LEAF if abs(x) < SIGMOID_END else None


def draw(seed: bytes, position: int, total: int) -> int:
    """`r` of docs/numerics.md, below a positive total. position: absolute, of the new token."""
    return int.from_bytes(sha256(seed + position.to_bytes(8, "big")).digest(), "big") * total >> 256


def has_top_k(model: ModelSpec, sampling: Sampling) -> bool:
    """Whether the top-k cut is on."""
    return sampling.temperature != 0 and 0 < sampling.topK < model.vocab


def has_top_p(sampling: Sampling) -> bool:
    """Whether the top-p cut is on."""
    return sampling.temperature != 0 and sampling.topP < TOP_P_OFF
