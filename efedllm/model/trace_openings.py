"""Openings of an element's operands: what a challenger shows the contract, against its own trace or a worker's."""

from itertools import accumulate

from efedllm.model.trace import Trace
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.hash_tree import Opening, siblings
from efedllm.protocol.merkle import LEAF_BYTES
from efedllm.protocol.partial_tree import PartialTree
from efedllm.protocol.trace import Node, Step
from efedllm.protocol.trace_elements import unpack
from efedllm.protocol.trace_operand import (
    BodyLeaf,
    BodyRow,
    Choice,
    InputLeaf,
    InputRow,
    InputToken,
    Operand,
    draw,
    exp2_leaf,
    sigmoid_leaf,
)
from efedllm.protocol.trace_operands import choice_of, operands
from efedllm.protocol.trace_tensors import BLOCK, Exit, Kind, Program


class TraceOpenings:
    """revealed: the other party's tree, whose root the openings are to lead to; by default the trace's own."""

    def __init__(self, trace: Trace, revealed: PartialTree | None = None) -> None:
        self._trace = trace
        self._shape = trace.shape
        self._read = trace.node if revealed is None else revealed.node

    def openings(self, step: Step) -> tuple[Opening, ...]:
        """Openings of all operands of an element, in order; none of a constant. Raises ProtocolError for no step."""
        found = operands(self._shape, self._trace.sampling, step, self._choice(step))
        return tuple(self.open(operand) for operand in found)

    def open(self, operand: Operand) -> Opening:
        """Data from the trace, its inputs or the model's files, with siblings up to the root that commits to it."""
        match operand:
            case BodyLeaf(place):
                return Opening(self._trace.leaf_at(place), self._siblings(self._shape.leaf_node(place)))
            case BodyRow(segment, tensor, row):
                data = self._trace.row(segment, tensor, row)
                return Opening(data, self._siblings(self._shape.row_node(segment, tensor, row)))
            case InputToken(position):
                assert isinstance(self._trace.inputs, CommittedTokens)
                return self._trace.inputs.open_token(position)
            case InputRow(position):
                assert isinstance(self._trace.inputs, CommittedRows)
                return self._trace.inputs.open_row(position)
            case InputLeaf(position, leaf):
                assert isinstance(self._trace.inputs, CommittedRows)
                return self._trace.inputs.open_leaf(position, leaf)
            case _:
                return self._trace.weights.open(operand)

    def _siblings(self, node: Node) -> tuple[bytes, ...]:
        return siblings(self._read, node)

    def _choice(self, step: Step) -> int | None:
        """The number that `operands` has to be told, from the values of the operands before it."""
        _, at = self._shape.find_element(step)
        match choice_of(self._shape, self._trace.sampling, step):
            case Choice.TOKEN:
                assert isinstance(self._trace.inputs, CommittedTokens)
                return self._trace.inputs.tokens[step.row]
            case Choice.TILE:
                return self._tile(step)
            case Choice.SIGMOID:
                return sigmoid_leaf(self._value(step, 0, at))
            case Choice.EXP2 if self._shape.program(step.segment) is Program.LAYER:
                head = at // (BLOCK * self._shape.blocks)
                return exp2_leaf(self._value(step, 1, head) - self._value(step, 0, at))
            case Choice.EXP2:
                return exp2_leaf(self._value(step, 0, at))
            case None:
                return None

    def _value(self, step: Step, number: int, index: int) -> int:
        """Element `index` of the part that a body operand of an element lies in."""
        operand = operands(self._shape, self._trace.sampling, step, None)[number]
        assert isinstance(operand, BodyLeaf), "tables come last, and are opened only when the choice is known"
        kind = self._shape.find_leaf(*operand.place[:2], operand.place.leaf)[1].kind
        elements = unpack(kind, self._trace.leaf_at(operand.place))
        return elements[index % (LEAF_BYTES // kind.size)][0]

    def _tile(self, step: Step) -> int:
        """The tile of a sample: the first with the largest logit, or at which the running sum exceeds the draw."""
        is_random = self._trace.sampling.temperature != 0
        tensor, kind = (Exit.SUMS, Kind.UINT64) if is_random else (Exit.MAXIMA, Kind.INT32)
        *parts, whole = (value for (value,) in unpack(kind, self._trace.row(step.segment, tensor, step.row)))
        if not is_random:
            return parts.index(whole)
        left = draw(self._trace.seed, step.row + 1, whole)
        return next(at for at, total in enumerate(accumulate(parts)) if total > left)
