"""Random protocol objects: every field within its type, nothing more."""

import typing
from dataclasses import fields

from eth_utils.address import to_checksum_address
from hypothesis import strategies as st

from efedllm.errors import on_one_line
from efedllm.protocol import messages
from efedllm.protocol.messages import Message
from efedllm.protocol.objects import Fetch, Hop, Link, Receipt, Request, Sampling, Voucher
from efedllm.protocol.values import Struct

STRUCTS: tuple[type[Struct], ...] = (Hop, Sampling, Request, Receipt, Voucher, Link, Fetch)
hashes = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).map(to_checksum_address)


def of_type(kind: str) -> st.SearchStrategy[typing.Any]:
    if kind.endswith("[]"):
        return st.lists(of_type(kind[:-2]), max_size=4).map(tuple)
    if kind.startswith("uint"):
        return st.integers(0, (1 << int(kind[4:])) - 1)
    if kind == "bytes32":
        return hashes
    if kind == "address":
        return addresses
    return structs({item.__name__: item for item in STRUCTS}[kind])


def structs(kind: type[Struct]) -> st.SearchStrategy[Struct]:
    return st.builds(kind, **{item.name: of_type(item.metadata["abi"]) for item in fields(kind)})


any_struct = st.one_of(*(structs(kind) for kind in STRUCTS))

tokens = st.lists(st.integers(0, (1 << 32) - 1), max_size=8)
signatures = st.binary(max_size=65)
words = st.text(max_size=40)
lines = words.map(on_one_line)
amounts = st.integers(0, 10**38)
positions = st.integers(0, (1 << 32) - 1)
receipts = structs(Receipt)

any_message: st.SearchStrategy[Message] = st.one_of(
    st.builds(messages.Open, hashes, structs(Request), signatures, hashes, tokens),
    st.builds(messages.Opened, hashes, st.integers(0, (1 << 64) - 1), amounts, amounts),
    st.builds(messages.Challenge, hashes),
    st.builds(messages.LinkUp, hashes, addresses, signatures, words),
    st.builds(messages.Linked, hashes),
    st.builds(messages.Rows, hashes, positions, tokens, st.binary(max_size=64)),
    st.builds(messages.Token, hashes, positions, st.integers(0, (1 << 32) - 1), words),
    st.builds(messages.Signed, hashes, receipts, signatures),
    st.builds(messages.Payment, hashes, structs(Voucher), signatures, hashes),
    st.builds(messages.Credited, hashes, amounts),
    st.builds(messages.End, hashes, positions, tokens, words),
    st.builds(messages.Cancel, hashes),
    st.builds(messages.Failure, hashes, lines, lines),
)
