"""A source that carries many faults, none of them active until the block's coinbase is the number of one.

So all faults of a file need one compilation, and switching from one to the next costs nothing. The coinbase is read
by one instruction in two gas, is the same in constructors, libraries and calls, and our contracts do not use it.
Reading it makes functions `view` that were `pure`; the two words are of one length, so every place stays where it was.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tools.mutation.sites import Kind, Site

# Names that no source of ours uses.
_ACTIVE = "fault__"
_YUL_CHOOSE = "choose__"
_HELPER = f"""
function {_ACTIVE}(uint256 fault) view returns (bool active) {{
    assembly {{
        active := eq(coinbase(), fault)
    }}
}}
"""
# The original text comes last, so that a fault's text is computed only next to it, never instead.
_YUL_HELPER = f"""
            function {_YUL_CHOOSE}(fault, changed, original) -> chosen {{
                switch eq(coinbase(), fault)
                case 0 {{ chosen := original }}
                default {{ chosen := changed }}
            }}
"""


@dataclass(frozen=True)
class Chosen:
    """A site with the faults that a schema carries there: number -> text."""

    site: Site
    texts: Mapping[int, str]


@dataclass
class Schema:
    """Text of a schema. `places`: bytes of the text that belong to each fault; those of one site share theirs."""

    text: bytes
    places: dict[int, tuple[int, int]] = field(default_factory=dict)

    def faults_at(self, place: int) -> list[int]:
        """Numbers of the faults of the innermost site that covers byte `place`."""
        covering = [span for span in self.places.values() if span[0] <= place < span[1]]
        if not covering:
            return []
        innermost = min(covering, key=lambda span: span[1] - span[0])
        return [number for number, span in self.places.items() if span == innermost]


def viewed(source: bytes) -> bytes:
    """The source with nothing `pure`."""
    return re.sub(rb"\bpure\b", b"view", source)


def schema(source: bytes, chosen: Sequence[Chosen]) -> Schema:
    """`source` with all faults of `chosen`, whose sites come in order, outer before inner."""
    writer = _Writer(source, chosen)
    writer.write(0, len(source), 0, len(chosen))
    return Schema(viewed(bytes(writer.out)) + _HELPER.encode(), writer.places)


class _Writer:
    def __init__(self, source: bytes, chosen: Sequence[Chosen]) -> None:
        self._source = source
        self._chosen = chosen
        self.out = bytearray()
        self.places: dict[int, tuple[int, int]] = {}
        self._removed: dict[tuple[int, int], list[int]] = defaultdict(list)
        for item in chosen:
            if item.site.definition:
                self._removed[item.site.definition].extend(item.texts)

    def write(self, start: int, end: int, first: int, last: int) -> None:
        """Write source bytes `[start, end)`, with the sites `[first, last)` that lie in them."""
        position, index = start, first
        while index < last:
            item = self._chosen[index]
            following = index + 1
            while following < last and self._chosen[following].site.start < item.site.end:
                following += 1
            self.out += self._source[position : item.site.start]
            self._site(item, index + 1, following)
            position, index = item.site.end, following
        self.out += self._source[position:end]

    def _site(self, item: Chosen, first: int, last: int) -> None:
        start = len(self.out)
        _WRITERS[item.site.kind](self, item, first, last)
        for number in item.texts:
            self.places[number] = (start, len(self.out))

    def _inside(self, item: Chosen, first: int, last: int) -> None:
        self.write(item.site.start, item.site.end, first, last)

    def _expression(self, item: Chosen, first: int, last: int) -> None:
        self.out += b"("
        for number, text in item.texts.items():
            self.out += f"{_ACTIVE}({number}) ? {text} : ".encode()
        self._inside(item, first, last)
        self.out += b")"

    def _statement(self, item: Chosen, first: int, last: int) -> None:
        self.out += b"{ "
        for number, text in item.texts.items():
            self.out += f"if ({_ACTIVE}({number})) {{ {text} }} else ".encode()
        self._inside(item, first, last)
        self.out += b" }"

    def _modifier(self, item: Chosen, first: int, last: int) -> None:
        [number] = item.texts
        name = self._source[item.site.start : item.site.end].decode()
        bare, bracket, arguments = name.partition("(")
        self.out += f"{bare}__{number}{bracket}{arguments}".encode()

    def _modifier_definition(self, item: Chosen, first: int, last: int) -> None:
        """The modifier, and a copy for each use that a fault removes."""
        start = len(self.out)
        self._inside(item, first, last)
        head, _, body = bytes(self.out[start:]).decode().partition("{")
        for number in self._removed[item.site.start, item.site.end]:
            named = re.sub(r"^modifier (\w+)", rf"modifier \1__{number}", head)
            self.out += f"\n{named}{{ if ({_ACTIVE}({number})) {{ _; }} else {{{body} }}".encode()

    def _yul_expression(self, item: Chosen, first: int, last: int) -> None:
        for number, text in item.texts.items():
            self.out += f"{_YUL_CHOOSE}({number}, {text}, ".encode()
        self._inside(item, first, last)
        self.out += b")" * len(item.texts)

    def _yul_statement(self, item: Chosen, first: int, last: int) -> None:
        [number] = item.texts
        self.out += f"if iszero(eq(coinbase(), {number})) {{ ".encode()
        self._inside(item, first, last)
        self.out += b" }"

    def _yul_block(self, item: Chosen, first: int, last: int) -> None:
        if first == last:
            self._inside(item, first, last)
            return
        self.out += b"{" + _YUL_HELPER.encode()
        self.write(item.site.start + 1, item.site.end, first, last)


_WRITERS = {
    Kind.EXPRESSION: _Writer._expression,
    Kind.STATEMENT: _Writer._statement,
    Kind.MODIFIER: _Writer._modifier,
    Kind.MODIFIER_DEFINITION: _Writer._modifier_definition,
    Kind.YUL_EXPRESSION: _Writer._yul_expression,
    Kind.YUL_STATEMENT: _Writer._yul_statement,
    Kind.YUL_BLOCK: _Writer._yul_block,
}
