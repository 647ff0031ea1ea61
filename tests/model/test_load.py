"""The loader uses nothing that it has not checked, and reads nothing that it does not need."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from efedllm.model.commitment import leaf_hashes, tensor_root
from efedllm.model.errors import ModelError
from efedllm.model.format import TensorRecord, dump_manifest
from efedllm.model.layout import leaves_file
from efedllm.model.load import load, read_manifest
from efedllm.model.stored import Stored

Arrays = dict[str, Any]
LAYER = "layers/0001.safetensors"


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


@pytest.fixture
def untied_copy(untied: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(untied, tmp_path / "copy"))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_loads_what_was_built(built: Path) -> None:
    loaded = load(built)
    assert (loaded.start, loaded.end, len(loaded.layers)) == (0, 3, 3)
    arrays = load_file(built / LAYER)
    layer = loaded.layers[1]
    assert np.array_equal(layer.up.q.numpy(), arrays["up.weight"])
    assert np.array_equal(layer.up.scale.numpy(), arrays["up.scale"])
    assert np.array_equal(layer.mlp_norm.g.numpy(), arrays["mlp_norm"])
    assert loaded.head is loaded.embedding
    load(built, expected_root=loaded.manifest.weights_root)


@pytest.mark.parametrize(
    ("start", "end", "needed"),
    [
        (0, 1, {"embedding", "layers/0000"}),
        (1, 2, {"layers/0001"}),
        (1, 3, {"embedding", "final", "layers/0001", "layers/0002"}),
    ],
)
def test_reads_only_what_it_needs(copy: Path, start: int, end: int, needed: set[str]) -> None:
    for path in [*copy.rglob("*.safetensors"), *copy.rglob("*.bin")]:
        name = path.relative_to(copy).with_suffix("").as_posix().removeprefix("leaves/")
        if name not in needed | {"tables"}:
            path.unlink()
    loaded = load(copy, start, end)
    assert (loaded.embedding is not None) == (start == 0)
    assert (loaded.head is not None) == (loaded.final_norm is not None) == (end == 3)


def test_last_shard_of_an_untied_model_needs_no_embedding(untied_copy: Path) -> None:
    (untied_copy / "embedding.safetensors").unlink()
    assert load(untied_copy, 2, 3).head is not None


@pytest.mark.parametrize("name", ["embedding", "final", "tables", "layers/0000", "layers/0002"])
@pytest.mark.parametrize("at", [-1, -200])
def test_a_changed_weight_bit(untied_copy: Path, name: str, at: int) -> None:
    flip(untied_copy / f"{name}.safetensors", at)
    with pytest.raises(ModelError, match=rf"tensor [\w.]+: does not have the root .* get {name}.safetensors again"):
        load(untied_copy)


@pytest.mark.parametrize("name", ["embedding", "final", "tables", "layers/0001"])
def test_a_changed_leaf_hash(copy: Path, name: str) -> None:
    flip(copy / f"leaves/{name}.bin", 40 if name != "final" else 4)
    with pytest.raises(ModelError, match=rf"tensor [\w.]+: its leaf hashes are wrong; get leaves/{name}.bin again"):
        load(copy)


def test_every_byte_of_a_weight_file_is_checked(copy: Path) -> None:
    """Whatever byte changes, header included: an error, never a wrong model or another exception."""
    path = copy / "final.safetensors"
    whole = path.read_bytes()
    for at in range(len(whole)):
        flip(path, at)
        with pytest.raises(ModelError):
            load(copy, 2, 3)
        path.write_bytes(whole)
    load(copy, 2, 3)


@pytest.mark.parametrize("name", [LAYER, leaves_file(LAYER), "tokenizer.json", "model.json", "tables.safetensors"])
@pytest.mark.parametrize("change", ["missing", "empty", "cut", "longer"])
def test_files_that_are_not_whole(copy: Path, name: str, change: str) -> None:
    path = copy / name
    data = path.read_bytes()
    path.write_bytes({"missing": b"", "empty": b"", "cut": data[:-32], "longer": data + bytes(32)}[change])
    if change == "missing":
        path.unlink()
    with pytest.raises(ModelError, match=Path(name).stem):
        load(copy, 1, 2)


def test_a_changed_tokenizer(copy: Path) -> None:
    flip(copy / "tokenizer.json", 100)
    with pytest.raises(ModelError, match="the tokenizer files or stop ids do not have the hash"):
        load(copy, 1, 2)
    flip(copy / "tokenizer.json", 100)
    (copy / "chat_template.jinja").write_text("added")
    with pytest.raises(ModelError, match="the tokenizer files or stop ids do not have the hash"):
        load(copy, 1, 2)


def test_other_stop_ids(copy: Path) -> None:
    manifest = json.loads((copy / "model.json").read_text())
    manifest["stop_ids"] = [3]
    (copy / "model.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    with pytest.raises(ModelError, match="the tokenizer files or stop ids do not have the hash"):
        load(copy, 1, 2)


def test_another_model_than_wanted(built: Path, untied: Path) -> None:
    with pytest.raises(ModelError, match=rf"has weights root .*, {read_manifest(untied).weights_root.hex()} is wanted"):
        load(built, expected_root=read_manifest(untied).weights_root)


@pytest.mark.parametrize(("start", "end"), [(0, 4), (2, 2), (-1, 1), (2, 1), (3, 3)])
def test_ranges_outside_the_model(built: Path, start: int, end: int) -> None:
    with pytest.raises(ModelError, match=rf"layer range {start}:{end} is not within this model's 0:3"):
        load(built, start, end)


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"model.json: cannot be read .* give a folder that `efedllm model build` wrote"
    ):
        load(tmp_path)


def forge(folder: Path, name: str, change: Callable[[Arrays], None], exponent: int | None = None) -> None:
    """Alter a tensor and make every hash right again, as a publisher of a bad model would."""
    manifest = read_manifest(folder)
    spec = manifest.layout.tensors[name]
    arrays = {key: value.copy() for key, value in load_file(folder / spec.file).items()}
    parts = {part: arrays[part] for part in spec.part_names}
    change(parts)
    arrays |= parts
    save_file(arrays, folder / spec.file)
    records = dict(manifest.tensors)
    e = manifest.tensors[name].exponent if exponent is None else exponent
    records[name] = TensorRecord(e, b"")
    leaves = b""
    for other in manifest.layout.files[spec.file]:
        stored = [arrays[part] for part in other.part_names]
        hashes = leaf_hashes(
            Stored(other, stored[0], stored[1] if len(stored) > 1 else None, records[other.name].exponent)
        )
        records[other.name] = TensorRecord(records[other.name].exponent, tensor_root(other, hashes))
        leaves += b"".join(hashes)
    (folder / leaves_file(spec.file)).write_bytes(leaves)
    (folder / "model.json").write_text(dump_manifest(replace(manifest, tensors=records)))


def put(part: str, value: int) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[part].flat[3] = value

    return change


def same(arrays: Arrays) -> None:
    """Leave the values."""


def test_a_forged_model_of_the_right_range_loads(copy: Path, built: Path) -> None:
    forge(copy, "layers.1.up", put("up.weight", -127))
    assert load(copy, 1, 2).manifest.weights_root != read_manifest(built).weights_root


@pytest.mark.parametrize(
    ("name", "change", "exponent", "message"),
    [
        ("layers.1.up", put("up.weight", -128), None, r"layers.1.up: values: -128 \.\. 127 leaves -127 \.\. 127"),
        ("layers.1.up", put("up.scale", 0), None, r"layers.1.up: scales: 0 \.\. "),
        ("layers.1.up", put("up.scale", -5), None, r"layers.1.up: scales: -5 \.\. "),
        ("layers.1.up", put("up.scale", 2**20 + 1), None, r"layers.1.up: scales: \d+ \.\. 1048577 leaves"),
        ("layers.1.down", same, 61, r"layers.1.down: exponent: 61 \.\. 61 leaves 16 \.\. 60"),
        ("layers.1.down", same, 15, r"layers.1.down: exponent: 15 \.\. 15 leaves 16 \.\. 60"),
        ("layers.1.mlp_norm", put("mlp_norm", -32768), None, r"layers.1.mlp_norm: values: -32768"),
        ("layers.1.mlp_norm", same, 3, r"layers.1.mlp_norm: a gain of \d+ \* 2\^-3 is too large for hidden = 48"),
        ("layers.1.mlp_norm", same, 31, r"layers.1.mlp_norm: exponent: 31"),
        ("rotary", put("rotary", 16385), None, r"rotary: .*16385 leaves -16384 \.\. 16384"),
        ("rotary", same, 13, "rotary: its exponent is 13, not 14"),
        ("exp2", put("exp2", 1), None, "exp2: is not the semantics' table"),
        ("sigmoid", put("sigmoid", -7), None, "sigmoid: is not the semantics' table"),
    ],
)  # fmt: skip
def test_values_out_of_range_behind_right_hashes(
    copy: Path, name: str, change: Callable[[Arrays], None], exponent: int | None, message: str
) -> None:
    forge(copy, name, change, exponent)
    with pytest.raises(ModelError, match="tensor " + message):
        load(copy, 1, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("up.scale"), "tensor up.scale is missing from layers/0001.safetensors"),
        (lambda arrays: arrays.update(more=arrays["mlp_norm"]), "tensor more is unexpected in layers/0001"),
        (lambda arrays: arrays.update({"up.weight": arrays["up.weight"][:-1]}), r"up: its values are int8 \[79, 48\]"),
        (lambda arrays: arrays.update({"up.scale": arrays["up.scale"].astype("i8")}), "up: its scales are int64"),
        (lambda arrays: arrays.update(mlp_norm=arrays["mlp_norm"].view("u2")), "mlp_norm: its values are uint16"),
    ],
)  # fmt: skip
def test_tensors_of_another_form(copy: Path, change: Callable[[Arrays], None], message: str) -> None:
    arrays = load_file(copy / LAYER)
    change(arrays)
    save_file(arrays, copy / LAYER)
    with pytest.raises(ModelError, match=message):
        load(copy, 1, 2)


def test_a_file_that_changes_after_loading_changes_nothing(copy: Path) -> None:
    loaded = load(copy, 1, 2)
    before = loaded.layers[0].up.q.clone()
    with (copy / LAYER).open("r+b") as file:
        file.write(bytes((copy / LAYER).stat().st_size))
    assert torch.equal(loaded.layers[0].up.q, before)
