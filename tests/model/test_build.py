"""Building: the same root everywhere, the numbers of docs/numerics.md, and refusals that leave nothing behind."""

from __future__ import annotations

import json
import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file as save_torch

from efedllm.model.build import build
from efedllm.model.errors import ModelError
from efedllm.model.format import MANIFEST_FILE, parse_manifest
from efedllm.model.load import load, read_manifest
from tests.model.checkpoints import CONFIG, split_checkpoint, weights, write_checkpoint

GOLDEN_ROOT = "7201d035d908dc65854ef21230b0436a8e5966abd67bec67c605ed1b27bd3603"
"""Weights root of the tiny checkpoint with a tied head. Another value means that old models cannot be rebuilt."""


def test_golden_root(built: Path) -> None:
    manifest = read_manifest(built)
    assert manifest.weights_root.hex() == GOLDEN_ROOT
    assert manifest.stop_ids == (3, 7)
    assert manifest.name == "tied" and manifest.quality is None


def test_folder_holds_what_the_format_says(built: Path, untied: Path) -> None:
    layers = [f"layers/{at:04d}" for at in range(3)]
    tensors = ["embedding", "final", "tables", *layers]
    wanted = {MANIFEST_FILE, "tokenizer.json", *(f"{name}.safetensors" for name in tensors)}
    wanted |= {f"leaves/{name}.bin" for name in tensors}
    for folder in (built, untied):
        assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == wanted


def test_others_may_read_what_this_user_lets_them(built: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").touch()
    usual = (tmp_path / "plain").stat().st_mode, (tmp_path / "plain" / "file").stat().st_mode
    for path in (built, *built.rglob("*")):
        assert path.stat().st_mode == usual[path.is_file()]


def test_quantised_as_written(built: Path, checkpoint: Path) -> None:
    """Exact fractions in the place of fp64 agree but where the true quotient is within rounding of a half."""
    source = load_file(checkpoint / "model.safetensors")
    stored = load_file(built / "layers/0002.safetensors")
    exponents = {name: record.exponent for name, record in read_manifest(built).tensors.items()}
    w, e = source["model.layers.2.mlp.down_proj.weight"], exponents["layers.2.down"]
    largest = [max(abs(Fraction(float(x))) for x in row) for row in w]
    assert max(largest) / 127 * 2**e <= 2**20 < max(largest) / 127 * 2 ** (e + 1)
    half = Fraction(1, 2)
    for row, (values, peak) in enumerate(zip(w, largest, strict=True)):
        m = max(1, math.floor(peak / 127 * 2**e + half))
        assert stored["down.scale"][row] == m
        for column, value in enumerate(values):
            exact = Fraction(float(value)) / m * 2**e
            assert abs(int(stored["down.weight"][row, column]) - exact) <= half + Fraction(1, 10**9)
    gain, e = source["model.layers.2.input_layernorm.weight"], exponents["layers.2.attention_norm"]
    assert max(abs(gain)) * 2**e <= 32767 < max(abs(gain)) * 2 ** (e + 1)
    exact_gain = [math.floor(Fraction(float(g)) * 2**e + half) for g in gain]
    assert stored["attention_norm"].tolist() == exact_gain


def test_sharded_checkpoint_gives_the_same_root(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    split_checkpoint(source, 3)
    assert build(str(source), tmp_path / "out").weights_root.hex() == GOLDEN_ROOT


def test_threads_do_not_matter(checkpoint: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert build(str(checkpoint), tmp_path / "out").weights_root.hex() == GOLDEN_ROOT
    finally:
        torch.set_num_threads(before)


def test_blocks_of_rows_do_not_matter(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efedllm.model.quantise.BLOCK_VALUES", 100)
    assert build(str(checkpoint), tmp_path / "out").weights_root.hex() == GOLDEN_ROOT


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_float_types(dtype: torch.dtype, tmp_path: Path) -> None:
    """A checkpoint in another type is built from the values that it holds."""
    rounded = {name: torch.from_numpy(value).to(dtype) for name, value in weights(CONFIG).items()}
    write_checkpoint(tmp_path / "a", {name: value.to(torch.float32).numpy() for name, value in rounded.items()})
    write_checkpoint(tmp_path / "b")
    save_torch(rounded, tmp_path / "b" / "model.safetensors")
    roots = [build(str(tmp_path / name), tmp_path / f"out-{name}").weights_root for name in "ab"]
    assert roots[0] == roots[1]


def test_a_tied_head_and_an_untied_one(built: Path, untied: Path) -> None:
    assert "head" not in read_manifest(built).tensors
    assert read_manifest(untied).tensors["head"].root != read_manifest(untied).tensors["embedding"].root
    assert load(built).head is load(built, 0, 3).head or load(built).head is not None


def test_a_stored_copy_of_a_tied_head_is_ignored(tmp_path: Path) -> None:
    tensors = weights(CONFIG)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(6, np.float32)
    source = write_checkpoint(tmp_path / "source", tensors)
    assert build(str(source), tmp_path / "out").weights_root.hex() == GOLDEN_ROOT


def test_zeros_can_be_built(tmp_path: Path) -> None:
    tensors = weights(CONFIG)
    tensors["model.layers.0.mlp.up_proj.weight"][:] = 0
    tensors["model.layers.1.self_attn.k_proj.weight"][3] = 0
    out = tmp_path / "out"
    manifest = build(str(write_checkpoint(tmp_path / "source", tensors)), out)
    assert manifest.tensors["layers.0.up"].exponent == 60
    zeros = load_file(out / "layers/0000.safetensors")
    assert zeros["up.scale"].tolist() == [1] * 80 and not zeros["up.weight"].any()
    assert load_file(out / "layers/0001.safetensors")["k.scale"][3] == 1


def test_chat_template_becomes_a_file(tmp_path: Path) -> None:
    inside, beside, without = (write_checkpoint(tmp_path / name) for name in ("inside", "beside", "without"))
    (inside / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}é"}))
    (beside / "chat_template.jinja").write_text("{{ messages }}é")
    hashes = {
        build(str(source), tmp_path / f"{source.name}-out").tokenizer_hash for source in (inside, beside, without)
    }
    assert len(hashes) == 3
    for name in ("inside", "beside"):
        assert (tmp_path / f"{name}-out" / "chat_template.jinja").read_text() == "{{ messages }}é"
    assert not (tmp_path / "without-out" / "chat_template.jinja").exists()


def test_stop_ids_come_from_the_generation_config(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": 9}))
    assert build(str(source), tmp_path / "out").stop_ids == (9,)


def test_replaces_a_model_only_when_told(built: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(str(checkpoint), out, name="first")
    with pytest.raises(ModelError, match="exists already; choose another folder, or replace it with --force"):
        build(str(checkpoint), out)
    assert read_manifest(out).name == "first"
    build(str(checkpoint), out, name="second", force=True)
    assert read_manifest(out).name == "second"
    other = tmp_path / "precious"
    other.mkdir()
    (other / "letter").write_text("dear")
    with pytest.raises(ModelError, match="is not a built model, so --force does not replace it"):
        build(str(checkpoint), other, force=True)
    assert sorted(os.listdir(tmp_path)) == ["out", "precious"]


def test_progress_ends_with_the_whole(checkpoint: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    build(str(checkpoint), tmp_path / "out", progress=lambda *report: told.append(report))
    done = [report[1] for report in told]
    assert done == sorted(done) and done[0] == 0 and done[-1] == told[-1][2] == told[0][2]
    assert {"embedding", "layers.2.down", "rotary"} <= {report[0] for report in told}


def test_interrupted_builds_leave_nothing(checkpoint: Path, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "layers.1.q":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(str(checkpoint), tmp_path / "out", progress=interrupt)
    assert not os.listdir(tmp_path)


def test_the_manifest_is_what_build_returns(checkpoint: Path, tmp_path: Path) -> None:
    manifest = build(str(checkpoint), tmp_path / "out")
    assert parse_manifest((tmp_path / "out" / MANIFEST_FILE).read_text()) == manifest
