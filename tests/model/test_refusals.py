"""What a build refuses: each with one clear line, and nothing left behind."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file as save_torch

from efedllm.model.build import build
from efedllm.model.errors import ModelError
from tests.model.checkpoints import CONFIG, Weights, split_checkpoint, weights, write_checkpoint


def refuse(source: Path, message: str) -> None:
    """The build says why in one line, and leaves no trace beside its source."""
    before = sorted(os.listdir(source.parent))
    with pytest.raises(ModelError, match=message) as caught:
        build(str(source), source.parent / "out")
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(source.parent)) == before


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
        ("model.layers.0.self_attn.q_proj.weight", put(3000.0), "layers.0.q: its largest weight, 3000, exceeds 2032"),
        ("model.layers.2.input_layernorm.weight", put(4e4), "layers.2.attention_norm: its largest entry, 40000,"),
        ("model.layers.2.post_attention_layernorm.weight", put(3e4), r"layers.2.mlp_norm: a gain of 30000 \* 2\^-0"),
        ("model.layers.1.self_attn.v_proj.weight", drop, "tensor model.layers.1.self_attn.v_proj.weight is missing"),
        ("model.norm.weight", drop, r"tensor model.norm.weight is missing from .*\(1 missing in all\)"),
        ("model.layers.0.mlp.down_proj.weight", reshape, r"down_proj.weight: has shape \[79, 48\], .* says \[48, 80\]"),
        ("model.layers.0.self_attn.q_proj.bias", add, "self_attn.q_proj.bias is not part of a Llama"),
        ("model.layers.3.mlp.up_proj.weight", add, "layers.3.mlp.up_proj.weight is not part of a Llama"),
    ],
)  # fmt: skip
def test_spoilt_tensors(name: str, change: Any, message: str, tmp_path: Path) -> None:
    refuse(write_checkpoint(tmp_path / "source", spoil(name, change)), message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "model type 'gpt2' is not supported"),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, "model type 'qwen2' is not supported"),
        ({"model_type": "mixtral", "num_local_experts": 4}, "mixture of experts is not supported"),
        ({"model_type": "mistral", "sliding_window": 64}, r"sliding-window attention \(window 64\) is not supported"),
        ({"model_type": "no-such-model"}, "config.json: .*no-such-model"),
        ({"attention_bias": True}, "attention bias is not supported"),
        ({"mlp_bias": True}, "a bias in the feed-forward part is not supported"),
        ({"hidden_act": "gelu"}, "activation 'gelu' is not supported"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "scaling of type 'linear'"),
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
        ("model.safetensors.index.json", '{"weight_map": {}}', "embed_tokens.* is missing"),
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
