"""Building: the same root everywhere, the numbers of docs/numerics.md, and refusals that leave nothing behind."""

from __future__ import annotations

import json
import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file as save_torch

from efedllm.model.build import build
from efedllm.model.errors import ModelError
from efedllm.model.format import MANIFEST_FILE, parse_manifest
from efedllm.model.load import load, read_manifest
from tests.model.checkpoints import CONFIG, Weights, split_checkpoint, weights, write_checkpoint

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


def spoil(name: str, change: Any) -> Weights:
    tensors = weights(CONFIG)
    change(tensors, name)
    return tensors


def put(value: float) -> Any:
    def change(tensors: Weights, name: str) -> None:
        tensors[name].flat[5] = value

    return change


def drop(tensors: Weights, name: str) -> None:
    del tensors[name]


def reshape(tensors: Weights, name: str) -> None:
    tensors[name] = np.ascontiguousarray(tensors[name].T[:-1])


def add(tensors: Weights, name: str) -> None:
    tensors[name] = np.zeros(48, np.float32)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("model.layers.1.mlp.gate_proj.weight", put(math.nan), "tensor layers.1.gate: holds NaN or infinity"),
        ("model.embed_tokens.weight", put(math.inf), "tensor embedding: holds NaN or infinity"),
        ("model.norm.weight", put(-math.inf), "tensor final_norm: holds NaN or infinity"),
        ("model.layers.0.self_attn.q_proj.weight", put(3000.0), "tensor layers.0.q: its largest weight, 3000, exceeds 2032"),
        ("model.layers.2.input_layernorm.weight", put(4e4), "tensor layers.2.attention_norm: its largest entry, 40000,"),
        ("model.layers.2.post_attention_layernorm.weight", put(3e4), r"tensor layers.2.mlp_norm: a gain of 30000 \* 2\^-0"),
        ("model.layers.1.self_attn.v_proj.weight", drop, r"tensor model.layers.1.self_attn.v_proj.weight is missing from"),
        ("model.norm.weight", drop, r"tensor model.norm.weight is missing from .*\(1 missing in all\)"),
        ("model.layers.0.mlp.down_proj.weight", reshape, r"down_proj.weight: has shape \[79, 48\], the .* says \[48, 80\]"),
        ("model.layers.0.self_attn.q_proj.bias", add, "tensor model.layers.0.self_attn.q_proj.bias is not part of a Llama"),
        ("model.layers.3.mlp.up_proj.weight", add, "tensor model.layers.3.mlp.up_proj.weight is not part of a Llama"),
    ],
)  # fmt: skip
def test_spoilt_tensors(name: str, change: Any, message: str, tmp_path: Path) -> None:
    refuse(write_checkpoint(tmp_path / "source", spoil(name, change)), message)


def refuse(source: Path, message: str) -> None:
    """The build says why in one line, and leaves no trace beside its source."""
    before = sorted(os.listdir(source.parent))
    with pytest.raises(ModelError, match=message) as caught:
        build(str(source), source.parent / "out")
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(source.parent)) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "model type 'gpt2' is not supported: only the Llama"),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, "model type 'qwen2' is not supported"),
        ({"model_type": "mixtral", "num_local_experts": 4}, "mixture of experts is not supported"),
        ({"model_type": "mistral", "sliding_window": 64}, r"sliding-window attention \(window 64\) is not supported"),
        ({"model_type": "no-such-model"}, "config.json: .*no-such-model"),
        ({"attention_bias": True}, "attention bias is not supported"),
        ({"mlp_bias": True}, "a bias in the feed-forward part is not supported"),
        ({"hidden_act": "gelu"}, "activation 'gelu' is not supported"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rotary scaling of type 'linear'"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 0.5}}, "rotary theta 0.5 is out of range"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "the checkpoint is quantised already"),
        ({"head_dim": 11}, "config.json: .*an even rotary dimension"),
        ({"head_dim": 258}, r"head_dim = 258 is not in 1 \.\. 256"),
        ({"num_key_value_heads": 3}, "kv_heads = 3 does not divide heads = 4"),
        ({"max_position_embeddings": 2**17 + 1}, "context = 131073 is not in"),
        ({"vocab_size": 2**18 + 1}, "vocab = 262145 is not in"),
        ({"intermediate_size": 2**16 + 1}, "intermediate = 65537 is not in"),
        ({"rms_norm_eps": 1.5}, "rms_norm_eps 1.5 is outside"),
        ({"eos_token_id": 300}, "eos_token_id 300 is not a list of token ids below 300"),
        ({"vocab_size": 301}, r"embed_tokens.weight: has shape \[300, 48\], the configuration says \[301, 48\]"),
        ({"num_hidden_layers": 4}, "tensor model.layers.3.input_layernorm.weight is missing"),
        ({"tie_word_embeddings": False}, "tensor lm_head.weight is missing"),
    ],
)  # fmt: skip
def test_unsupported_architectures(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    refuse(write_checkpoint(tmp_path / "source", weights(CONFIG), **changes), message)


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    tensors = {name: torch.from_numpy(value) for name, value in weights(CONFIG).items()}
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.int8)
    source = write_checkpoint(tmp_path / "source")
    save_torch(tensors, source / "model.safetensors")
    refuse(source, "tensor model.norm.weight: has type I8, not a float")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "has no config.json"),
        ("config.json", "{", "config.json"),
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("tokenizer_config.json", "[", "tokenizer_config.json: is not JSON"),
        ("generation_config.json", "[]", "generation_config.json: is not a JSON object"),
        ("model.safetensors", None, "has no model.safetensors"),
        ("model.safetensors", "garbage", "model.safetensors: cannot be read"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../b"}}', "weight_map does not give a file name"),
        ("model.safetensors.index.json", '{"weight_map": {}}', "tensor lm_head.weight is missing|embed_tokens.* is missing"),
    ],
)  # fmt: skip
def test_broken_files(file: str, content: str | None, message: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    if content is None:
        (source / file).unlink()
    else:
        (source / file).write_text(content)
    refuse(source, message)


def test_an_index_that_points_nowhere(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    split_checkpoint(source, 2)
    (source / "model-00002-of-00002.safetensors").unlink()
    refuse(source, "cannot be read from model-00002-of-00002.safetensors")


def test_no_such_source(tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere", "nowhere: no such checkpoint folder")


def test_a_hub_id_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="someone/model: no such folder, and the model hub did not deliver it"):
        build("someone/model", tmp_path / "out")


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
