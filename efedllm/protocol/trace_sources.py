"""Where the values lie that a row of a trace is computed from, and the operands of ops that occur several times."""

from dataclasses import dataclass

from efedllm.protocol.merkle import LEAF_BYTES
from efedllm.protocol.trace import Place, Shape, Step
from efedllm.protocol.trace_operand import GAIN_LEAF, BodyLeaf, BodyRow, Gain, InputLeaf, InputRow, Operand, WeightLeaf
from efedllm.protocol.trace_tensors import Entry, Layer, Program


@dataclass(frozen=True)
class Sources:
    """Where values lie that the row of a step is computed from."""

    shape: Shape
    step: Step

    def leaf(self, tensor: int, part: int, index: int, row: int | None = None) -> BodyLeaf:
        """The leaf of element `index`, in the step's row or another one of its segment."""
        segment = self.step.segment
        at = self.shape.leaf_of(segment, tensor, part, index)
        return BodyLeaf(Place(segment, tensor, self.step.row if row is None else row, at))

    def leaves(self, tensor: int, part: int, first: int, count: int, row: int | None = None) -> tuple[BodyLeaf, ...]:
        """The leaves of elements `first .. first + count`."""
        low, high = self.leaf(tensor, part, first, row).place, self.leaf(tensor, part, first + count - 1, row).place
        return tuple(BodyLeaf(low._replace(leaf=at)) for at in range(low.leaf, high.leaf + 1))

    def row(self, tensor: int) -> BodyRow:
        return BodyRow(self.step.segment, tensor, self.step.row)

    def residual_row(self) -> Operand:
        """The row of `X`."""
        if (tensor := self._residual()) is None:
            return InputRow(self.step.row)
        return BodyRow(self.step.segment - 1, tensor, self.step.row)

    def residual_leaf(self, index: int) -> Operand:
        """The leaf of `X` that holds value `index`."""
        at = index * 4 // LEAF_BYTES
        if (tensor := self._residual()) is None:
            return InputLeaf(self.step.row, at)
        return BodyLeaf(Place(self.step.segment - 1, tensor, self.step.row, at))

    def _residual(self) -> int | None:
        """The last tensor of the segment before; None where the rows that entered the shard are meant."""
        if self.step.segment == 0:
            return None
        is_layer = self.shape.program(self.step.segment - 1) is Program.LAYER
        return Layer.ADD_MLP if is_layer else Entry.EMBED

    def norm(self, source: int | None, gain: str, part: int, at: int) -> tuple[Operand, ...]:
        """Of tensor `source`, or of `X`."""
        if part == 0:
            return (self.residual_row() if source is None else self.row(source)), Gain(gain)
        leaf = self.residual_leaf(at) if source is None else self.leaf(source, 0, at)
        return leaf, WeightLeaf(gain, at // GAIN_LEAF), self.leaf(self.step.tensor, 0, 0)

    def quantised(self, source: int, part: int, at: int) -> tuple[Operand, ...]:
        if part == 0:
            return (self.row(source),)
        return self.leaf(source, 0, at), self.leaf(self.step.tensor, 0, 0)

    def quantised_heads(self, source: int, part: int, at: int) -> tuple[Operand, ...]:
        head_dim = self.shape.model.head_dim
        if part == 0:
            return self.leaves(source, 0, at * head_dim, head_dim)
        return self.leaf(source, 0, at), self.leaf(self.step.tensor, 0, at // head_dim)

    def rotary(self, source: int, at: int) -> tuple[Operand, ...]:
        """The pair, whose second value lies half a head behind the first."""
        half = self.shape.model.head_dim // 2
        first = at - at % (2 * half) + at % half
        pair = (self.leaf(source, 0, first), self.leaf(source, 0, first + half))
        return (*dict.fromkeys(pair), WeightLeaf("rotary", self.step.row))
