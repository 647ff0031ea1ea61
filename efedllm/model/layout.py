"""Which tensors a model of given dimensions has, in which file each lies, and its place in the weights tree."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

from efedllm.model.config import Dimensions
from efedllm.model.errors import ModelError
from efedllm.protocol.merkle import LEAF_BYTES

EXP2_ROWS = 256
SIGMOID_ROWS = 512


class Kind(IntEnum):
    """Kind of a leaf, as in its header."""

    MATRIX = 1
    GAIN = 2
    ROTARY = 3
    EXP2 = 4
    SIGMOID = 5


@dataclass(frozen=True)
class TensorSpec:
    """One tensor. `rows` x `columns` of stored values: a gain has one row."""

    name: str
    kind: Kind
    rows: int
    columns: int
    file: str

    @property
    def short(self) -> str:
        """Name inside its file."""
        return self.name.rpartition(".")[2]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.columns,) if self.kind is Kind.GAIN else (self.rows, self.columns)

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of its arrays inside its file: values, and of a matrix the row scales."""
        return (f"{self.short}.weight", f"{self.short}.scale") if self.kind is Kind.MATRIX else (self.short,)

    @property
    def tiles(self) -> int:
        """Leaves per row of a matrix; 1 for the other kinds, whose leaves are counted by `leaf_count` alone."""
        return -(-self.columns // LEAF_BYTES) if self.kind is Kind.MATRIX else 1

    @property
    def leaf_count(self) -> int:
        match self.kind:
            case Kind.MATRIX:
                return self.rows * self.tiles
            case Kind.ROTARY:
                return self.rows
            case Kind.GAIN:
                return -(-self.columns * 2 // LEAF_BYTES)
            case Kind.EXP2 | Kind.SIGMOID:
                return -(-self.rows * self.columns * 4 // LEAF_BYTES)


class Branch(NamedTuple):
    """Number `child` of the `children` below a root."""

    child: int
    children: int


class Place(NamedTuple):
    """A leaf's tensor as stored, and its way up: tile in the row, row (or leaf) in the tensor, tensor in its group,
    group in the model."""

    spec: TensorSpec
    trees: tuple[Branch, Branch, Branch, Branch]


@dataclass(frozen=True)
class Layout:
    """Tensors of a model in the order of the weights tree. With a tied head, `head` is no tensor of its own."""

    dimensions: Dimensions

    @cached_property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Tensor names below each child of the weights root: tables, embedding, final, layer 0, layer 1, ..."""
        return (
            ("rotary", "exp2", "sigmoid"),
            ("embedding",),
            ("final_norm", "embedding" if self.dimensions.tied else "head"),
            *(tuple(spec.name for spec in self.layer(index)) for index in range(self.dimensions.layers)),
        )

    @cached_property
    def tensors(self) -> dict[str, TensorSpec]:
        d = self.dimensions
        specs = [
            TensorSpec("rotary", Kind.ROTARY, d.context, d.head_dim, TABLES_FILE),
            TensorSpec("exp2", Kind.EXP2, EXP2_ROWS, 2, TABLES_FILE),
            TensorSpec("sigmoid", Kind.SIGMOID, SIGMOID_ROWS, 2, TABLES_FILE),
            TensorSpec("embedding", Kind.MATRIX, d.vocab, d.hidden, EMBEDDING_FILE),
            TensorSpec("final_norm", Kind.GAIN, 1, d.hidden, FINAL_FILE),
        ]
        if not d.tied:
            specs.append(TensorSpec("head", Kind.MATRIX, d.vocab, d.hidden, FINAL_FILE))
        for index in range(d.layers):
            specs.extend(self.layer(index))
        return {spec.name: spec for spec in specs}

    @cached_property
    def files(self) -> dict[str, tuple[TensorSpec, ...]]:
        """Tensors of each file, in order."""
        files: dict[str, tuple[TensorSpec, ...]] = {}
        for spec in self.tensors.values():
            files[spec.file] = (*files.get(spec.file, ()), spec)
        return files

    def layer(self, index: int) -> tuple[TensorSpec, ...]:
        d = self.dimensions
        query, key_value = d.heads * d.head_dim, d.kv_heads * d.head_dim
        shapes = (
            ("attention_norm", Kind.GAIN, 1, d.hidden),
            ("q", Kind.MATRIX, query, d.hidden),
            ("k", Kind.MATRIX, key_value, d.hidden),
            ("v", Kind.MATRIX, key_value, d.hidden),
            ("o", Kind.MATRIX, d.hidden, query),
            ("mlp_norm", Kind.GAIN, 1, d.hidden),
            ("gate", Kind.MATRIX, d.intermediate, d.hidden),
            ("up", Kind.MATRIX, d.intermediate, d.hidden),
            ("down", Kind.MATRIX, d.hidden, d.intermediate),
        )
        return tuple(
            TensorSpec(f"layers.{index}.{short}", kind, rows, columns, layer_file(index))
            for short, kind, rows, columns in shapes
        )

    def place(self, name: str, index: int) -> Place:
        """Where leaf `index` of a tensor lies in the weights tree. `head` is a place of its own even if it is tied.

        Raises ModelError for a tensor or a leaf that the model does not have.
        """
        is_tied_head = name == "head" and self.dimensions.tied
        spec = self.tensors.get("embedding" if is_tied_head else name)
        if spec is None:
            raise ModelError(f"the model has no tensor {name!r}: names are such as 'embedding' or 'layers.0.q'")
        if not 0 <= index < spec.leaf_count:
            raise ModelError(f"tensor {name} has {spec.leaf_count} leaves and no leaf {index}")
        row, tile = divmod(index, spec.tiles)
        group = FINAL_GROUP if is_tied_head else next(at for at, names in enumerate(self.groups) if name in names)
        members = self.groups[group]
        return Place(
            spec,
            (
                Branch(tile, spec.tiles),
                Branch(row, spec.leaf_count // spec.tiles),
                Branch(members.index(spec.name), len(members)),
                Branch(group, len(self.groups)),
            ),
        )


FINAL_GROUP = 2
TABLES_FILE = "tables.safetensors"
EMBEDDING_FILE = "embedding.safetensors"
FINAL_FILE = "final.safetensors"


def layer_file(index: int) -> str:
    return f"layers/{index:04d}.safetensors"


def leaves_file(file: str) -> str:
    """Where the leaf hashes of a file's tensors lie: 32 bytes each, tensors in order, a matrix row after row."""
    return f"leaves/{file.removesuffix('.safetensors')}.bin"
