"""One thing that does not add up."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """`field` of `account` should be `expected`, by the events or by what was signed, and is `found`."""

    account: str
    field: str
    expected: object
    found: object

    def to_json(self) -> dict[str, Any]:
        return {
            "account": self.account,
            "field": self.field,
            "expected": _plain(self.expected),
            "found": _plain(self.found),
        }

    def __str__(self) -> str:
        return f"{self.account}: {self.field} is {_plain(self.found)}, should be {_plain(self.expected)}"


def _plain(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
