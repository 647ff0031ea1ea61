"""Roots are those of docs/numerics.md, worked out here a second time, and every leaf can be proved."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from efedllm.model.commitment import LeafProof, leaf_hashes, open_leaf, tensor_leaf, tensor_root, verify_leaf
from efedllm.model.errors import ModelError
from efedllm.model.layout import Kind, TensorSpec
from efedllm.model.load import read_manifest
from efedllm.model.optable import op_table, op_table_hash
from efedllm.model.proof import prove_weight
from efedllm.model.stored import Stored


def tree(hashes: list[bytes]) -> bytes:
    """The page's `tree`, by padding first."""
    size = 1
    while size < len(hashes):
        size *= 2
    level = hashes + [bytes(32)] * (size - len(hashes))
    while len(level) > 1:
        level = [sha256(b"\x01" + level[at] + level[at + 1]).digest() for at in range(0, len(level), 2)]
    return level[0]


def leaf(scale: int, exponent: int, kind: int, data: bytes) -> bytes:
    header = scale.to_bytes(4, "little") + exponent.to_bytes(2, "little") + kind.to_bytes(2, "little")
    return sha256(b"\x00" + header + data).digest()


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def matrix_root(values: NDArray[np.int8], scales: NDArray[np.int32], exponent: int) -> bytes:
    rows = [
        tree([leaf(int(scale), exponent, 1, tile) for tile in cut(row.tobytes(), 1024)])
        for row, scale in zip(values, scales, strict=True)
    ]
    return tree(rows)


@pytest.mark.parametrize("name", ["built", "untied"])
def test_weights_root_is_the_page_s(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    manifest = read_manifest(folder)

    def matrix(file: str, short: str, full: str) -> bytes:
        arrays = load_file(folder / file)
        return matrix_root(arrays[f"{short}.weight"], arrays[f"{short}.scale"], manifest.tensors[full].exponent)

    def gain(file: str, short: str, full: str) -> bytes:
        data = load_file(folder / file)[short].tobytes()
        return tree([leaf(0, manifest.tensors[full].exponent, 2, part) for part in cut(data, 1024)])

    tables = load_file(folder / "tables.safetensors")
    table_roots = [
        tree([leaf(0, 14, 3, row.tobytes()) for row in tables["rotary"]]),
        tree([leaf(0, 24, 4, part) for part in cut(tables["exp2"].tobytes(), 128 * 8)]),
        tree([leaf(0, 24, 5, part) for part in cut(tables["sigmoid"].tobytes(), 128 * 8)]),
    ]
    embedding = matrix("embedding.safetensors", "embedding", "embedding")
    tied = manifest.dimensions.tied
    head = embedding if tied else matrix("final.safetensors", "head", "head")
    groups = [tree(table_roots), embedding, tree([gain("final.safetensors", "final_norm", "final_norm"), head])]
    for layer in range(3):
        file, members = f"layers/{layer:04d}.safetensors", []
        for short in ("attention_norm", "q", "k", "v", "o", "mlp_norm", "gate", "up", "down"):
            root = gain if short.endswith("norm") else matrix
            members.append(root(file, short, f"layers.{layer}.{short}"))
        groups.append(tree(members))
    assert manifest.weights_root == tree(groups)


def test_op_table_is_the_page_s() -> None:
    layer = "02 03 03 03 04 04 06 07 08 09 0a 0b 05 03 0c 02 03 03 0d 05 03 0c"
    assert op_table() == bytes.fromhex("01 01 16 " + layer + " 03 02 03 0e")
    assert op_table_hash() == sha256(op_table()).digest()


@pytest.mark.parametrize("columns", [1, 1023, 1024, 1025, 3000])
def test_rows_wider_than_a_leaf(columns: int) -> None:
    spec = TensorSpec("wide", Kind.MATRIX, 5, columns, "")
    values = (np.arange(5 * columns) % 255 - 127).astype(np.int8).reshape(5, columns)
    scales = np.array([1, 2**20, 3, 4, 5], np.int32)
    leaves = leaf_hashes(Stored(spec, values, scales, 60))
    assert len(leaves) == spec.leaf_count == 5 * -(-columns // 1024)
    assert tensor_root(spec, leaves) == matrix_root(values, scales, 60)
    for index, found in enumerate(leaves):
        row, tile = divmod(index, spec.tiles)
        data = tensor_leaf(spec, values[row], int(scales[row]), 60, tile)
        assert len(data) <= 8 + 1024 and sha256(b"\x00" + data).digest() == found


@pytest.mark.parametrize("name", ["built", "untied"])
def test_every_leaf_is_proved(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    manifest = read_manifest(folder)
    layout, root = manifest.layout, manifest.weights_root
    for tensor in [*layout.tensors, "head"]:
        count = layout.place(tensor, 0).spec.leaf_count
        for index in {0, count // 2, count - 1}:
            proof = prove_weight(folder, manifest, tensor, index)
            assert verify_leaf(layout, root, proof), (tensor, index)
            assert not verify_leaf(layout, root, replace(proof, leaf=proof.leaf[:-1]))
            assert not verify_leaf(layout, root, replace(proof, siblings=proof.siblings[1:]))
            assert not verify_leaf(layout, root, replace(proof, siblings=(*proof.siblings, bytes(32))))
            other = proof.siblings[0][::-1]
            assert not verify_leaf(layout, root, replace(proof, siblings=(other, *proof.siblings[1:])))
            if count > 1:
                assert not verify_leaf(layout, root, replace(proof, index=(index + 1) % count))


def test_a_leaf_does_not_pass_for_another_tensor(built: Path) -> None:
    manifest = read_manifest(built)
    proof = prove_weight(built, manifest, "layers.0.k", 3)
    for name in ("layers.0.v", "layers.1.k"):
        assert not verify_leaf(manifest.layout, manifest.weights_root, replace(proof, name=name))


def test_a_tied_head_is_proved_in_its_own_place(built: Path) -> None:
    manifest = read_manifest(built)
    embedding, head = (prove_weight(built, manifest, name, 5) for name in ("embedding", "head"))
    assert embedding.leaf == head.leaf and embedding.siblings != head.siblings
    swapped = LeafProof("head", 5, embedding.leaf, embedding.siblings)
    assert not verify_leaf(manifest.layout, manifest.weights_root, swapped)


def test_a_proof_shows_the_stored_weights(built: Path) -> None:
    manifest = read_manifest(built)
    arrays = load_file(built / "layers/0001.safetensors")
    proof = prove_weight(built, manifest, "layers.1.down", 17)
    exponent = manifest.tensors["layers.1.down"].exponent
    header = int(arrays["down.scale"][17]).to_bytes(4, "little") + exponent.to_bytes(2, "little") + b"\x01\x00"
    assert proof.leaf == header + arrays["down.weight"][17].tobytes()


@pytest.mark.parametrize(("name", "index"), [("layers.3.q", 0), ("q", 0), ("embedding", 300), ("exp2", -1)])
def test_unknown_places_are_refused(built: Path, name: str, index: int) -> None:
    manifest = read_manifest(built)
    with pytest.raises(ModelError, match=f"no tensor '{name}'|tensor {name} has"):
        prove_weight(built, manifest, name, index)
    with pytest.raises(ModelError):
        verify_leaf(manifest.layout, manifest.weights_root, LeafProof(name, index, b"", ()))
    with pytest.raises(ModelError):
        open_leaf(manifest.layout, manifest.roots, name, index, b"", [])
