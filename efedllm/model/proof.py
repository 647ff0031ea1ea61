"""Proofs of single weights of a built model, from its files: what a dispute opens."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from efedllm.model.commitment import HEADER, LeafProof, open_leaf, open_tensor, tensor_data, tensor_leaf
from efedllm.model.errors import ModelError
from efedllm.model.format import Manifest
from efedllm.model.layout import Kind, TensorSpec
from efedllm.model.load import read_leaves
from efedllm.model.stored import Integers
from efedllm.protocol.hash_tree import Opening
from efedllm.protocol.trace_operand import Gain, MatrixRow, WeightLeaf


def prove_weight(folder: Path, manifest: Manifest, name: str, index: int) -> LeafProof:
    """Prove leaf `index` of a tensor (of a matrix: row * tiles + tile) against the weights root.

    Reads one row and the stored leaf hashes, no other weights. Raises ModelError for an unknown place, or files that
    cannot be read; whether they are intact, only `verify_leaf` tells.
    """
    layout = manifest.layout
    spec = layout.place(name, index).spec
    row, tile = divmod(index, spec.tiles)
    values, scale = _read(folder, spec, row)
    if spec.kind not in (Kind.MATRIX, Kind.ROTARY):
        tile = index
    leaf = tensor_leaf(spec, values, scale, manifest.tensors[spec.name].exponent, tile)
    leaves = read_leaves(folder, layout.files[spec.file])[spec.name]
    return open_leaf(layout, manifest.roots, name, index, leaf, leaves)


def open_weight(folder: Path, manifest: Manifest, operand: WeightLeaf | MatrixRow | Gain) -> Opening:
    """A leaf, a whole row of a matrix, or a whole gain, as an operand of a trace.

    A row's or gain's data is the header that all of its leaves carry, then all values; its siblings are those of its
    root. Raises ModelError as `prove_weight` does.
    """
    if isinstance(operand, WeightLeaf):
        proof = prove_weight(folder, manifest, operand.name, operand.index)
        return Opening(proof.leaf, proof.siblings)
    layout = manifest.layout
    row = operand.row if isinstance(operand, MatrixRow) else 0
    spec = layout.place(operand.name, 0).spec
    wanted = Kind.MATRIX if isinstance(operand, MatrixRow) else Kind.GAIN
    if spec.kind is not wanted or not 0 <= row < spec.rows:
        raise ModelError(f"tensor {operand.name} is no {wanted.name.lower()} with a row {row}")
    values, scale = _read(folder, spec, row)
    data = HEADER.pack(scale, manifest.tensors[spec.name].exponent, spec.kind) + tensor_data(spec, values)
    leaves = read_leaves(folder, layout.files[spec.file])[spec.name] if wanted is Kind.MATRIX else None
    return Opening(data, open_tensor(layout, manifest.roots, operand.name, row, leaves))


def _read(folder: Path, spec: TensorSpec, row: int) -> tuple[Integers, int]:
    """Values of a row of a matrix or of the rotary table, or of a whole other tensor, and a matrix row's scale."""
    try:
        with safe_open(folder / spec.file, "np") as source:
            parts = [source.get_slice(part) for part in spec.part_names]
            if spec.kind is Kind.MATRIX:
                return parts[0][row : row + 1], int(parts[1][row : row + 1].view(np.uint32)[0])
            return (parts[0][row : row + 1] if spec.kind is Kind.ROTARY else parts[0][:]), 0
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / spec.file}: cannot be read ({error})") from error
