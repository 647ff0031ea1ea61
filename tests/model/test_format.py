"""model.json is read strictly: what is unknown, missing or inconsistent is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from efedllm.model.errors import ModelError
from efedllm.model.format import Quality, dump_manifest, parse_manifest
from efedllm.model.layout import Layout
from efedllm.model.load import read_manifest

QUALITY = {"perplexity_float": 2.0, "perplexity_integer": 2.5, "tokens": 10}

Change = Callable[[dict[str, Any]], Any]


def test_parse_is_the_inverse_of_dump(built: Path, untied: Path) -> None:
    for folder in (built, untied):
        manifest = read_manifest(folder)
        assert parse_manifest(dump_manifest(manifest)) == manifest
        measured = replace(manifest, quality=Quality(2.0, 2.5, 10))
        assert parse_manifest(dump_manifest(measured)) == measured


def set_to(*path_and_value: Any) -> Change:
    *path, key, value = path_and_value

    def change(manifest: dict[str, Any]) -> None:
        for step in path:
            manifest = manifest[step]
        manifest[key] = value

    return change


def without(*path: str) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        for step in path[:-1]:
            manifest = manifest[step]
        del manifest[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_to("format", 2), "has format 2, this program reads 1"),
        (without("format"), "has format None"),
        (set_to("semantics", 2), "has semantics version 2, this program computes 1"),
        (without("semantics"), "has semantics version None"),
        (set_to("extra", 1), "has the unknown key 'extra'"),
        (without("stop_ids"), "lacks the key 'stop_ids'"),
        (set_to("op_table", "0101"), "op_table is not that of semantics version 1"),
        (set_to("name", ""), "name is not a printable text"),
        (set_to("name", "a\nb"), "name is not a printable text"),
        (set_to("dimensions", []), "dimensions is not an object"),
        (set_to("dimensions", "experts", 8), "dimensions has the unknown key 'experts'"),
        (without("dimensions", "epsilon"), "dimensions lacks the key 'epsilon'"),
        (set_to("dimensions", "hidden", 48.0), r"dimensions.hidden is 48\.0"),
        (set_to("dimensions", "hidden", True), "dimensions.hidden is True"),
        (set_to("dimensions", "tied", 1), "dimensions.tied is 1"),
        (set_to("dimensions", "layers", 10**9), "layers = 1000000000 is not in"),
        (set_to("dimensions", "layers", 2), r"tensors has the unknown key 'layers\.2\."),
        (set_to("dimensions", "head_dim", 13), "head_dim = 13 is odd"),
        (set_to("dimensions", "epsilon", 2**32 + 1), "epsilon: 4294967297"),
        (set_to("dimensions", "tied", False), "tensors lacks the key 'head'"),
        (without("tensors", "layers.0.q"), r"tensors lacks the key 'layers\.0\.q'"),
        (set_to("tensors", "layers.9.q", {}), r"tensors has the unknown key 'layers\.9\.q'"),
        (set_to("tensors", "exp2", "bits", 1), "tensors.exp2 has the unknown key 'bits'"),
        (set_to("tensors", "exp2", "exponent", -1), "tensors.exp2.exponent is -1"),
        (set_to("tensors", "exp2", "exponent", 2**16), "tensors.exp2.exponent is 65536"),
        (set_to("tensors", "exp2", "root", "00" * 32), "weights_root does not follow from the tensors' roots"),
        (set_to("tensors", "exp2", "root", "00" * 31), "tensors.exp2.root is not 32 bytes in lower-case hex"),
        (set_to("tensors", "exp2", "root", "FF" * 32), "tensors.exp2.root is not 32 bytes in lower-case hex"),
        (set_to("tokenizer_hash", "xy"), "tokenizer_hash is not 32 bytes"),
        (set_to("tokenizer_hash", 5), "tokenizer_hash is not 32 bytes"),
        (set_to("weights_root", "11" * 32), "weights_root does not follow from the tensors' roots"),
        (set_to("stop_ids", [7, 3]), "stop_ids are not at most 64 ascending token ids below 300"),
        (set_to("stop_ids", [3, 3]), "stop_ids are not"),
        (set_to("stop_ids", [300]), "stop_ids are not"),
        (set_to("stop_ids", [True]), "stop_ids are not"),
        (set_to("stop_ids", None), "stop_ids are not"),
        (set_to("quality", {"perplexity_float": 1.0}), "quality lacks the key"),
        (set_to("quality", QUALITY | {"perplexity_integer": "2"}), "quality holds no two perplexities"),
        (set_to("quality", QUALITY | {"perplexity_float": float("nan")}), r"is not JSON \(NaN is no number\)"),
        (set_to("quality", QUALITY | {"tokens": 3.0}), "quality holds no two perplexities"),
    ],
)  # fmt: skip
def test_refused_by_name(built: Path, change: Change, message: str) -> None:
    value = json.loads((built / "model.json").read_text())
    change(value)
    with pytest.raises(ModelError, match="^model.json: .*" + message + "|^" + message):
        parse_manifest(json.dumps(value))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", "[" * 2000])
def test_no_manifest(text: str) -> None:
    with pytest.raises(ModelError, match=r"^model\.json: "):
        parse_manifest(text)


def test_a_key_that_occurs_twice(built: Path) -> None:
    text = (built / "model.json").read_text().replace('"format": 1,', '"format": 1, "format": 1,')
    with pytest.raises(ModelError, match="a key occurs twice"):
        parse_manifest(text)


def test_layout_of_a_file_follows_the_tree(built: Path) -> None:
    layout = Layout(read_manifest(built).dimensions)
    assert [name for group in layout.groups for name in group if name != "embedding"] == [
        name for name in layout.tensors if name != "embedding"
    ]
    for spec in layout.tensors.values():
        assert spec in layout.files[spec.file]
