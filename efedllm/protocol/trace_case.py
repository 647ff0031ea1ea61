"""What an element of a trace is judged by, besides its operands: the Python twin of `IStepVerifier.Case`."""

from dataclasses import dataclass

from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.objects import Receipt, Request, Sampling
from efedllm.protocol.trace import Shape


@dataclass(frozen=True)
class Case:
    """The computation behind a receipt. seed, sampling: the request's; roots: the receipt's and the trace's."""

    shape: Shape
    input_root: bytes
    body_root: bytes
    seed: bytes
    sampling: Sampling


def shape_of(model: ModelSpec, request: Request, receipt: Receipt) -> Shape:
    """The shape of the trace behind a receipt. Raises ProtocolError for counts that no valid receipt has."""
    hop = request.path[receipt.shard]
    return Shape(model, hop.start, hop.end, receipt.positions, request.promptCount, receipt.generated)
