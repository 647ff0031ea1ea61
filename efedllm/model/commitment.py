"""The commitment to a model's weights: leaves, roots, and proofs of single leaves against the weights root.

A leaf is an 8-byte header `scale uint32 | exponent uint16 | kind uint16` and at most 1,024 bytes of data, all
little-endian. The leaf hashes of a built model lie beside it, so that a proof needs of the weights only the one leaf.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct

import numpy as np

from efedllm.model.layout import Kind, Layout, TensorSpec
from efedllm.model.stored import VALUE_DTYPES, Integers, Stored
from efedllm.protocol.merkle import LEAF_BYTES, depth_of, leaf_hash, node_hash, prove, tree_root

HASH_BYTES = 32
HEADER = Struct("<IHH")


@dataclass(frozen=True)
class LeafProof:
    """A leaf (header and data) and its siblings from the bottom up to the weights root, through the trees of the row,
    the tensor, its group (a layer, the tables, the final part) and the model."""

    name: str
    index: int
    leaf: bytes
    siblings: tuple[bytes, ...]


def tensor_leaf(spec: TensorSpec, row: Integers, scale: int, exponent: int, tile: int) -> bytes:
    """Header and data of one leaf. row: a row of a matrix or of the rotary table, or a whole tensor of another kind;
    tile: which cut of it; scale: the row's `m`, 0 unless it is a matrix's, as uint32."""
    data = tensor_data(spec, row)
    return HEADER.pack(scale, exponent, spec.kind) + data[tile * LEAF_BYTES : (tile + 1) * LEAF_BYTES]


def tensor_data(spec: TensorSpec, row: Integers) -> bytes:
    """Bytes of a row, or of a whole tensor, as its leaves hold them."""
    return np.ascontiguousarray(row, dtype=VALUE_DTYPES[spec.kind]).tobytes()


def leaf_hashes(tensor: Stored) -> list[bytes]:
    """Hashes of all leaves of a tensor, in order."""
    kind, exponent = tensor.spec.kind, tensor.exponent
    data = np.ascontiguousarray(tensor.values).reshape(-1).view(np.uint8).data
    if tensor.scales is None:
        size = len(data) // tensor.spec.rows if kind is Kind.ROTARY else LEAF_BYTES
        header = HEADER.pack(0, exponent, kind)
        return [leaf_hash(header + data[at : at + size]) for at in range(0, len(data), size)]
    hashes = []
    columns = tensor.spec.columns
    # As unsigned, as in the header: a scale below 1 is refused by its range, not here.
    for row, scale in enumerate(tensor.scales.view(np.uint32).tolist()):
        # `leaf_hash`, written out: this loop is what a start with gigabytes of weights waits for.
        head = b"\x00" + HEADER.pack(scale, exponent, kind)
        end = (row + 1) * columns
        for at in range(row * columns, end, LEAF_BYTES):
            hashes.append(sha256(head + data[at : min(at + LEAF_BYTES, end)]).digest())
    return hashes


def tensor_root(spec: TensorSpec, leaves: Sequence[bytes]) -> bytes:
    """Root of a tensor from all its leaf hashes."""
    return tree_root(_row_roots(spec, leaves))


def weights_root(layout: Layout, roots: Mapping[str, bytes]) -> bytes:
    """The weights root from the root of every tensor, by name."""
    return tree_root(_group_roots(layout, roots))


def open_leaf(
    layout: Layout, roots: Mapping[str, bytes], name: str, index: int, leaf: bytes, leaves: Sequence[bytes]
) -> LeafProof:
    """Prove leaf `index` of tensor `name` against the weights root.

    `leaf`: its bytes; `leaves`: all leaf hashes of the tensor; `roots`: of every tensor, by name. A tied head's leaves
    are the embedding's; the name `head` proves them in the head's place. Raises ModelError for an unknown place.
    """
    spec, trees = layout.place(name, index)
    tile, row = trees[0].child, trees[1].child
    siblings = prove(leaves[row * spec.tiles : (row + 1) * spec.tiles], tile)
    return LeafProof(name, index, leaf, (*siblings, *open_tensor(layout, roots, name, row, leaves)))


def open_tensor(
    layout: Layout, roots: Mapping[str, bytes], name: str, row: int, leaves: Sequence[bytes] | None
) -> tuple[bytes, ...]:
    """Siblings of the root of a tensor's row (or leaf, if it has no tiles) from the bottom up to the weights root.

    `leaves`: as for `open_leaf`; None: those of the tensor's own root. Raises ModelError for an unknown place.
    """
    spec, _ = layout.place(name, 0)
    _, trees = layout.place(name, row * spec.tiles)
    member, group = trees[2].child, trees[3].child
    return (
        *(() if leaves is None else prove(_row_roots(spec, leaves), row)),
        *prove([roots[other] for other in layout.groups[group]], member),
        *prove(_group_roots(layout, roots), group),
    )


def verify_leaf(layout: Layout, root: bytes, proof: LeafProof) -> bool:
    """Whether the proof's leaf lies where it says under the weights root. Raises ModelError for an unknown place."""
    _, trees = layout.place(proof.name, proof.index)
    turns = [tree.child >> level & 1 for tree in trees for level in range(depth_of(tree.children))]
    if len(turns) != len(proof.siblings):
        return False
    at = leaf_hash(proof.leaf)
    for is_right, sibling in zip(turns, proof.siblings, strict=True):
        at = node_hash(sibling, at) if is_right else node_hash(at, sibling)
    return at == root


def _row_roots(spec: TensorSpec, leaves: Sequence[bytes]) -> Sequence[bytes]:
    if spec.tiles == 1:
        return leaves
    return [tree_root(leaves[at : at + spec.tiles]) for at in range(0, len(leaves), spec.tiles)]


def _group_roots(layout: Layout, roots: Mapping[str, bytes]) -> list[bytes]:
    return [tree_root([roots[name] for name in group]) for group in layout.groups]
