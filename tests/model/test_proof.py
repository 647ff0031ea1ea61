"""Whole rows of matrices and whole gains, opened from a built model's files, lead to its weights root."""

from __future__ import annotations

from pathlib import Path

import pytest

from efedllm.model.errors import ModelError
from efedllm.model.load import read_manifest
from efedllm.model.proof import open_weight, prove_weight
from efedllm.protocol.hash_tree import root_above
from efedllm.protocol.merkle import depth_of, leaf_hash, tree_root
from efedllm.protocol.trace_operand import Gain, MatrixRow, WeightLeaf


@pytest.mark.parametrize("name", ["built", "untied"])
def test_whole_rows_and_gains_open_against_the_root(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    manifest = read_manifest(folder)
    gains, rows = (Gain("final_norm"), Gain("layers.1.mlp_norm")), (MatrixRow("head", 7), MatrixRow("layers.2.down", 7))
    for operand in (*gains, *rows):
        opening = open_weight(folder, manifest, operand)
        header, data = opening.data[:8], opening.data[8:]
        root = tree_root([leaf_hash(header + data[at : at + 1024]) for at in range(0, len(data), 1024)])
        row = operand.row if isinstance(operand, MatrixRow) else 0
        trees = manifest.layout.place(operand.name, row * manifest.layout.place(operand.name, 0).spec.tiles).trees
        above = opening.siblings
        for tree in trees[1:] if isinstance(operand, MatrixRow) else trees[2:]:
            depth = depth_of(tree.children)
            root, above = root_above(root, tree.child, above[:depth]), above[depth:]
        assert (root, above) == (manifest.weights_root, ())
    leaf = open_weight(folder, manifest, WeightLeaf("exp2", 1))
    proof = prove_weight(folder, manifest, "exp2", 1)
    assert (leaf.data, leaf.siblings) == (proof.leaf, proof.siblings)


@pytest.mark.parametrize("operand", [Gain("embedding"), MatrixRow("final_norm", 0), MatrixRow("embedding", 300)])
def test_refuses_to_open_what_is_not_there(built: Path, operand: Gain | MatrixRow) -> None:
    with pytest.raises(ModelError, match="is no"):
        open_weight(built, read_manifest(built), operand)
