"""`model.json`, the manifest of a built model, and the names of the files beside it.

    model.json                   this manifest
    embedding.safetensors        embedding.weight int8 [vocab, hidden], embedding.scale int32 [vocab]
    layers/0000.safetensors ...  per layer: q.weight, q.scale, ..., attention_norm int16 [hidden], mlp_norm
    final.safetensors            final_norm; head.weight and head.scale unless the head is tied to the embedding
    tables.safetensors           rotary int16 [context, head_dim], exp2 int32 [256, 2], sigmoid int32 [512, 2]
    leaves/<the same names>.bin  hashes of the leaves of that file's tensors, 32 bytes each
    tokenizer.json, tokenizer_config.json, chat_template.jinja   the latter two if the model has them

Parsing is strict: a manifest that parses is complete, of this semantics version, and its roots agree with each other.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from math import isfinite
from typing import Any

from efedllm.model.commitment import HASH_BYTES, weights_root
from efedllm.model.config import Dimensions
from efedllm.model.errors import ModelError
from efedllm.model.layout import Layout
from efedllm.model.optable import op_table
from efedllm.numerics.limits import SEMANTICS
from efedllm.strict_json import parse_json

FORMAT_VERSION = 1
MANIFEST_FILE = "model.json"
MAX_MANIFEST_BYTES = 1 << 25
MAX_NAME = 100
MAX_STOP_IDS = 64


@dataclass(frozen=True)
class TensorRecord:
    """A tensor's exponent (fractional bits, of a table) and root."""

    exponent: int
    root: bytes


@dataclass(frozen=True)
class Quality:
    """Perplexity over the same windows of a held-out text, of the float checkpoint and of the integer model."""

    perplexity_float: float
    perplexity_integer: float
    tokens: int


@dataclass(frozen=True)
class Manifest:
    """What a built model is. `tensors` are in the order of the layout."""

    name: str
    dimensions: Dimensions
    tensors: Mapping[str, TensorRecord]
    tokenizer_hash: bytes
    stop_ids: tuple[int, ...]
    quality: Quality | None = None

    @cached_property
    def layout(self) -> Layout:
        return Layout(self.dimensions)

    @property
    def roots(self) -> dict[str, bytes]:
        return {name: record.root for name, record in self.tensors.items()}

    @cached_property
    def weights_root(self) -> bytes:
        return weights_root(self.layout, self.roots)


def dump_manifest(manifest: Manifest) -> str:
    """The text of model.json."""
    value = {
        "format": FORMAT_VERSION,
        "semantics": SEMANTICS,
        "name": manifest.name,
        "dimensions": asdict(manifest.dimensions),
        "op_table": op_table().hex(),
        "weights_root": manifest.weights_root.hex(),
        "tensors": {name: {"exponent": t.exponent, "root": t.root.hex()} for name, t in manifest.tensors.items()},
        "tokenizer_hash": manifest.tokenizer_hash.hex(),
        "stop_ids": list(manifest.stop_ids),
        "quality": asdict(manifest.quality) if manifest.quality else None,
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def parse_manifest(text: str) -> Manifest:
    """The inverse of `dump_manifest`. Raises ModelError, naming the key, for anything it would not have written."""
    try:
        value = parse_json(text)
    except ValueError as error:
        raise ModelError(f"{MANIFEST_FILE}: is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ModelError(f"{MANIFEST_FILE}: is not a JSON object")
    if not _is_number(value.get("format"), FORMAT_VERSION):
        version = _shown(value.get("format"))
        raise ModelError(f"{MANIFEST_FILE}: has format {version}, this program reads {FORMAT_VERSION}")
    if not _is_number(value.get("semantics"), SEMANTICS):
        version = _shown(value.get("semantics"))
        raise ModelError(f"{MANIFEST_FILE}: has semantics version {version}, this program computes {SEMANTICS}")
    keys = ("format", "semantics", "name", "dimensions", "op_table", "weights_root", "tensors", "tokenizer_hash")
    _check_keys(value, (*keys, "stop_ids", "quality"), "")
    if value["op_table"] != op_table().hex():
        raise ModelError(f"{MANIFEST_FILE}: op_table is not that of semantics version {SEMANTICS}")
    dimensions = _dimensions(value["dimensions"])
    manifest = Manifest(
        name=_name(value["name"]),
        dimensions=dimensions,
        tensors=_tensors(value["tensors"], Layout(dimensions)),
        tokenizer_hash=_hash(value["tokenizer_hash"], "tokenizer_hash"),
        stop_ids=_stop_ids(value["stop_ids"], dimensions.vocab),
        quality=_quality(value["quality"]),
    )
    if manifest.weights_root != _hash(value["weights_root"], "weights_root"):
        raise ModelError(f"{MANIFEST_FILE}: weights_root does not follow from the tensors' roots; the file was altered")
    if dump_manifest(manifest) != text:
        raise ModelError(f"{MANIFEST_FILE}: is not as `efedllm model build` writes it; the file was altered")
    return manifest


def _dimensions(value: Any) -> Dimensions:
    _check_keys(value, tuple(field.name for field in fields(Dimensions)), "dimensions")
    for key, entry in value.items():
        if type(entry) is not (bool if key == "tied" else int):
            raise ModelError(f"{MANIFEST_FILE}: dimensions.{key} is {_shown(entry)}")
    return Dimensions(**value)


def _tensors(value: Any, layout: Layout) -> dict[str, TensorRecord]:
    _check_keys(value, tuple(layout.tensors), "tensors")
    records = {}
    for name in layout.tensors:
        entry = value[name]
        _check_keys(entry, ("exponent", "root"), f"tensors.{name}")
        exponent = entry["exponent"]
        if type(exponent) is not int or not 0 <= exponent < 2**16:
            raise ModelError(f"{MANIFEST_FILE}: tensors.{name}.exponent is {_shown(exponent)}")
        records[name] = TensorRecord(exponent, _hash(entry["root"], f"tensors.{name}.root"))
    return records


def _quality(value: Any) -> Quality | None:
    if value is None:
        return None
    _check_keys(value, tuple(field.name for field in fields(Quality)), "quality")
    floats = [value["perplexity_float"], value["perplexity_integer"]]
    if not all(type(entry) is float and isfinite(entry) for entry in floats) or type(value["tokens"]) is not int:
        raise ModelError(f"{MANIFEST_FILE}: quality holds no two perplexities and a number of tokens")
    return Quality(**value)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise ModelError(f"{MANIFEST_FILE}: name is not a printable text of at most {MAX_NAME} characters")
    return value


def _stop_ids(value: Any, vocab: int) -> tuple[int, ...]:
    is_list = isinstance(value, list) and all(type(token) is int and 0 <= token < vocab for token in value)
    if not is_list or value != sorted(set(value)) or len(value) > MAX_STOP_IDS:
        raise ModelError(f"{MANIFEST_FILE}: stop_ids are not at most {MAX_STOP_IDS} ascending token ids below {vocab}")
    return tuple(value)


def _hash(value: Any, key: str) -> bytes:
    try:
        data = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        data = b""
    if len(data) != HASH_BYTES or data.hex() != value:
        raise ModelError(f"{MANIFEST_FILE}: {key} is not {HASH_BYTES} bytes in lower-case hex")
    return data


def _check_keys(value: Any, wanted: tuple[str, ...], where: str) -> None:
    place = f"{where} " if where else ""
    if not isinstance(value, dict):
        raise ModelError(f"{MANIFEST_FILE}: {place}is not an object")
    if unknown := sorted(value.keys() - set(wanted)):
        raise ModelError(f"{MANIFEST_FILE}: {place}has the unknown key {_shown(unknown[0])}")
    if missing := [key for key in wanted if key not in value]:
        raise ModelError(f"{MANIFEST_FILE}: {place}lacks the key {missing[0]!r}")


def _is_number(value: Any, wanted: int) -> bool:
    """Also no `true` or `1.0`, which equal 1."""
    return type(value) is int and value == wanted


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_NAME else f"{text[:MAX_NAME]}..."
