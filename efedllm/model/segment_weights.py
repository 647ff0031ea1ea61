"""The weights of one segment of a trace at a time, so that a shard need not fit memory."""

from functools import cached_property
from pathlib import Path
from typing import Protocol

from efedllm.model.load import LayerWeights, check_model, load_embedding, load_final, load_layer, load_tables
from efedllm.model.proof import open_weight
from efedllm.model.spec import model_spec
from efedllm.numerics.weights import Gain, Matrix, Tables
from efedllm.protocol import trace_operand
from efedllm.protocol.hash_tree import Opening
from efedllm.protocol.model_spec import ModelSpec

Place = trace_operand.WeightLeaf | trace_operand.MatrixRow | trace_operand.Gain


class WeightSource(Protocol):
    """The weights of a model as a trace asks for them: part by part, and kept by nobody but who asked."""

    @property
    def tables(self) -> Tables: ...

    def embedding(self) -> Matrix: ...

    def layer(self, index: int) -> LayerWeights: ...

    def final(self) -> tuple[Gain, Matrix]:
        """Final norm and head."""
        ...

    def open(self, operand: Place) -> Opening:
        """A weight with its siblings up to the weights root."""
        ...


class SegmentWeights:
    """A built model's. What is loaded is checked; tables are kept.

    Raises ModelError for a model that is altered or, given `expected_root`, another one.
    """

    def __init__(self, folder: Path | str, expected_root: bytes | None = None) -> None:
        self._folder = Path(folder)
        self.manifest = check_model(self._folder, expected_root)

    def spec(self, step_verifier: str = "0x" + "00" * 20) -> ModelSpec:
        """What the model is registered as."""
        return model_spec(self.manifest, step_verifier)

    @cached_property
    def tables(self) -> Tables:
        return load_tables(self._folder, self.manifest)

    def embedding(self) -> Matrix:
        return load_embedding(self._folder, self.manifest)

    def layer(self, index: int) -> LayerWeights:
        return load_layer(self._folder, self.manifest, index)

    def final(self) -> tuple[Gain, Matrix]:
        """Final norm and head."""
        return load_final(self._folder, self.manifest)

    def open(self, operand: Place) -> Opening:
        """A weight with its siblings up to the weights root."""
        return open_weight(self._folder, self.manifest, operand)
