"""JSON that a stranger wrote: one value per name, finite numbers, whole characters, and not deep enough to matter.

Python's own parser recurses as far as the recursion limit allows, and libraries that we need raise that limit beyond
what the stack can hold: a few kilobytes of brackets would end the process. So nesting is looked at before.
"""

import json
import re
from typing import Any, NoReturn

MAX_DEPTH = 64
_PARTS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str | bytes) -> Any:
    """The value. Raises ValueError with the reason, in one line, for anything else than strict JSON in UTF-8."""
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    _check_depth(text)
    value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    if _HALF_CHARACTER.search(text):  # half of a surrogate pair can be escaped, but never be printed or sent
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for part in _PARTS.finditer(text):
        first = text[part.start()]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        elif first in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
