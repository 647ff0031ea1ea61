"""Addresses as people type them."""

import pytest

from efedllm.chain.addresses import parse_address
from efedllm.chain.errors import ChainError

ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


@pytest.mark.parametrize("text", [ADDRESS, ADDRESS.lower(), "0x" + ADDRESS[2:].upper()])
def test_parse_address(text: str) -> None:
    assert parse_address(text) == ADDRESS


@pytest.mark.parametrize(
    "text", ["", "0x", ADDRESS[2:], ADDRESS[:-1], ADDRESS + "0", ADDRESS[:-1] + "g", "vitalik.eth"]
)
def test_parse_address_refuses(text: str) -> None:
    with pytest.raises(ChainError, match="is not an address"):
        parse_address(text)


def test_parse_address_checks_the_checksum() -> None:
    with pytest.raises(ChainError, match="is mistyped"):
        parse_address(ADDRESS.replace("5F", "5f"))
