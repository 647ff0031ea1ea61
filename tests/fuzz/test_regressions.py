"""Inputs that once got through, or broke what read them. Each is refused now, in one line and with little memory."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest

from efedllm.chain.abi import encode_values, interface
from efedllm.chain.deployment import Deployment
from efedllm.chain.errors import ChainError, DeploymentError
from efedllm.chain.events import decode_log
from efedllm.chain.reverts import explain
from efedllm.client.errors import TokenizerError
from efedllm.client.model_files import ModelFiles
from efedllm.client.tokenizer import Tokenizer
from efedllm.errors import EfedllmError
from efedllm.model.errors import ModelError
from efedllm.model.format import parse_manifest
from efedllm.model.layout import FINAL_FILE
from efedllm.model.load import load_file, read_manifest
from efedllm.protocol.errors import FrameError, ProtocolError
from efedllm.protocol.frames import HEADER, decode
from efedllm.protocol.merkle import node_hash, verify
from efedllm.protocol.messages import Failure, parse
from efedllm.protocol.objects import Receipt, Request
from efedllm.protocol.records import Record, pack_leaves, unpack_leaves
from efedllm.protocol.vouchers import Leaf
from tests.fuzz.chain_targets import deployments
from tests.fuzz.target import check_error, peak_of
from tests.vectors.make_protocol import signed_objects

MIB = 1 << 20
ID = b"\x07" * 32
REQUEST = next(value for value, _ in signed_objects() if isinstance(value, Request))
RECEIPT = next(value for value, _ in signed_objects() if isinstance(value, Receipt))


def raw(kind: int, body: bytes, tensor: bytes = b"") -> bytes:
    return HEADER.pack(b"eF", 1, kind, ID, 0, len(body), len(tensor)) + body + tensor


def read(data: bytes) -> object:
    return parse(decode(data))


def refused(call: Callable[[], object], kind: type[EfedllmError], words: str, most_bytes: int) -> None:
    def run() -> None:
        with pytest.raises(kind, match=words) as caught:
            call()
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500

    assert peak_of(run) < most_bytes


EMPTY_MAPS = b"\xdd" + (MIB - 5).to_bytes(4) + b"\x80" * (MIB - 5)
NESTED_LENGTHS = (b"\xdd\x00\x0f\x00\x00" * 500).ljust(MIB, b"\x01")


@pytest.mark.parametrize("body", [EMPTY_MAPS, NESTED_LENGTHS], ids=["empty maps", "nested lengths"])
def test_bodies_that_are_small_on_the_wire_and_large_in_memory(body: bytes) -> None:
    refused(lambda: read(raw(12, body)), FrameError, "more values than its bytes", 2 * MIB)
    refused(lambda: Record.unpack(body), ProtocolError, "more values than its bytes", 2 * MIB)
    refused(lambda: unpack_leaves(body), ProtocolError, "more values than its bytes", 2 * MIB)


def test_a_list_that_takes_seconds_to_look_at() -> None:
    for entries, words in ((MIB // 8, "more values than its bytes"), (1000, "1000 entries, at most 64")):
        wire = REQUEST.to_wire() | {"stopIds": [1 << 31] * entries}
        body = msgpack.packb({"request": wire, "signature": b"", "salt": bytes(32)})
        refused(lambda body=body: read(raw(1, body)), ProtocolError, words, 2 * MIB)  # type: ignore[misc]
    tokens = msgpack.packb({"tokens": [1 << 31] * 1000})
    refused(lambda: read(raw(6, tokens)), FrameError, "1000 tokens, at most 64", MIB)


@pytest.mark.parametrize("name", ["x\n" * 100_000, "\x1b[2J", "a\u202eb"])
def test_names_of_unknown_fields_in_an_error(name: str) -> None:
    wire = REQUEST.to_wire() | {name: 1}
    body = msgpack.packb({"request": wire, "signature": b"", "salt": bytes(32)})
    refused(lambda: read(raw(1, body)), ProtocolError, "unknown field", 8 * MIB)
    refused(lambda: read(raw(12, msgpack.packb({name: 1}))), FrameError, "missing or unknown", 8 * MIB)


def test_a_strangers_explanation_forges_no_log_line() -> None:
    message = msgpack.packb({"code": "x", "message": "gone\n2026-01-01 ERROR all is lost"})
    refused(lambda: read(raw(13, message)), FrameError, "not as this message is written", MIB)
    assert read(Failure(ID, "a\nb", "c\x1bd").frame().encode()) == Failure(ID, "a b", "c d")


def test_a_link_names_a_worker_by_an_address() -> None:
    body = msgpack.packb({"worker": "\n" * 100, "signature": b"", "role": "rows"})
    refused(lambda: read(raw(4, body)), FrameError, "must be an address", MIB)


def test_amounts_beyond_any_voucher() -> None:
    too_large = [Leaf(ID, ID, 0, 1 << 128)]
    refused(lambda: unpack_leaves(pack_leaves(too_large)), ProtocolError, "leaves: expected", MIB)
    body = msgpack.packb({"total": str(1 << 128)})
    refused(lambda: read(raw(10, body)), FrameError, "total must be", MIB)


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": str(REQUEST.nonce)},
        {"nonce": f"0{REQUEST.nonce}"},
        {"payer": REQUEST.payer.lower()},
        {"payer": REQUEST.payer[2:]},
    ],
    ids=["small number as text", "leading zero", "lower case", "without 0x"],
)
def test_objects_have_one_form_on_the_wire(change: dict[str, object]) -> None:
    wire = REQUEST.to_wire()
    with pytest.raises(ProtocolError, match="not as it is written"):
        Request.from_wire(wire | change)


def test_records_have_one_form() -> None:
    packed = Record(REQUEST, b"", bytes(32), [], [], [(RECEIPT, b"")], b"").pack()
    assert Record.unpack(packed).pack() == packed
    body = msgpack.unpackb(packed)
    other_order = msgpack.packb(dict(reversed(body.items())))
    longer_form = packed[:-2] + b"\xc5\x00" + packed[-1:]
    twice = b"\x89" + packed[1:] + msgpack.packb("rows") + msgpack.packb(b"")
    for data in (other_order, longer_form, twice):
        with pytest.raises(ProtocolError, match="record"):
            Record.unpack(data)
    with pytest.raises(ProtocolError, match="leaves"):
        unpack_leaves(pack_leaves([Leaf(ID, ID, 0, 7)]).replace(b"\xa17", b"\xa207"))


def test_a_leaf_and_its_sibling_share_no_bytes() -> None:
    """With other lengths the same 64 bytes would prove another leaf."""
    left, right = b"\x01" * 32, b"\x02" * 32
    root = node_hash(left, right)
    assert verify(root, left, 0, 2, [right])
    assert not verify(root, left + right[:1], 0, 2, [right[1:]])
    assert not verify(root, left[:-1], 0, 2, [left[-1:] + right])


DEEP = "[" * 100_000


def test_deep_json_ends_no_process() -> None:
    """A library raises Python's recursion limit so far that the stack ends first: the kernel would end the program."""
    code = (
        "import web3\nfrom efedllm.chain.deployment import Deployment\n"
        "from efedllm.model.format import parse_manifest\n"
        "from efedllm.errors import EfedllmError\n"
        "for read in (lambda t: Deployment.from_json(t, 'x'), parse_manifest):\n"
        "    try:\n        read('[' * 100_000)\n"
        "    except EfedllmError as error:\n        print(str(error)[:60])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("deep") == 2


def test_deployment_files_of_strangers() -> None:
    for text in (DEEP, '{"a":' * 100_000, "9" * 5000):
        refused(lambda text=text: Deployment.from_json(text, "x"), DeploymentError, "not JSON", 4 * MIB)  # type: ignore[misc]


@pytest.mark.parametrize(
    "content",
    [
        {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 1}, "unk_token": "z"}},
    ],
)
def test_a_tokenizer_that_fails_only_when_used(content: object) -> None:
    tokenizer = Tokenizer(json.dumps(content).encode())
    with pytest.raises(TokenizerError):
        tokenizer.encode("hello")


BUILT = Path(__file__).parents[2] / "models" / "shakespeare" / "built"


@pytest.mark.parametrize("kind", [b"BF16", b"F8_E4M3", b"U16"])
def test_weights_of_types_that_numpy_does_not_know(tmp_path: Path, kind: bytes) -> None:
    (tmp_path / "leaves").mkdir()
    shutil.copy(BUILT / "leaves" / "final.bin", tmp_path / "leaves")
    content = (BUILT / FINAL_FILE).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(b"I16", kind)
    (tmp_path / FINAL_FILE).write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    with pytest.raises(ModelError, match=r"has type|its values are|cannot be read"):
        load_file(tmp_path, read_manifest(BUILT), FINAL_FILE)


@pytest.mark.parametrize("old, new", [('"format": 1', '"format": true'), ('"format": 1', '"format": 1.0'), ("}", " }")])
def test_manifests_have_one_form(old: str, new: str) -> None:
    text = (BUILT / "model.json").read_text()
    with pytest.raises(ModelError, match=r"has format|is not as"):
        parse_manifest(text.replace(old, new, 1))


def test_tokenizer_files_have_one_form() -> None:
    files = {"tokenizer.json": b"{}", "chat_template.jinja": b""}
    for other in (
        {"files": files, "stop_ids": [7, 3]},
        {"files": files, "stop_ids": [3, 3]},
        {"stop_ids": [3], "files": files},
        {"files": dict(reversed(files.items())), "stop_ids": [3]},
    ):
        with pytest.raises(TokenizerError, match=r"order|are not a map"):
            ModelFiles.unpack(msgpack.packb(other), bytes(32))


def test_a_node_that_lies_about_lengths_and_roles() -> None:
    kind = next(item for item in interface("StakeRegistry").events.values() if item.name == "ServiceUpdated")
    data = (32).to_bytes(32) + bytes(160) + (192).to_bytes(32) + (2**256 - 1).to_bytes(32)
    with pytest.raises(ChainError, match="malformed ServiceUpdated"):
        decode_log("StakeRegistry", log_of([kind.hash, bytes(32)], data))
    kind = next(item for item in interface("StakeRegistry").events.values() if item.name == "Registered")
    topics, plain = [kind.hash], b""
    for item in kind.inputs:
        word = (31 if item["type"] == "uint8" else 0).to_bytes(32)
        if item["indexed"]:
            topics.append(word)
        else:
            plain += word
    with pytest.raises(ChainError, match="31 is no Role"):
        decode_log("StakeRegistry", log_of(topics, plain))


def log_of(topics: list[bytes], data: bytes) -> dict[str, object]:
    place = {"blockNumber": 1, "logIndex": 0, "blockHash": ID, "transactionHash": ID, "address": "0x" + "11" * 20}
    return {"topics": topics, "data": data, **place}


@pytest.mark.parametrize("reason", ["no\nERROR all is lost", "\x1b[2J", "long" * 1000])
def test_a_contracts_reason_is_shown_in_one_line(reason: str) -> None:
    data = bytes.fromhex("08c379a0") + encode_values([{"type": "string"}], [reason])
    for told in (explain(data), explain(b"", reason), explain(reason.encode())):
        check_error(told)


@pytest.mark.parametrize("change", [{"token_decimals": 10**9}, {"token_symbol": "a\nb"}, {"chain_id": 2**256}])
def test_values_that_no_deployment_has(change: dict[str, object]) -> None:
    plain = json.loads(deployments()[0]) | change
    refused(lambda: Deployment.from_json(json.dumps(plain), "x"), DeploymentError, "expected", MIB)
