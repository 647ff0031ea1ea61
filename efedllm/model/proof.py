"""Proofs of single weights of a built model, from its files: what a dispute opens."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from efedllm.model.commitment import LeafProof, open_leaf, tensor_leaf
from efedllm.model.errors import ModelError
from efedllm.model.format import Manifest
from efedllm.model.layout import Kind
from efedllm.model.load import read_leaves


def prove_weight(folder: Path, manifest: Manifest, name: str, index: int) -> LeafProof:
    """Prove leaf `index` of a tensor (of a matrix: row * tiles + tile) against the weights root.

    Reads one row and the stored leaf hashes, no other weights. Raises ModelError for an unknown place, or files that
    cannot be read; whether they are intact, only `verify_leaf` tells.
    """
    layout = manifest.layout
    spec = layout.place(name, index).spec
    leaves = read_leaves(folder, layout.files[spec.file])[spec.name]
    try:
        with safe_open(folder / spec.file, "np") as source:
            parts = [source.get_slice(part) for part in spec.part_names]
            row, tile = divmod(index, spec.tiles)
            if spec.kind is Kind.MATRIX:
                values, scale = parts[0][row : row + 1], int(parts[1][row : row + 1].view("u4")[0])
            elif spec.kind is Kind.ROTARY:
                values, scale = parts[0][row : row + 1], 0
            else:
                values, scale, tile = parts[0][:], 0, index
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / spec.file}: cannot be read ({error})") from error
    leaf = tensor_leaf(spec, values, scale, manifest.tensors[spec.name].exponent, tile)
    return open_leaf(layout, manifest.roots, name, index, leaf, leaves)
