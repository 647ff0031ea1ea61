"""Tiny checkpoints from hashes: the same weights on every machine and with every library version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import shake_256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

Weights = dict[str, NDArray[np.float32]]

CONFIG: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "vocab_size": 300,
    "max_position_embeddings": 200,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": [7, 3],
}


def weights(config: Mapping[str, Any]) -> Weights:
    """Weights of the size of a trained model's: activations stay near 1, attention and tokens vary."""
    hidden, middle, width = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, key_value = config["num_attention_heads"] * width, config["num_key_value_heads"] * width
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (config["vocab_size"], hidden), "model.norm": (hidden,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head"] = (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        shapes |= {
            f"model.layers.{layer}.{name}": shape
            for name, shape in {
                "input_layernorm": (hidden,),
                "self_attn.q_proj": (query, hidden),
                "self_attn.k_proj": (key_value, hidden),
                "self_attn.v_proj": (key_value, hidden),
                "self_attn.o_proj": (hidden, query),
                "post_attention_layernorm": (hidden,),
                "mlp.gate_proj": (middle, hidden),
                "mlp.up_proj": (middle, hidden),
                "mlp.down_proj": (hidden, middle),
            }.items()
        }
    return {f"{name}.weight": _values(name, shape) for name, shape in shapes.items()}


def _values(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    count = int(np.prod(shape))
    uniform = np.frombuffer(shake_256(name.encode()).digest(2 * count), "<i2").reshape(shape) / 32768
    scale = 0.5 if len(shape) == 1 or "embed" in name or "head" in name else 2.5 / shape[-1] ** 0.5
    return (uniform * scale + (1.0 if len(shape) == 1 else 0.0)).astype(np.float32)


def tokenizer() -> Tokenizer:
    """Byte-level without merges: ids 0 .. 255 are bytes, in the order of their printable stand-ins."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: at for at, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def write_checkpoint(folder: Path, tensors: Weights | None = None, **changes: Any) -> Path:
    """A checkpoint folder with `CONFIG` but for `changes`; `tensors` replaces the weights."""
    config = {**CONFIG, **changes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights(config) if tensors is None else tensors, folder / "model.safetensors")
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def split_checkpoint(folder: Path, parts: int) -> None:
    """Spread the weights of a checkpoint over several files with an index."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index: dict[str, str] = {}
    for part in range(parts):
        file = f"model-{part + 1:05d}-of-{parts:05d}.safetensors"
        names = sorted(tensors)[part::parts]
        save_file({name: tensors[name] for name in names}, folder / file)
        index |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
