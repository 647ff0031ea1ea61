"""Builds the verifier's own trace of a disputed receipt, a few of them at a time. Used in one thread."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from efedllm.model.segment_weights import SegmentWeights
from efedllm.model.trace import Trace
from efedllm.numerics.backend import Backend
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.descent import Descent
from efedllm.protocol.game import Paper
from efedllm.protocol.records import Record
from efedllm.protocol.trace_case import shape_of

from .own import Own

KEPT = 4
"""Traces kept at a time: each holds the residual rows of its shard on disk, and little in memory."""

log = logging.getLogger("efedllm.verifier")

Rows = Callable[[int, int, list[int]], bytes]
"""What leaves layers `[start, end)` for these token ids."""


class Tracer:
    """folder: the built model, whose weights root was checked. rows: computes what an inner shard was to receive.

    scratch: where traces lie while they are used.
    """

    def __init__(self, weights: SegmentWeights, backend: Backend, rows: Rows, scratch: Path | None = None) -> None:
        self._weights, self._backend, self._rows, self._scratch = weights, backend, rows, scratch
        self._kept: OrderedDict[bytes, Own] = OrderedDict()

    def close(self) -> None:
        while self._kept:
            self._kept.popitem()[1].close()

    def own(self, digest: bytes, paper: Paper, record: Record) -> Own:
        """The computation behind the receipt with this digest.

        record: opens the receipt's token root; its rows are used where they open its input root, else those that the
        verifier's own model gives from the tokens.

        Raises ModelError, NumericsError, ProtocolError.
        """
        if digest in self._kept:
            self._kept.move_to_end(digest)
            return self._kept[digest]
        while len(self._kept) >= KEPT:
            self._kept.popitem(last=False)[1].close()
        self._kept[digest] = own = self._build(paper, record)
        return own

    def _build(self, paper: Paper, record: Record) -> Own:
        request, receipt = paper.request, paper.receipt
        shape = shape_of(self._weights.spec(), request, receipt)
        tokens = [*record.prompt, *record.generated[: receipt.generated]]
        inputs = self._inputs(shape.start, receipt.positions, receipt.inputRoot, tokens, record.rows)
        trace = None
        if inputs.root == receipt.inputRoot:
            trace = Trace(
                self._weights, shape, inputs, request.sampling, request.seed, self._backend, scratch=self._scratch
            )
            log.info("computing the trace of %d positions of layers %d:%d", shape.positions, shape.start, shape.end)
            trace.body_root  # noqa: B018  everything is computed now
        return Own(receipt, Descent(shape), tokens, inputs, trace)

    def _inputs(
        self, start: int, positions: int, root: bytes, tokens: list[int], rows: bytes
    ) -> CommittedTokens | CommittedRows:
        fed = tokens[:positions]
        if start == 0:
            return CommittedTokens(fed)
        size = 4 * self._weights.manifest.dimensions.hidden
        if len(rows) >= positions * size:
            given = _committed(rows, size, positions)
            if given.root == root:
                return given
        return _committed(self._rows(0, start, fed), size, positions)


def _committed(rows: bytes, size: int, positions: int) -> CommittedRows:
    return CommittedRows(positions, lambda at: rows[at * size : (at + 1) * size])
