"""Building the integer form of a model from a float checkpoint, tensor by tensor, in bounded memory.

The result appears under its name only when it is complete: everything is written into a folder beside it, which is
renamed at the end and removed on any failure.
"""

import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from efedllm.model.commitment import leaf_hashes, tensor_root
from efedllm.model.errors import ModelError
from efedllm.model.format import MANIFEST_FILE, Manifest, TensorRecord, dump_manifest, parse_manifest
from efedllm.model.layout import Kind, Layout, TensorSpec, leaves_file
from efedllm.model.quantise import quantise_gain, quantise_matrix
from efedllm.model.ranges import check_ranges
from efedllm.model.source import Checkpoint, checkpoint_folder
from efedllm.model.stored import TABLE_EXPONENTS, VALUE_DTYPES, Integers, Stored
from efedllm.model.tokenizer_files import source_tokenizer_files
from efedllm.numerics.errors import LimitError
from efedllm.numerics.tables import exp2_table, rotary_table, sigmoid_table
from efedllm.protocol.tokenizer_hash import tokenizer_hash

Progress = Callable[[str, int, int], None]
"""Told before every piece of work: what it is, what is done, and the whole, in a unit that each phase chooses."""


def build(
    source: str,
    out: Path | str,
    text: str | None = None,
    progress: Progress | None = None,
    name: str | None = None,
    force: bool = False,
) -> Manifest:
    """Build `out` from a checkpoint folder (or hub id) of the Llama family.

    `text`: measure the perplexity of both forms on it; `name`: the model's, by default the source's last part;
    `force`: replace a model at `out`. The same checkpoint gives the same roots on any machine. Raises ModelError, and
    then leaves nothing behind.
    """
    out = Path(out)
    _check_target(out, force)
    tell = progress or _silent
    checkpoint = Checkpoint(checkpoint_folder(source))
    with _folder_beside(out) as folder:
        manifest = _write(checkpoint, folder, name or Path(source).resolve().name, tell)
        if text is not None:
            from efedllm.model.perplexity import measure

            manifest = replace(manifest, quality=measure(checkpoint.folder, folder, text, tell))
            _write_manifest(manifest, folder)
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    return manifest


def _write(checkpoint: Checkpoint, folder: Path, name: str, tell: Progress) -> Manifest:
    architecture = checkpoint.architecture
    layout = Layout(architecture.dimensions)
    records: dict[str, TensorRecord] = {}
    total = sum(spec.rows * spec.columns for spec in layout.tensors.values())
    done = 0
    for file, specs in layout.files.items():
        arrays: dict[str, Integers] = {}
        leaves: list[bytes] = []
        for spec in specs:
            tell(spec.name, done, total)
            tensor = _tensor(checkpoint, spec)
            check_ranges(tensor)
            hashes = leaf_hashes(tensor)
            records[spec.name] = TensorRecord(tensor.exponent, tensor_root(spec, hashes))
            leaves += hashes
            arrays |= tensor.parts
            done += spec.rows * spec.columns
        for path in (folder / file, folder / leaves_file(file)):
            path.parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(save(arrays))
        (folder / leaves_file(file)).write_bytes(b"".join(leaves))
    tell("weights", total, total)
    files = source_tokenizer_files(checkpoint.folder)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    stop_ids = architecture.stop_ids
    manifest = Manifest(name, layout.dimensions, records, tokenizer_hash(files, stop_ids), stop_ids)
    _write_manifest(manifest, folder)
    return manifest


def _tensor(checkpoint: Checkpoint, spec: TensorSpec) -> Stored:
    """A tensor in its stored form, from the checkpoint or, of a table, from the semantics."""
    match spec.kind:
        case Kind.MATRIX:
            return quantise_matrix(spec, checkpoint.rows(spec).read)
        case Kind.GAIN:
            return quantise_gain(spec, checkpoint.rows(spec).read(0, spec.columns))
        case Kind.ROTARY:
            try:
                entries = rotary_table(spec.rows, spec.columns, checkpoint.architecture.rope_theta)
            except LimitError as error:
                raise ModelError(f"{checkpoint.folder}: {error}") from error
            return _table(spec, entries)
        case Kind.EXP2:
            return _table(spec, exp2_table())
        case Kind.SIGMOID:
            return _table(spec, sigmoid_table())


def _table(spec: TensorSpec, entries: Sequence[Sequence[int]]) -> Stored:
    return Stored(spec, np.array(entries, VALUE_DTYPES[spec.kind]), None, TABLE_EXPONENTS[spec.kind])


def _write_manifest(manifest: Manifest, folder: Path) -> None:
    text = dump_manifest(manifest)
    assert parse_manifest(text) == manifest, "a manifest that is written can be read"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


def _check_target(out: Path, force: bool) -> None:
    if not out.exists():
        return
    if not force:
        raise ModelError(f"{out}: exists already; choose another folder, or replace it with --force")
    if not (out / MANIFEST_FILE).is_file():
        raise ModelError(f"{out}: is not a built model, so --force does not replace it; choose another folder")


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A new folder on the file system of `out`, gone afterwards unless it was renamed."""
    try:
        folder = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
        folder.mkdir(parents=True)
    except OSError as error:
        raise ModelError(f"{out}: cannot be created ({error})") from error
    try:
        yield folder
    except OSError as error:
        raise ModelError(f"{out}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _silent(what: str, done: int, total: int) -> None:
    """Tells nobody."""
