"""Places in a source where faults can be planted, and the faults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

Node = Mapping[str, Any]


class Kind(Enum):
    """What stands at a site, which decides how one of several texts is chosen there at run time."""

    EXPRESSION = "expression"
    STATEMENT = "statement"
    MODIFIER = "modifier"
    MODIFIER_DEFINITION = "modifier definition"
    YUL_EXPRESSION = "assembly expression"
    YUL_STATEMENT = "assembly statement"
    YUL_BLOCK = "assembly block"


@dataclass(frozen=True)
class Site:
    """Bytes `[start, end)` of a source, with the texts that could stand there instead (empty: removed).

    scope: contract and function, for people. definition: for a modifier's use, where the modifier is defined.
    A MODIFIER_DEFINITION and a YUL_BLOCK have no faults of their own: they are where helpers are declared.
    """

    start: int
    end: int
    kind: Kind
    replacements: tuple[str, ...]
    scope: str
    definition: tuple[int, int] | None = None


@dataclass(frozen=True)
class Mutant:
    """One fault. `occurrence` counts equal faults of one function from the top, so that a name outlives other edits."""

    file: str
    scope: str
    line: int
    original: str
    replacement: str
    occurrence: int

    @property
    def name(self) -> str:
        suffix = f" #{self.occurrence}" if self.occurrence > 1 else ""
        return f"{self.file} {self.scope}: {self.original} -> {self.replacement or 'nothing'}{suffix}"


def place(node: Node) -> tuple[int, int]:
    """Byte range of a node of the compiler's syntax tree."""
    start, length, _ = (int(part) for part in node["src"].split(":"))
    return start, start + length


def children(node: Node) -> Iterator[Node]:
    """Nodes right below `node`, in the order of the tree."""
    for value in node.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and "nodeType" in item:
                yield item


def descend(node: Node) -> Iterator[Node]:
    """`node` and everything below it."""
    yield node
    for child in children(node):
        yield from descend(child)


def merged(sites: Iterable[Site]) -> list[Site]:
    """Sites in order, outer before inner, those of one place joined and no fault twice."""
    joined: dict[tuple[int, int, Kind], Site] = {}
    for site in sites:
        key = (site.start, site.end, site.kind)
        earlier = joined[key].replacements if key in joined else ()
        texts = tuple(dict.fromkeys((*earlier, *site.replacements)))
        joined[key] = Site(site.start, site.end, site.kind, texts, site.scope, site.definition)
    return sorted(joined.values(), key=lambda site: (site.start, -site.end, site.kind in _INNER))


def mutants(file: str, source: bytes, sites: Iterable[Site]) -> list[tuple[Site, str, Mutant]]:
    """Every fault of `sites`, named, in order."""
    seen: dict[tuple[str, str, str], int] = {}
    found = []
    for site in sites:
        original = " ".join(source[site.start : site.end].decode().split())
        line = source.count(b"\n", 0, site.start) + 1
        for text in site.replacements:
            replacement = " ".join(text.split())
            key = (site.scope, original, replacement)
            seen[key] = seen.get(key, 0) + 1
            found.append((site, text, Mutant(file, site.scope, line, original, replacement, seen[key])))
    return found


# Of two sites at one place, the statement holds the expression.
_INNER = frozenset({Kind.EXPRESSION, Kind.YUL_EXPRESSION})
