"""Builds what a dispute is played with: the trace of a receipt, from the inputs kept and the model's files."""

from pathlib import Path

from efedllm.model.segment_weights import SegmentWeights
from efedllm.model.trace import Trace
from efedllm.model.trace_rows import Lie
from efedllm.numerics.prepared import Backend
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.descent import Descent
from efedllm.protocol.game import Side
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.trace import Shape
from efedllm.protocol.trace_case import shape_of
from efedllm.protocol.trace_elements import unpack
from efedllm.protocol.trace_tensors import Exit, Kind

from .defence import Exhibit
from .errors import WorkerError
from .kept import Inputs


class Tracer:
    """`defender.Build` over a built model's folder, of which one layer at a time is in memory. scratch: for its files.

    lie: what the trace is made to say instead of the truth; for tests.
    """

    def __init__(self, folder: Path, backend: Backend, scratch: Path, lie: Lie | None = None) -> None:
        self._folder, self._backend, self._scratch, self._lie = folder, backend, scratch, lie

    def __call__(self, model: ModelSpec, inputs: Inputs) -> Exhibit:
        """Raises ModelError for another model's folder, WorkerError if inputs are gone."""
        request, receipt = inputs.paper.request, inputs.paper.receipt
        shape = shape_of(model, request, receipt)
        weights = SegmentWeights(self._folder, model.weights_root)
        entered = _entered(inputs, shape)
        trace = Trace(
            weights,
            shape,
            entered,
            request.sampling,
            request.seed,
            self._backend,
            lie=self._lie,
            scratch=self._scratch,
        )
        try:
            descent, body_root = Descent(shape), trace.body_root
            left = _sampled(trace, shape) if descent.is_last else trace.outputs()
            return Exhibit(
                paper=inputs.paper,
                descent=descent,
                sources={Side.INPUT: entered, Side.BODY: trace, Side.OUTPUT: left},
                body_root=body_root,
                input_root=entered.root,
                output_root=left.root,
                close=trace.close,
            )
        except BaseException:
            trace.close()
            raise


def _entered(inputs: Inputs, shape: Shape) -> CommittedTokens | CommittedRows:
    if shape.has_entry:
        tokens = inputs.tokens[: shape.positions]
        if len(tokens) < shape.positions:
            raise WorkerError(f"{len(tokens)} token ids of {shape.positions} positions are kept")
        return CommittedTokens(tokens)
    width = 4 * shape.model.hidden
    if inputs.row_bytes < width * shape.positions:
        raise WorkerError(f"{inputs.row_bytes // width} rows of {shape.positions} are kept")
    return CommittedRows(shape.positions, lambda position: inputs.read(width * position, width))


def _sampled(trace: Trace, shape: Shape) -> CommittedTokens:
    """The tokens that the trace says were sampled."""
    rows = shape.rows(shape.segments - 1, Exit.SAMPLE) if shape.has_exit else ()
    samples = [unpack(Kind.SAMPLE, trace.row(shape.segments - 1, Exit.SAMPLE, row)) for row in rows]
    return CommittedTokens([token for ((token, _, _),) in samples])
