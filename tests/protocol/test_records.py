"""What workers hand out: strict about what is read from a stranger."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.protocol import records
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.objects import Receipt, Request
from efedllm.protocol.records import Record, pack_leaves, unpack_leaves
from efedllm.protocol.vouchers import Leaf
from tests.protocol.strategies import hashes, signatures, structs, tokens

any_record = st.builds(
    Record,
    structs(Request),
    signatures,
    hashes,
    tokens,
    tokens,
    st.lists(st.tuples(structs(Receipt), signatures), max_size=3),
    st.binary(max_size=64),
)


@given(any_record)
def test_records_round_trip(record: Record) -> None:
    assert Record.unpack(record.pack()) == record


@given(any_record, st.data())
def test_records_with_something_else_inside(record: Record, data: st.DataObject) -> None:
    body = msgpack.unpackb(record.pack())
    name = data.draw(st.sampled_from(sorted(body)))
    wrong = data.draw(st.sampled_from([None, 1, "x", b"x", [], {}, [[1, 2]], [[{}, b""]], True]))
    try:
        Record.unpack(msgpack.packb(body | {name: wrong}))
    except ProtocolError:
        return
    assert type(wrong) is type(body[name])


@given(any_record)
def test_records_need_exactly_their_fields(record: Record) -> None:
    body = msgpack.unpackb(record.pack())
    for changed in (body | {"more": 1}, {name: body[name] for name in body if name != "rows"}):
        with pytest.raises(ProtocolError, match="record: expected the fields"):
            Record.unpack(msgpack.packb(changed))


@given(st.binary(max_size=100))
def test_arbitrary_bytes(data: bytes) -> None:
    for read in (Record.unpack, unpack_leaves):
        with pytest.raises(ProtocolError):
            read(data)  # type: ignore[operator]


def test_size_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 10)
    with pytest.raises(ProtocolError, match="larger than the 10 allowed"):
        unpack_leaves(bytes(11))


@given(st.lists(st.tuples(hashes, hashes, st.integers(1, 10**30)), max_size=10))
def test_leaves_round_trip(steps: list[tuple[bytes, bytes, int]]) -> None:
    leaves, at = [], 0
    for request_id, digest, added in steps:
        leaves.append(Leaf(request_id, digest, at, at + added))
        at += added
    assert unpack_leaves(pack_leaves(leaves)) == leaves


@pytest.mark.parametrize(
    "leaves",
    [
        [Leaf(bytes(32), bytes(32), 1, 2)],
        [Leaf(bytes(32), bytes(32), 0, 0)],
        [Leaf(bytes(32), bytes(32), 0, 2), Leaf(bytes(32), bytes(32), 3, 4)],
        [Leaf(bytes(32), bytes(32), 0, 2), Leaf(bytes(32), bytes(32), 1, 4)],
    ],
)
def test_leaves_that_do_not_lie_end_to_end(leaves: list[Leaf]) -> None:
    with pytest.raises(ProtocolError, match="do not lie end to end"):
        unpack_leaves(pack_leaves(leaves))


@pytest.mark.parametrize(
    "item",
    [
        1,
        "x",
        None,
        [bytes(31), bytes(32), "0", "1"],
        [bytes(32), bytes(33), "0", "1"],
        [bytes(32), bytes(32), "0"],
        [bytes(32), bytes(32), "x", "1"],
        [None, bytes(32), "0", "1"],
        [1 << 40, bytes(32), "0", "1"],
        ["x" * 32, bytes(32), "0", "1"],
        [bytes(32), bytes(32), None, "1"],
        [bytes(32), bytes(32), 0, 1],
        [bytes(32), bytes(32), "0", " 1_0 "],
        [bytes(32), bytes(32), "0", "1" * 40],
    ],
)
def test_leaves_of_another_form(item: object) -> None:
    for body in ({"leaves": [item]}, {"leaves": item}):
        with pytest.raises(ProtocolError):
            unpack_leaves(msgpack.packb(body))
