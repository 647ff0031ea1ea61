"""A worker that defends a lie, each kind in the way that serves it best; for tests of what becomes of it.

`Lies` says how. What it signed is the cheating worker's business: a lie here only decides what is shown in games.

    silent_from=n       sends no move from its n-th on (1: posts no trace, 2: reveals nothing, ...)
    lie                 the trace is altered: consistently, or only where it is shown (efedllm/model/trace_rows.py)
    body_root           posts this instead of its trace's root
    output              another output than the trace gives, that opens to what was signed
    leaf                what becomes of the last leaf
    answers_demands     False: keeps token ids to itself
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efedllm.model.trace_rows import Lie, Values
from efedllm.numerics.backend import Backend
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.game import Game, Side
from efedllm.protocol.model_spec import ModelSpec
from worker.defence import Concede, Due, Exhibit, Facing, Move, PostTrace, RevealLeaf, show
from worker.defender import Build, Defender
from worker.exhibits import Exhibits
from worker.kept import Inputs
from worker.tracing import Tracer


@dataclass(frozen=True)
class Lies:
    """The default is an honest trace, defended whatever was signed."""

    lie: Lie | None = None
    body_root: bytes | None = None
    output: Callable[[Inputs], CommittedTokens | CommittedRows] | None = None
    leaf: Callable[[bytes], bytes] | None = None
    silent_from: int | None = None
    answers_demands: bool = True


def altered(segment: int, tensor: int, row: int, part: int = 0, index: int = 0, is_consistent: bool = True) -> Lie:
    """A lie about one element: its value is another one, as close as can be."""

    def alter(at_segment: int, at_tensor: int, at_part: int, first: int, values: Values) -> None:
        if (at_segment, at_tensor, at_part) != (segment, tensor, part) or not first <= row < first + len(values):
            return
        element = values[row - first, index : index + 1]
        field = element[element.dtype.names[0]] if element.dtype.names else element
        field ^= field.dtype.type(1)

    return Lie(alter, is_consistent)


def lying_build(folder: Path, backend: Backend, scratch: Path, lies: Lies) -> Build:
    """An exhibit that has no objection to what was signed, whatever that is."""
    tracer = Tracer(folder, backend, scratch, lies.lie)

    def build(model: ModelSpec, inputs: Inputs) -> Exhibit:
        exhibit, receipt = tracer(model, inputs), inputs.paper.receipt
        sources = dict(exhibit.sources)
        if lies.output is not None:
            sources[Side.OUTPUT] = lies.output(inputs)
        signed = {"input_root": receipt.inputRoot, "output_root": receipt.outputRoot}
        posted = exhibit.body_root if lies.body_root is None else lies.body_root
        return replace(exhibit, sources=sources, body_root=posted, **signed)

    return build


def lying_move(game: Game, exhibit: Exhibit, lies: Lies, number: int) -> Move:
    """The worker's move `number` in a game, from 1."""
    if lies.silent_from is not None and number >= lies.silent_from:
        return Concede("silence")
    match show(game, exhibit):
        case PostTrace(_) if lies.body_root is not None:
            return PostTrace(lies.body_root)
        case RevealLeaf(leaf) if lies.leaf is not None:
            return RevealLeaf(lies.leaf(leaf))
        case move:
            return move


class LyingExhibits(Exhibits):
    """Shows what `lies` says, and counts the moves of each game by the places that it comes to."""

    def __init__(self, lies: Lies) -> None:
        super().__init__()
        self._lies = lies
        self._places: dict[tuple[bytes, str, int], list[tuple[int, ...]]] = {}

    async def show(self, game: Game, digest: bytes) -> Move:
        key = digest, game.challenger, game.bond
        places = self._places.setdefault(key, [])
        place = (int(game.phase), int(game.side), game.height, game.path, int(game.in_row))
        if place not in places:
            places.append(place)
        return lying_move(game, self._kept[digest], self._lies, places.index(place) + 1)


class LyingDefender(Defender):
    """Takes what `Defender` takes, with `lies` and a `build` made by `lying_build`."""

    def __init__(self, *arguments: Any, lies: Lies, **options: Any) -> None:
        super().__init__(*arguments, exhibits=LyingExhibits(lies), **options)
        self._lies = lies

    async def _call(self, facing: Facing, what: Due, *others: Any) -> Any:
        if what is Due.ANSWER and not self._lies.answers_demands:
            return None
        return await super()._call(facing, what, *others)
