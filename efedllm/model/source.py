"""A float checkpoint as its authors publish it: configuration, safetensors in one file or several, tokenizer.

Checks that the architecture is one that the integer semantics computes, and says which part is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from efedllm.model.config import Dimensions
from efedllm.model.errors import ModelError
from efedllm.model.layout import Kind, TensorSpec
from efedllm.model.quantise import Floats, quantise_epsilon
from efedllm.strict_json import parse_json

FAMILIES = ("llama", "mistral")
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")
LAYER_TENSORS = {
    "attention_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
OUTER_TENSORS = {"embedding": "model.embed_tokens", "final_norm": "model.norm", "head": "lm_head"}
DERIVED_SUFFIX = "rotary_emb.inv_freq"
"""Old checkpoints store it; it follows from the configuration."""
MAX_REASON = 300
HUB_FILES = ["*.json", "*.safetensors", "*.jinja"]


@dataclass(frozen=True)
class Architecture:
    """What the configuration says."""

    dimensions: Dimensions
    rope_theta: float
    stop_ids: tuple[int, ...]


def checkpoint_folder(source: str) -> Path:
    """The folder that `source` names, or the hub's model of that id, downloaded. Raises ModelError without either."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise ModelError(f"{source}: no such checkpoint folder")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=HUB_FILES))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{source}: no such folder, and the model hub did not deliver it; "
            f"give the folder of a downloaded checkpoint ({_one_line(error)})"
        ) from error


class Checkpoint:
    """A checkpoint folder. Reads configuration and headers when made, weights only when asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelError for an architecture that is not supported, or for missing, extra or misshapen tensors."""
        self.folder = folder
        self.architecture = read_architecture(folder)
        self._files = _tensor_files(folder)
        self._check_names()

    def rows(self, spec: TensorSpec) -> "Rows":
        """Reader of a tensor's rows. Raises ModelError when its shape or type is not what the dimensions say."""
        return Rows(self._files[_source_name(spec.name)], _source_name(spec.name), spec)

    def _check_names(self) -> None:
        tied = self.architecture.dimensions.tied
        wanted = {_source_name(name) for name in OUTER_TENSORS if not (tied and name == "head")}
        for index in range(self.architecture.dimensions.layers):
            wanted |= {_source_name(f"layers.{index}.{short}") for short in LAYER_TENSORS}
        missing = sorted(wanted - self._files.keys())
        if missing:
            raise ModelError(f"tensor {missing[0]} is missing from {self.folder} ({len(missing)} missing in all)")
        unknown = sorted(name for name in self._files.keys() - wanted if not _is_redundant(name, tied))
        if unknown:
            raise ModelError(f"tensor {unknown[0]} is not part of a Llama model, so its answers would differ")


class Rows:
    """Rows of one tensor of a checkpoint, read from disk as they are asked for."""

    def __init__(self, file: Path, name: str, spec: TensorSpec) -> None:
        self.name = name
        self._is_vector = spec.kind is Kind.GAIN
        wanted = [spec.columns] if self._is_vector else [spec.rows, spec.columns]
        try:
            self._slice = safe_open(file, "pt").get_slice(name)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"tensor {name}: cannot be read from {file.name} ({error})") from error
        if (shape := self._slice.get_shape()) != wanted:
            raise ModelError(f"tensor {name}: has shape {shape}, the configuration says {wanted}")
        if (dtype := self._slice.get_dtype()) not in FLOAT_DTYPES:
            raise ModelError(f"tensor {name}: has type {dtype}, not a float; start from the unquantised checkpoint")

    def read(self, start: int, end: int) -> Floats:
        """Rows `start:end` in fp64; entries, of a vector."""
        import torch

        block: Floats = self._slice[start:end].to(torch.float64).numpy()
        return block


def read_architecture(folder: Path) -> Architecture:
    """Read config.json and generation_config.json. Raises ModelError with the part that is not supported."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: has no config.json; give the folder of a Hugging Face checkpoint")
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise ModelError(f"{folder}/config.json: {_one_line(error)}") from error
    reason = _unsupported(config)
    if reason:
        raise ModelError(f"{folder}: {reason}")
    heads = int(config.num_attention_heads)
    dimensions = Dimensions(
        hidden=int(config.hidden_size),
        intermediate=int(config.intermediate_size),
        layers=int(config.num_hidden_layers),
        heads=heads,
        kv_heads=int(config.num_key_value_heads or heads),
        head_dim=int(config.head_dim or config.hidden_size // heads),
        vocab=int(config.vocab_size),
        context=int(config.max_position_embeddings),
        epsilon=quantise_epsilon(float(config.rms_norm_eps)),
        tied=bool(config.tie_word_embeddings),
    )
    stop_ids = _stop_ids(folder, config, dimensions.vocab)
    return Architecture(dimensions, float(config.rope_parameters["rope_theta"]), stop_ids)


def _unsupported(config: Any) -> str | None:
    """Why the integer semantics cannot compute such a model, or None."""
    rope: Mapping[str, Any] = getattr(config, "rope_parameters", None) or {}
    rope_type = rope.get("rope_type", "default")
    window = getattr(config, "sliding_window", None)
    if getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None):
        return "mixture of experts is not supported"
    if getattr(config, "quantization_config", None):
        return "the checkpoint is quantised already; start from the unquantised one"
    if getattr(config, "attention_bias", False):
        return "attention bias is not supported"
    if getattr(config, "mlp_bias", False):
        return "a bias in the feed-forward part is not supported"
    if window is not None and getattr(config, "use_sliding_window", True) and window < config.max_position_embeddings:
        return f"sliding-window attention (window {window}) is not supported"
    if rope_type != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        return f"rotary scaling of type {rope_type!r} is not supported"
    if config.model_type not in FAMILIES:
        return f"model type {config.model_type!r} is not supported: only the Llama family ({', '.join(FAMILIES)}) is"
    if config.hidden_act != "silu":
        return f"activation {config.hidden_act!r} is not supported: only silu is"
    return None


def _stop_ids(folder: Path, config: Any, vocab: int) -> tuple[int, ...]:
    path = folder / "generation_config.json"
    generation = _read_json(path) if path.is_file() else {}
    ends = generation.get("eos_token_id", config.eos_token_id)
    ids = [] if ends is None else ends if isinstance(ends, list) else [ends]
    if any(type(token) is not int or not 0 <= token < vocab for token in ids):
        raise ModelError(f"{folder}: eos_token_id {ends!r} is not a list of token ids below {vocab}")
    return tuple(sorted(set(ids)))


def _tensor_files(folder: Path) -> dict[str, Path]:
    """The file of each tensor."""
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if index.is_file():
        names = _read_json(index).get("weight_map")
        if not isinstance(names, dict) or any(not isinstance(file, str) or "/" in file for file in names.values()):
            raise ModelError(f"{index}: its weight_map does not give a file name per tensor")
        return {name: folder / file for name, file in names.items()}
    if not single.is_file():
        raise ModelError(f"{folder}: has no model.safetensors; save the checkpoint with safe serialization")
    try:
        with safe_open(single, "pt") as file:
            return dict.fromkeys(file.keys(), single)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{single}: cannot be read ({error})") from error


def _source_name(name: str) -> str:
    """The checkpoint's name of one of our tensors."""
    if name in OUTER_TENSORS:
        return f"{OUTER_TENSORS[name]}.weight"
    _, index, short = name.split(".")
    return f"model.layers.{index}.{LAYER_TENSORS[short]}.weight"


def _is_redundant(name: str, tied: bool) -> bool:
    return name.endswith(DERIVED_SUFFIX) or (tied and name == f"{OUTER_TENSORS['head']}.weight")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({_one_line(error)})") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: is not a JSON object")
    return value


def _one_line(error: Exception) -> str:
    """What others' errors say, as part of a message of ours."""
    return " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
