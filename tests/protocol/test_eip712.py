"""Digests against eth_account, signatures against strangers."""

import contextlib
import json
from pathlib import Path

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.objects import Fetch, Link, Receipt, Request, Voucher
from efedllm.protocol.values import Struct
from tests.protocol.strategies import hashes, structs
from tests.vectors import make_protocol
from tests.vectors.make_protocol import DOMAIN, independent_digest

DOCUMENT = (Path(__file__).parents[2] / "docs/protocol.md").read_text()
SIGNED = (Request, Receipt, Voucher, Link, Fetch)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEY = Account.from_key(b"\x01" * 32)
LINK = Link(b"\x01" * 32, "0x" + "12" * 20, b"\x02" * 32)


@pytest.mark.parametrize("name", sorted(make_protocol.VECTORS))
def test_vectors_are_what_the_script_writes(name: str) -> None:
    assert (make_protocol.FOLDER / f"{name}.json").read_text() == make_protocol.render(name)


@given(st.one_of(*(structs(kind) for kind in SIGNED)))
def test_digests_are_those_of_eth_account(value: Struct) -> None:
    assert independent_digest(value) == (eip712.struct_hash(value), eip712.digest(DOMAIN, value))


@pytest.mark.parametrize("kind", SIGNED)
def test_types_are_those_of_the_document(kind: type[Struct]) -> None:
    own, *nested = eip712.type_string(kind).replace(")", ")\n").splitlines()
    for line in (own, *nested):
        assert f"    {line}\n" in DOCUMENT


@pytest.mark.parametrize("case", json.loads((make_protocol.FOLDER / "eip712.json").read_text())["cases"])
def test_vector_signatures_recover(case: dict[str, str]) -> None:
    digest, signature = bytes.fromhex(case["digest"][2:]), bytes.fromhex(case["signature"][2:])
    assert eip712.recover_digest(digest, signature) == case["signer"]
    assert Account._recover_hash(digest, signature=signature) == case["signer"]


def test_sign_and_recover() -> None:
    assert eip712.recover(DOMAIN, LINK, eip712.sign(DOMAIN, LINK, KEY)) == KEY.address


@pytest.mark.parametrize(
    "other",
    [
        eip712.Domain(DOMAIN.chain_id + 1, DOMAIN.verifying_contract),
        eip712.Domain(DOMAIN.chain_id, "0x" + "12" * 20),
    ],
)
def test_signature_for_another_deployment_is_a_strangers(other: eip712.Domain) -> None:
    assert eip712.recover(DOMAIN, LINK, eip712.sign(other, LINK, KEY)) != KEY.address


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_no_signature_of_ours(signature: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert eip712.recover(DOMAIN, LINK, signature) != KEY.address


@given(st.integers(0, 64), st.integers(1, 255))
def test_every_byte_of_a_signature_counts(at: int, change: int) -> None:
    signature = bytearray(eip712.sign(DOMAIN, LINK, KEY))
    signature[at] ^= change
    with contextlib.suppress(ProtocolError):
        assert eip712.recover(DOMAIN, LINK, bytes(signature)) != KEY.address


def test_second_form_of_a_signature_is_refused() -> None:
    signature = eip712.sign(DOMAIN, LINK, KEY)
    s = ORDER - int.from_bytes(signature[32:64])
    with pytest.raises(ProtocolError, match="upper half"):
        eip712.recover(DOMAIN, LINK, signature[:32] + s.to_bytes(32) + bytes([55 - signature[64]]))


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_parity_has_one_form(v: int) -> None:
    with pytest.raises(ProtocolError, match="ending in 27 or 28"):
        eip712.recover(DOMAIN, LINK, eip712.sign(DOMAIN, LINK, KEY)[:64] + bytes([v]))


@pytest.mark.parametrize("values", [(0, 1), (1, 0), (0, 0), (ORDER, 1), (ORDER - 1, 1), ((1 << 256) - 1, 1)])
def test_impossible_points(values: tuple[int, int]) -> None:
    signature = b"".join(value.to_bytes(32) for value in values) + b"\x1b"
    try:
        assert eip712.recover(DOMAIN, LINK, signature) != KEY.address
    except ProtocolError as error:
        assert str(error).startswith("signature: ")


@given(hashes)
def test_compact_form_keeps_everything(message: bytes) -> None:
    signature = bytes(KEY.unsafe_sign_hash(message).signature)
    r, vs = eip712.compact(signature)
    value = int.from_bytes(vs)
    parity, s = value >> 255, value & ((1 << 255) - 1)
    assert r + s.to_bytes(32) + bytes([27 + parity]) == signature
