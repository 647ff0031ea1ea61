"""Decoders with a mistake each, to see that a campaign finds it. No part of any other run."""

from collections.abc import Callable

from efedllm.protocol.errors import ProtocolError
from tests.fuzz.target import Target


def crashes(data: bytes) -> bytes:
    """Reads a length and believes it."""
    if data[:2] == b"eF" and len(data) > 3 and data[3] > 128:
        return bytes([data[data[3]]])
    raise ProtocolError("not that")


def takes_two_forms(data: bytes) -> bytes:
    """Ignores the upper half of its last byte."""
    if data[:2] != b"eF" or len(data) != 4:
        raise ProtocolError("not that")
    return data[:3] + bytes([data[3] & 0x0F])


def grows(data: bytes) -> bytes:
    """Makes room before it looks whether the bytes are there."""
    if data[:2] == b"eF" and len(data) > 3 and data[3] > 128:
        bytearray(data[3] << 20)
    raise ProtocolError("not that")


def _planted(check: Callable[[bytes], bytes]) -> Target:
    return Target(check.__name__, check, lambda: [b"eF\x01\x02"], error=ProtocolError, runs=100_000)


TARGETS = [_planted(crashes), _planted(takes_two_forms), _planted(grows)]
