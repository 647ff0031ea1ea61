"""Signed objects: valid as soon as they exist, strict on the wire."""

from dataclasses import FrozenInstanceError, fields

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.objects import Hop, Receipt, Request, Sampling, Voucher
from efedllm.protocol.values import Struct
from tests.protocol.strategies import any_struct

WORKER = to_checksum_address("0x" + "ab" * 20)
HOP = {"worker": WORKER, "start": 0, "end": 4, "promptPrice": 1, "tokenPrice": 2}
REQUEST = {
    "payer": WORKER,
    "nonce": 1,
    "expiry": 2,
    "kind": 0,
    "modelId": bytes(32),
    "path": [HOP],
    "promptRoot": bytes(32),
    "promptCount": 3,
    "maxTokens": 4,
    "stopIds": [5],
    "seed": bytes(32),
    "sampling": {"temperature": 0, "topK": 0, "topP": 65536},
}


@given(any_struct)
def test_wire_form_round_trips(value: Struct) -> None:
    assert type(value).from_wire(value.to_wire()) == value


@given(any_struct)
def test_every_field_counts_on_the_wire(value: Struct) -> None:
    wire = value.to_wire()
    for name in wire:
        with pytest.raises(ProtocolError, match=f"missing field {name}"):
            type(value).from_wire({other: item for other, item in wire.items() if other != name})
    with pytest.raises(ProtocolError, match="unknown field extra"):
        type(value).from_wire(wire | {"extra": 1})


@pytest.mark.parametrize("data", [None, 1, "x", b"x", [], [("payer", 1)]])
def test_not_a_map(data: object) -> None:
    with pytest.raises(ProtocolError, match="expected a map"):
        Voucher.from_wire(data)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("nonce", -1, "does not fit uint64"),
        ("nonce", 1 << 64, "does not fit uint64"),
        ("nonce", 1.0, "expected an integer"),
        ("nonce", True, "expected an integer"),
        ("nonce", None, "expected an integer"),
        ("nonce", "-1", "expected an integer"),
        ("nonce", "1" * 79, "expected an integer"),
        ("nonce", "٣", "expected an integer"),
        ("nonce", "", "expected an integer"),
        ("kind", 256, "does not fit uint8"),
        ("modelId", bytes(31), "expected 32 bytes"),
        ("modelId", bytes(33), "expected 32 bytes"),
        ("modelId", "00" * 32, "expected 32 bytes"),
        ("payer", "0x12", "expected an address"),
        ("payer", bytes(20), "expected an address"),
        ("payer", 1, "expected an address"),
        ("path", {"worker": WORKER}, "expected a list"),
        ("path", [1], "Hop: expected a map"),
        ("path", [HOP | {"start": 1 << 32}], "Hop.start: 4294967296 does not fit uint32"),
        ("path", [HOP | {"more": 1}], "Hop: unknown field more"),
        ("stopIds", 7, "expected a list"),
        ("stopIds", [-7], r"Request.stopIds\[0\]: -7 does not fit uint32"),
        ("stopIds", ["x"], "expected an integer"),
        ("sampling", [0, 0, 0], "Sampling: expected a map"),
        ("sampling", {"temperature": 0, "topK": 0}, "Sampling: missing field topP"),
    ],
)
def test_refused_on_the_wire(name: str, value: object, message: str) -> None:
    Request.from_wire(REQUEST)
    with pytest.raises(ProtocolError, match=message):
        Request.from_wire(REQUEST | {name: value})


def test_refused_when_made() -> None:
    with pytest.raises(ProtocolError, match=r"Hop\.end: 4294967296 does not fit uint32"):
        Hop(WORKER, 0, 1 << 32, 1, 1)
    with pytest.raises(ProtocolError, match=r"Request\.sampling: expected a Sampling"):
        Request(**{**REQUEST, "path": (), "sampling": None})  # type: ignore[arg-type]


def test_addresses_are_checksummed_whatever_their_case() -> None:
    for form in (WORKER.upper().replace("X", "x"), WORKER.lower()):
        assert Hop(**(HOP | {"worker": form})).worker == WORKER  # type: ignore[arg-type]


def test_objects_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Sampling(1, 2, 3).topK = 4  # type: ignore[misc]


@given(st.integers(0, (1 << 128) - 1))
def test_large_amounts_travel_as_text(fee: int) -> None:
    wire = Hop(WORKER, 0, 1, fee, 0).to_wire()["promptPrice"]
    assert wire == (str(fee) if fee >= 1 << 63 else fee)


def test_every_field_has_a_type() -> None:
    for kind in (Hop, Sampling, Request, Receipt, Voucher):
        assert all(item.metadata["abi"] for item in fields(kind))
