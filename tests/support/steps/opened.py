"""The bytes of an element's operands, read and written by where values lie in the trace."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Place, Shape, Step
from efedllm.protocol.trace_operand import (
    BodyLeaf,
    BodyRow,
    Gain,
    InputLeaf,
    InputRow,
    InputToken,
    MatrixRow,
    Operand,
    WeightLeaf,
)
from efedllm.protocol.trace_tensors import Layer, Part, Program

LEAF = 1024
HEADER = struct.Struct("<IHH")
RESIDUAL = -1
"""Stands for the tensor `X`, whichever it is."""


@dataclass
class Opened:
    """Operands of `step`. Values are read as little-endian integers: signed where the part's kind is."""

    shape: Shape
    sampling: Sampling
    seed: bytes
    step: Step
    data: dict[Operand, bytes] = field(default_factory=dict)

    @property
    def program(self) -> Program:
        return self.shape.program(self.step.segment)

    def get(self, tensor: int, part: int, index: int, row: int | None = None) -> int:
        """An element of an opened leaf or row of the step's segment, or of X."""
        operand, offset, size, signed = self._find(tensor, part, index, row)
        return int.from_bytes(self.data[operand][offset : offset + size], "little", signed=signed)

    def many(self, tensor: int, part: int, first: int, count: int, row: int | None = None) -> list[int]:
        return [self.get(tensor, part, first + i, row) for i in range(count)]

    def put(self, tensor: int, part: int, index: int, value: int, row: int | None = None) -> None:
        operand, offset, size, signed = self._find(tensor, part, index, row)
        data = bytearray(self.data[operand])
        data[offset : offset + size] = value.to_bytes(size, "little", signed=signed)
        self.data[operand] = bytes(data)

    def part(self, tensor: int, part: int) -> Part:
        return self.shape.parts(self.step.segment, tensor)[part]

    def weight(self, name: str) -> tuple[bytes, tuple[int, int, int]]:
        """Data and header (scale, exponent, kind) of the only operand out of a tensor of the model."""
        for operand, data in self.data.items():
            if isinstance(operand, WeightLeaf | MatrixRow | Gain) and operand.name.rpartition(".")[2] == name:
                return data[8:], HEADER.unpack(data[:8])
        raise KeyError(name)

    def token(self) -> int:
        return int.from_bytes(self.data[InputToken(self.step.row)], "little")

    def _find(self, tensor: int, part: int, index: int, row: int | None) -> tuple[Operand, int, int, bool]:
        """Operand, offset, size and signedness of an element."""
        number = self.step.row if row is None else row
        segment = self.step.segment
        if tensor == RESIDUAL:
            if segment == 0:
                whole: Operand = InputRow(number)
                if whole in self.data:
                    return whole, 4 * index, 4, True
                return InputLeaf(number, 4 * index // LEAF), 4 * index % LEAF, 4, True
            segment -= 1
            tensor = Layer.ADD_MLP if self.shape.program(segment) is Program.LAYER else 0
        parts = self.shape.parts(segment, tensor)
        kind = parts[part].kind
        signed = kind.label.startswith("int")
        whole = BodyRow(segment, tensor, number)
        if whole in self.data:
            before = sum(one.count * one.kind.size for one in parts[:part])
            return whole, before + index * kind.size, kind.size, signed
        place = Place(segment, tensor, number, self.shape.leaf_of(segment, tensor, part, index))
        return BodyLeaf(place), index % parts[part].per_leaf * kind.size, kind.size, signed
