"""Frames and messages: one message, one form; anything else is refused, whatever a stranger sends."""

import contextlib
import struct
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.protocol import frames
from efedllm.protocol.errors import FrameError, ProtocolError
from efedllm.protocol.frames import HEADER, MAX_BODY_BYTES, MAX_PROMPT_TOKENS, MAX_TENSOR_BYTES, Frame, Type, decode
from efedllm.protocol.messages import Cancel, Challenge, Failure, Message, Open, Opened, Rows, parse
from efedllm.protocol.objects import Receipt, Request
from tests.protocol.strategies import any_message
from tests.vectors.make_protocol import signed_objects

ID = b"\x07" * 32


def packed(kind: int, body: object, position: int = 0, tensor: bytes = b"") -> bytes:
    """A frame with any body."""
    return raw(kind, msgpack.packb(body), position, tensor)


def raw(kind: int, body: bytes, position: int = 0, tensor: bytes = b"") -> bytes:
    return HEADER.pack(b"eF", 1, kind, ID, position, len(body), len(tensor)) + body + tensor


@given(any_message)
def test_round_trip(message: Message) -> None:
    assert parse(decode(message.frame().encode())) == message


@given(any_message, st.data())
def test_every_changed_byte_is_refused_or_changes_the_message(message: Message, data: st.DataObject) -> None:
    frame = bytearray(message.frame().encode())
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ProtocolError):
        assert parse(decode(bytes(frame))) != message


@given(any_message, st.data())
def test_truncated_and_prolonged_frames_are_refused(message: Message, data: st.DataObject) -> None:
    frame = message.frame().encode()
    cut = data.draw(st.integers(0, len(frame) - 1))
    for wrong in (frame[:cut], frame + b"\0"):
        with pytest.raises(FrameError):
            decode(wrong)


@given(st.binary(max_size=300))
def test_arbitrary_bytes(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode(data)


@given(st.sampled_from(list(Type)), st.binary(max_size=200), st.binary(max_size=40))
def test_arbitrary_bodies(kind: Type, body: bytes, tensor: bytes) -> None:
    try:
        message = parse(decode(raw(kind, body, 0, tensor)))
    except ProtocolError:
        return
    assert message.frame().encode() == raw(kind, body, 0, tensor)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text() | st.binary() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(any_message, st.data())
def test_mistyped_fields(message: Message, data: st.DataObject) -> None:
    frame = message.frame()
    if not frame.body:
        return
    name = data.draw(st.sampled_from(sorted(frame.body)))
    body = frame.body | {name: data.draw(values)}
    changed = Frame(frame.kind, frame.request_id, frame.position, body, frame.tensor)
    with contextlib.suppress(ProtocolError):
        assert parse(decode(changed.encode())).frame().body == body


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "shorter than its header"),
        (b"XX" + packed(12, {})[2:], "not an eFedLLM frame"),
        (b"eF\x02" + packed(12, {})[3:], "frame version 2, this side speaks 1"),
        (packed(0, {}), "unknown frame type 0"),
        (packed(14, {}), "unknown frame type 14"),
        (packed(12, []), "not a map"),
        (packed(12, 1), "not a map"),
        (raw(12, b""), "not msgpack"),
        (raw(12, b"\xc1"), "not msgpack"),
        (raw(12, b"\x80\x80"), "not msgpack"),
        (raw(12, msgpack.packb({1: 2})), "not msgpack|string keys"),
        (raw(12, msgpack.packb({b"a": 2})), "not msgpack|string keys"),
        (raw(12, b"\x81\xa1\xff\x01"), "not msgpack"),
        (raw(12, b"\x82\xa1a\x01\xa1a\x01"), "shortest form"),
        (raw(12, b"\x81\xa1a\xcc\x01"), "shortest form"),
        (raw(12, b"\x81\xa1a\xd1\x01\x2c"), "shortest form"),
        (raw(12, b"\xde\x00\x00"), "shortest form"),
        (raw(12, b"\x81\xa1a\xd4\x05\x00"), "not msgpack"),
        (raw(12, b"\x81\xa1a" + b"\x91" * 1100 + b"\x01"), "not msgpack"),
        (raw(12, b"\x81\xa1a" + b"\x91" * 2000 + b"\x01"), "more values than its bytes"),
    ],
)
def test_frames_that_are_none(data: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        decode(data)


@pytest.mark.parametrize(
    ("body", "tensor"), [(MAX_BODY_BYTES + 1, 0), (0, MAX_TENSOR_BYTES + 1), (2**32 - 1, 2**32 - 1)]
)
def test_limits_hold_before_anything_is_allocated(body: int, tensor: int) -> None:
    header = HEADER.pack(b"eF", 1, 1, ID, 0, body, tensor)
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match="more than allowed"):
            decode(header)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


def test_what_is_too_large_is_not_sent() -> None:
    with pytest.raises(FrameError, match="ROWS frame too large"):
        Rows(ID, 0, [], bytes(MAX_TENSOR_BYTES + 1)).frame().encode()
    with pytest.raises(FrameError, match="ERROR frame too large"):
        Frame(Type.ERROR, ID, 0, {"x": "x" * (MAX_BODY_BYTES + 1)}).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (packed(12, {"more": 1}), "field more is missing or unknown"),
        (packed(2, {"epoch": 0, "total": "1"}), "field window is missing or unknown"),
        (packed(12, {}, tensor=b"1234"), "carries no tensor"),
        (packed(12, {}, position=1), "not as this message is written"),
        (packed(3, {"challenge": bytes(32)}), "not as this message is written"),
        (packed(3, {"challenge": bytes(31)}), "must be 32 bytes"),
        (packed(3, {"challenge": "x" * 32}), "must be bytes"),
        (packed(2, {"epoch": 0, "total": 1, "window": "1"}), "total must be str"),
        (packed(2, {"epoch": 0, "total": "01", "window": "1"}), "not as this message is written"),
        (packed(2, {"epoch": 0, "total": "-1", "window": "1"}), "must be a decimal string"),
        (packed(2, {"epoch": 0, "total": "1" * 40, "window": "1"}), "must be a decimal string"),
        (packed(2, {"epoch": -1, "total": "1", "window": "1"}), "epoch must be uint64"),
        (packed(2, {"epoch": True, "total": "1", "window": "1"}), "epoch must be int"),
        (packed(6, {"tokens": [1 << 32]}), "tokens must be uint32"),
        (packed(6, {"tokens": [-1]}), "tokens must be uint32"),
        (packed(6, {"tokens": [True]}), "tokens must be uint32"),
        (packed(6, {"tokens": {}}), "tokens must be list"),
        (packed(7, {"token": -1, "reason": ""}), "token must be uint32"),
        (packed(7, {"token": 1 << 32, "reason": ""}), "token must be uint32"),
        (packed(7, {"token": 1, "reason": 1}), "reason must be str"),
        (packed(13, {"code": "x", "message": "y" * 501}), "not as this message is written"),
    ],
)
def test_messages_that_are_none(data: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        parse(decode(data))


def test_position_of_a_receipt_is_that_in_it() -> None:
    receipt = next(value for value, _ in signed_objects() if isinstance(value, Receipt))
    with pytest.raises(FrameError, match="not as this message is written"):
        parse(Frame(Type.RECEIPT, ID, receipt.positions ^ 1, {"receipt": receipt.to_wire(), "signature": b""}))


def test_prompts_are_whole_and_no_longer_than_any_context() -> None:
    request = next(value for value, _ in signed_objects() if isinstance(value, Request))
    body = Open(ID, request, b"", bytes(32), []).frame().body
    with pytest.raises(FrameError, match="3 bytes are not a list of uint32"):
        parse(Frame(Type.OPEN, ID, 0, body, b"123"))
    with pytest.raises(FrameError, match=f"at most {MAX_PROMPT_TOKENS} tokens"):
        parse(Frame(Type.OPEN, ID, 0, body, bytes(4 * MAX_PROMPT_TOKENS + 4)))


def test_long_explanations_are_cut() -> None:
    assert parse(Failure(ID, "x", "y" * 600).frame()) == Failure(ID, "x", "y" * 500)


@given(st.lists(st.integers(0, (1 << 32) - 1)))
def test_tokens_round_trip(tokens: list[int]) -> None:
    assert frames.unpack_tokens(frames.pack_tokens(tokens)) == tokens
    assert frames.pack_tokens(tokens) == b"".join(struct.pack("<I", token) for token in tokens)


def test_header_is_that_of_the_document() -> None:
    frame = Opened(ID, 1, 2, 3).frame().encode()
    assert frame[:2] == b"eF"
    assert frame[2:4] == bytes([1, 2])
    assert frame[4:36] == ID
    assert int.from_bytes(frame[40:44]) == len(frame) - 48
    assert Challenge(bytes(32)).frame().request_id == bytes(32)
    assert Cancel(ID).frame().encode()[48:] == b"\x80"
