"""Contract errors in words."""

import string

import pytest
from eth_abi.abi import encode

from efedllm.chain.abi import CONTRACTS, Signature, interface
from efedllm.chain.reverts import ADVICE, explain


def errors() -> dict[str, list[Signature]]:
    found: dict[str, list[Signature]] = {}
    for contract in CONTRACTS:
        for signature in interface(contract).errors.values():
            found.setdefault(signature.name, []).append(signature)
    return found


@pytest.mark.parametrize("name", ADVICE)
def test_advice_is_for_an_error_that_exists_and_uses_its_arguments(name: str) -> None:
    used = {field for _, field, _, _ in string.Formatter().parse(ADVICE[name]) if field}
    for signature in errors()[name]:
        assert used <= {item["name"] for item in signature.inputs}


def test_explain_with_advice() -> None:
    signature, *_ = errors()["TooEarly"]
    error = explain(signature.hash[:4] + encode(["uint256"], [1234]))
    assert str(error) == "too early: try again after unix time 1234 [TooEarly(until=1234)]"
    assert (error.name, error.arguments) == ("TooEarly", {"until": 1234})


def test_explain_without_advice() -> None:
    (signature,) = errors()["BatchTooLarge"]
    assert str(explain(signature.hash[:4] + encode(["uint256"], [300]))) == (
        "the contract refused: BatchTooLarge(size=300)"
    )


@pytest.mark.parametrize(
    ("data", "message", "text"),
    [
        (b"", "", "the contract refused: no reason given"),
        (b"", "execution reverted: why", "the contract refused: execution reverted: why"),
        (b"\xde\xad\xbe\xef\x01", "", "the contract refused: unknown error 0xdeadbeef01"),
        (
            bytes.fromhex("08c379a0") + encode(["string"], ["old way"]),
            "",
            "the contract refused: Error(reason=old way)",
        ),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [17]), "", "the contract refused: Panic(code=17)"),
        (bytes.fromhex("08c379a0") + b"\xff", "", "the contract refused: malformed Error 0x08c379a0ff"),
    ],
)
def test_explain_what_is_none_of_ours(data: bytes, message: str, text: str) -> None:
    assert str(explain(data, message)) == text
