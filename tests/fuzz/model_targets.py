"""Targets of model files and tokenizers: manifests, weights, leaf hashes, tokenizer maps, tokenizers, leaf proofs."""

import contextlib
import shutil
import tempfile
from functools import cache
from pathlib import Path

import msgpack

from efedllm.client.errors import ModelError as ClientModelError
from efedllm.client.errors import TokenizerError
from efedllm.client.model_files import ModelFiles
from efedllm.client.tokenizer import Tokenizer
from efedllm.model.commitment import LeafProof, verify_leaf
from efedllm.model.errors import ModelError
from efedllm.model.format import MANIFEST_FILE, Manifest, dump_manifest, parse_manifest
from efedllm.model.layout import FINAL_FILE, leaves_file
from efedllm.model.load import load_file, read_manifest
from efedllm.model.proof import prove_weight
from efedllm.protocol.tokenizer_hash import tokenizer_hash
from tests.fuzz.target import Target

BUILT = Path(__file__).parents[2] / "models" / "shakespeare" / "built"


@cache
def known() -> Manifest:
    return read_manifest(BUILT)


@cache
def folder() -> Path:
    """A model's last part alone, in a folder whose files a target replaces."""
    made = Path(tempfile.mkdtemp(prefix="efedllm-fuzz-"))
    (made / "leaves").mkdir()
    shutil.copy(BUILT / FINAL_FILE, made)
    shutil.copy(BUILT / leaves_file(FINAL_FILE), made / "leaves")
    return made


def manifest(data: bytes) -> bytes:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError("it is not text") from error
    return dump_manifest(parse_manifest(text)).encode("utf-8")


def weights(data: bytes) -> bytes:
    """Whatever the header says: what is taken are the values that the manifest commits to."""
    file = folder() / FINAL_FILE
    file.unlink()  # a mapped file must not change under its reader
    file.write_bytes(data)
    found = load_file(folder(), known(), FINAL_FILE)
    wanted = load_file(BUILT, known(), FINAL_FILE)
    assert all(found[name].values.tobytes() == wanted[name].values.tobytes() for name in wanted)
    return data


def leaf_hashes(data: bytes) -> bytes:
    (folder() / FINAL_FILE).unlink()
    shutil.copy(BUILT / FINAL_FILE, folder())
    (folder() / leaves_file(FINAL_FILE)).write_bytes(data)
    load_file(folder(), known(), FINAL_FILE)
    return (BUILT / leaves_file(FINAL_FILE)).read_bytes()


def files() -> dict[str, bytes]:
    small = b'{"version":"1.0","model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}'
    return {"tokenizer.json": small, "chat_template.jinja": b"{{ messages }}"}


_HASH = tokenizer_hash(files(), (3, 7))


def tokenizer_map(data: bytes) -> bytes:
    """With the hash of what came: a publisher, too, may be a stranger. With the model's: only one map has it."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, AssertionError, OverflowError):
        body = msgpack.unpackb(data, raw=False)
        own = tokenizer_hash(body["files"], body["stop_ids"])
        ModelFiles.unpack(data, own)
    return ModelFiles.unpack(data, _HASH).pack()


def tokenizer_maps() -> list[bytes]:
    return [msgpack.packb({"files": files(), "stop_ids": [3, 7]})]


def tokenizer(data: bytes) -> bytes:
    made = Tokenizer(data, (2,))
    stream = made.stream()
    for token in made.encode("ab a hello")[:20]:
        stream.push(token)
    stream.finish()
    made.decode([0, 1, 2, 2**32 - 1])
    return data


def tokenizers() -> list[bytes]:
    unigram = b'{"version":"1.0","model":{"type":"Unigram","vocab":[["<unk>",0.0],["a",-1.0]],"unk_id":0}}'
    word_level = b'{"version":"1.0","model":{"type":"WordLevel","vocab":{"a":0,"[UNK]":1},"unk_token":"[UNK]"}}'
    return [files()["tokenizer.json"], unigram, word_level]


def leaf_proof(data: bytes) -> bytes:
    """A leaf of any length, and siblings of 32 bytes, behind the leaf's length."""
    size = int.from_bytes(data[:2])
    leaf, rest = data[2 : 2 + size], data[2 + size :]
    siblings = tuple(rest[at : at + 32] for at in range(0, len(rest), 32))
    if not verify_leaf(known().layout, known().weights_root, LeafProof("final_norm", 0, leaf, siblings)):
        raise ModelError("not proved")
    return leaf_proofs()[0]


@cache
def leaf_proofs() -> list[bytes]:
    proof = prove_weight(BUILT, known(), "final_norm", 0)
    return [len(proof.leaf).to_bytes(2) + proof.leaf + b"".join(proof.siblings)]


TARGETS = (
    Target("manifest", manifest, lambda: [(BUILT / MANIFEST_FILE).read_bytes()], "json", ModelError, runs=5_000),
    Target(
        "weights",
        weights,
        lambda: [(BUILT / FINAL_FILE).read_bytes()],
        "safetensors",
        ModelError,
        canonical=False,
        runs=10_000,
    ),
    Target(
        "leaf_hashes",
        leaf_hashes,
        lambda: [(BUILT / leaves_file(FINAL_FILE)).read_bytes()],
        "bytes",
        ModelError,
        runs=5_000,
    ),
    Target("tokenizer_map", tokenizer_map, tokenizer_maps, "msgpack", (TokenizerError, ClientModelError), runs=50_000),
    Target("tokenizer", tokenizer, tokenizers, "json", TokenizerError, canonical=False, runs=20_000),
    Target("leaf_proof", leaf_proof, leaf_proofs, "bytes", ModelError, runs=20_000),
)
