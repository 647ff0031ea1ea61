"""How much it takes to build a trace, which a worker does when somebody disputes a receipt, and a verifier alike."""

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import numpy as np

from efedllm.model.load import LayerWeights
from efedllm.model.segment_weights import Place
from efedllm.model.trace import Trace
from efedllm.numerics.backend import select
from efedllm.numerics.limits import SEMANTICS
from efedllm.numerics.weights import Gain, Matrix, Tables
from efedllm.protocol import trace
from efedllm.protocol.committed import CommittedRows
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace_tensors import Layer
from efedllm.protocol.values import ZERO_ADDRESS

from .report import SCRATCH, Result, reported
from .shapes import HIDDEN_1024, TOY, Shape
from .timing import one_thread

SAMPLING = Sampling(temperature=52_429, topK=50, topP=62_259)
MIB = 1 << 20


@dataclass(frozen=True)
class Size:
    """Positions of the request, tokens generated at its end, and how many layers are traced at once."""

    shape: Shape
    positions: int
    generated: int
    layers: tuple[int, ...]


FULL = Size(HIDDEN_1024, 1024, 64, (1, 4))
QUICK = Size(TOY, 300, 4, (1, 2))


def run(quick: bool, tell: Callable[[str], None]) -> list[Result]:
    """Inner shards of several sizes, then what the last shard of a path does besides."""
    size = QUICK if quick else FULL
    cases = [(1, 1 + count) for count in size.layers] + [(size.shape.layers - 1, size.shape.layers)]
    results = []
    SCRATCH.mkdir(exist_ok=True)
    for start, end in cases:
        is_last = end == size.shape.layers
        what = f"{size.shape.name}, {size.positions} positions, layers {start}:{end}"
        what += f" and exit, {size.generated} tokens" if is_last else ""
        tell(what)
        taken = _alone(size, start, end)
        results += [
            reported(f"{what}: built", taken.wall, "s"),
            reported(f"{what}: built, processor time", taken.processor, "s"),
            reported(f"{what}: first row below a row's root", taken.row, "s"),
            reported(f"{what}: most memory", taken.peak / MIB, "MiB"),
            reported(f"{what}: most memory beyond program and weights", (taken.peak - taken.before) / MIB, "MiB"),
            reported(f"{what}: temporary file", taken.file / MIB, "MiB"),
        ]
    return results


@dataclass(frozen=True)
class Taken:
    """Seconds on the wall and of the processor; of a single row computed again; bytes of memory before and at most, and
    of the temporary file."""

    wall: float
    processor: float
    row: float
    before: int
    peak: int
    file: int


def _alone(size: Size, start: int, end: int) -> Taken:
    """Measured in a process of its own, whose most memory nothing else has used."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (size, start, end))


def measure(size: Size, start: int, end: int) -> Taken:
    with one_thread(), tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
        weights = Ready(size.shape, start, end)
        built = _trace(size, weights, start, end, Path(scratch))
        before = _memory()
        wall, processor = time.perf_counter(), time.process_time()
        assert built.body_root
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        at = time.perf_counter()
        assert built.row(0, Layer.SCORES, size.positions - 1)
        row = time.perf_counter() - at
        file = sum(path.stat().st_blocks * 512 for path in Path(scratch).rglob("*") if path.is_file())
        return Taken(wall, processor, row, before, _memory(), file)


def _memory() -> int:
    """Most that this process has used so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _trace(size: Size, weights: "Ready", start: int, end: int, scratch: Path) -> Trace:
    shape = trace.Shape(
        _spec(size.shape),
        start,
        end,
        size.positions,
        size.positions - size.generated + 1,
        size.generated,
    )
    rows = np.random.default_rng(1).integers(-(1 << 17), 1 << 17, (size.positions, size.shape.hidden), dtype=np.int32)
    inputs = CommittedRows(size.positions, lambda at: rows[at].tobytes())
    return Trace(weights, shape, inputs, SAMPLING, sha256(b"seed").digest(), select(), scratch=scratch)


def _spec(shape: Shape) -> ModelSpec:
    """Its roots, which no value depends on, are zero."""
    d, zero = shape.dimensions, bytes(32)
    sizes = (d.hidden, d.intermediate, d.layers, d.heads, d.kv_heads, d.head_dim, d.vocab, d.context, d.epsilon)
    return ModelSpec(SEMANTICS, *sizes, zero, zero, zero, ZERO_ADDRESS)


class Ready:
    """Weights already in memory: reading and checking them is a start-up's cost."""

    def __init__(self, shape: Shape, start: int, end: int) -> None:
        self._start = start
        self.loaded = shape.loaded(start, end)

    @property
    def tables(self) -> Tables:
        return self.loaded.tables

    def embedding(self) -> Matrix:
        assert self.loaded.embedding is not None
        return self.loaded.embedding

    def layer(self, index: int) -> LayerWeights:
        return self.loaded.layers[index - self._start]

    def final(self) -> tuple[Gain, Matrix]:
        assert self.loaded.final_norm is not None and self.loaded.head is not None
        return self.loaded.final_norm, self.loaded.head

    def open(self, operand: Place) -> NoReturn:
        raise NotImplementedError("no operand is opened here")
