"""Events of the dispute game as the store keeps them."""

from dataclasses import fields
from enum import IntEnum
from typing import Any, get_type_hints

import msgpack

from efedllm.chain.game_events import GAME_EVENTS
from efedllm.chain.origin import Event, Origin

_KINDS = {kind.__name__: kind for kind in GAME_EVENTS}


def pack_event(event: Event) -> bytes:
    """Numbers as decimal strings: they do not fit 64 bits."""
    values = {item.name: getattr(event, item.name) for item in fields(event) if item.name != "origin"}
    origin = {item.name: getattr(event.origin, item.name) for item in fields(Origin)}
    packed: bytes = msgpack.packb([type(event).__name__, _plain(origin), _plain(values)])
    return packed


def unpack_event(data: bytes) -> Event:
    """The inverse of `pack_event`."""
    name, origin, values = msgpack.unpackb(data)
    kind = _KINDS[name]
    made: Event = kind(origin=Origin(**_typed(Origin, origin)), **_typed(kind, values))
    return made


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: str(int(value)) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in values.items()
    }


def _typed(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {name: _value(hints[name], value) for name, value in values.items()}


def _value(hint: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if hint is int or (isinstance(hint, type) and issubclass(hint, IntEnum)):
        return hint(int(value))
    return value
