"""Loading layers of a built model. Nothing is used before it is checked: hashes against the roots in model.json, these
against the weights root, and every value against the range in which the semantics is proved not to overflow."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from efedllm.model.commitment import HASH_BYTES, leaf_hashes, tensor_root
from efedllm.model.errors import ModelError
from efedllm.model.format import MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, parse_manifest
from efedllm.model.layout import EMBEDDING_FILE, FINAL_FILE, TABLES_FILE, TensorSpec, layer_file, leaves_file
from efedllm.model.ranges import check_ranges
from efedllm.model.stored import Integers, Stored
from efedllm.model.tokenizer_files import read_tokenizer_files
from efedllm.numerics.weights import Gain, Matrix, Tables
from efedllm.protocol.tokenizer_hash import tokenizer_hash

_KINDS = frozenset({"BOOL", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "F16", "F32", "F64"})
"""Types of safetensors that numpy has names for."""


@dataclass(frozen=True)
class LayerWeights:
    """One layer, in the order of its subtree of the weights root."""

    attention_norm: Gain
    q: Matrix
    k: Matrix
    v: Matrix
    o: Matrix
    mlp_norm: Gain
    gate: Matrix
    up: Matrix
    down: Matrix


@dataclass(frozen=True)
class Loaded:
    """Checked weights of layers `start .. end`; with the first the embedding, with the last final norm and head."""

    manifest: Manifest
    start: int
    end: int
    tables: Tables
    embedding: Matrix | None
    layers: tuple[LayerWeights, ...]
    final_norm: Gain | None
    head: Matrix | None


def read_manifest(folder: Path) -> Manifest:
    """The checked manifest of a built model. Raises ModelError."""
    path = folder / MANIFEST_FILE
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ModelError(f"{path}: is larger than the {MAX_MANIFEST_BYTES} bytes that any model needs")
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); give a folder that `efedllm model build` wrote") from error
    return parse_manifest(text)


def load(folder: Path | str, start: int = 0, end: int | None = None, expected_root: bytes | None = None) -> Loaded:
    """Load layers `start .. end` (all by default), reading only the files that these need.

    `expected_root`: the weights root that the model must have, as registered. Raises ModelError, naming the tensor,
    when anything is missing, altered or out of range.
    """
    folder = Path(folder)
    manifest = check_model(folder, expected_root)
    layers = manifest.dimensions.layers
    end = layers if end is None else end
    if not 0 <= start < end <= layers:
        raise ModelError(f"layer range {start}:{end} is not within this model's 0:{layers}")
    is_first, is_last, tied = start == 0, end == layers, manifest.dimensions.tied
    tables = load_tables(folder, manifest)
    embedding = load_embedding(folder, manifest) if is_first or (is_last and tied) else None
    final_norm, head = load_final(folder, manifest, embedding) if is_last else (None, None)
    return Loaded(
        manifest=manifest,
        start=start,
        end=end,
        tables=tables,
        embedding=embedding if is_first else None,
        layers=tuple(load_layer(folder, manifest, index) for index in range(start, end)),
        final_norm=final_norm,
        head=head,
    )


def check_model(folder: Path, expected_root: bytes | None = None) -> Manifest:
    """The manifest of a built model whose root is the expected one and whose tokenizer files are intact.

    Raises ModelError.
    """
    manifest = read_manifest(folder)
    if expected_root is not None and manifest.weights_root != expected_root:
        raise ModelError(f"{folder}: has weights root {manifest.weights_root.hex()}, {expected_root.hex()} is wanted")
    if tokenizer_hash(read_tokenizer_files(folder), manifest.stop_ids) != manifest.tokenizer_hash:
        raise ModelError(f"{folder}: the tokenizer files or stop ids do not have the hash in {MANIFEST_FILE}")
    return manifest


def load_tables(folder: Path, manifest: Manifest) -> Tables:
    """Checked tables. Raises ModelError, like every `load_...`."""
    tables = load_file(folder, manifest, TABLES_FILE)
    return Tables(*(torch.from_numpy(tables[name].values) for name in ("rotary", "exp2", "sigmoid")))


def load_embedding(folder: Path, manifest: Manifest) -> Matrix:
    return _matrix(load_file(folder, manifest, EMBEDDING_FILE)["embedding"])


def load_layer(folder: Path, manifest: Manifest, index: int) -> LayerWeights:
    return _layer(load_file(folder, manifest, layer_file(index)))


def load_final(folder: Path, manifest: Manifest, embedding: Matrix | None = None) -> tuple[Gain, Matrix]:
    """Final norm and head; a tied head is the embedding, which is loaded unless it is given."""
    final = load_file(folder, manifest, FINAL_FILE)
    if manifest.dimensions.tied:
        head = load_embedding(folder, manifest) if embedding is None else embedding
    else:
        head = _matrix(final["head"])
    return _gain(final["final_norm"]), head


def load_file(folder: Path, manifest: Manifest, file: str) -> dict[str, Stored]:
    """All tensors of one file, checked, by their names inside it."""
    specs = manifest.layout.files[file]
    leaves = read_leaves(folder, specs)
    tensors: dict[str, Stored] = {}
    try:
        with safe_open(folder / file, "np") as source:
            _check_names(file, set(source.keys()), specs)
            for spec in specs:
                # Read into memory, not mapped: what is checked is what is used, whoever writes to the file later.
                parts = [_read_part(source, name) for name in spec.part_names]
                scales = parts[1] if len(parts) > 1 else None
                tensor = Stored(spec, parts[0], scales, manifest.tensors[spec.name].exponent)
                _check(tensor, leaves[spec.name], manifest.tensors[spec.name].root)
                tensors[spec.short] = tensor
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / file}: cannot be read ({error})") from error
    return tensors


def _read_part(source: safe_open, name: str) -> Integers:
    """Types that numpy has no name for are refused before it is asked."""
    if (kind := source.get_slice(name).get_dtype()) not in _KINDS:
        raise ModelError(f"tensor {name}: has type {kind}, which no part of a built model has")
    values: Integers = source.get_tensor(name)
    return values


def read_leaves(folder: Path, specs: Sequence[TensorSpec]) -> dict[str, list[bytes]]:
    """Stored leaf hashes of the tensors of one file, by name. They prove nothing until their root is compared."""
    path = folder / leaves_file(specs[0].file)
    try:
        size = path.stat().st_size
        if size != HASH_BYTES * sum(spec.leaf_count for spec in specs):
            raise ModelError(f"{path}: has {size} bytes, not one hash per leaf; get it again")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error})") from error
    hashes = iter([data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)])
    return {spec.name: list(islice(hashes, spec.leaf_count)) for spec in specs}


def _check_names(file: str, names: set[str], specs: Sequence[TensorSpec]) -> None:
    wanted = {name for spec in specs for name in spec.part_names}
    if wrong := sorted(names ^ wanted):
        raise ModelError(f"tensor {wrong[0]} is {'missing from' if wrong[0] in wanted else 'unexpected in'} {file}")


def _check(tensor: Stored, leaves: list[bytes], root: bytes) -> None:
    spec = tensor.spec
    hashes = leaf_hashes(tensor)
    if tensor_root(spec, hashes) != root:
        raise ModelError(f"tensor {spec.name}: does not have the root in {MANIFEST_FILE}; get {spec.file} again")
    if hashes != leaves:
        raise ModelError(f"tensor {spec.name}: its leaf hashes are wrong; get {leaves_file(spec.file)} again")
    check_ranges(tensor)


def _layer(tensors: dict[str, Stored]) -> LayerWeights:
    return LayerWeights(
        attention_norm=_gain(tensors["attention_norm"]),
        q=_matrix(tensors["q"]),
        k=_matrix(tensors["k"]),
        v=_matrix(tensors["v"]),
        o=_matrix(tensors["o"]),
        mlp_norm=_gain(tensors["mlp_norm"]),
        gate=_matrix(tensors["gate"]),
        up=_matrix(tensors["up"]),
        down=_matrix(tensors["down"]),
    )


def _matrix(tensor: Stored) -> Matrix:
    return Matrix(torch.from_numpy(tensor.values), torch.from_numpy(tensor.scales), tensor.exponent)


def _gain(tensor: Stored) -> Gain:
    return Gain(torch.from_numpy(tensor.values), tensor.exponent)
