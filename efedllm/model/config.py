"""Dimensions of a model: everything about its shape that a computation depends on."""

from dataclasses import dataclass

from efedllm.model.errors import ModelError
from efedllm.numerics.errors import LimitError
from efedllm.numerics.limits import check_dimensions, check_epsilon

MAX_LAYERS = 9999
"""As many as the layers' file names have digits for."""


@dataclass(frozen=True)
class Dimensions:
    """`epsilon`: of the norms, in units of 2^-32; `tied`: the head is the embedding; `context`: most positions.

    Raises ModelError for dimensions that the semantics does not cover.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    epsilon: int
    tied: bool

    def __post_init__(self) -> None:
        if not 1 <= self.layers <= MAX_LAYERS:
            raise ModelError(f"layers = {self.layers} is not in 1 .. {MAX_LAYERS}")
        try:
            check_dimensions(
                hidden=self.hidden,
                heads=self.heads,
                kv_heads=self.kv_heads,
                head_dim=self.head_dim,
                intermediate=self.intermediate,
                vocab=self.vocab,
                context=self.context,
            )
            check_epsilon(self.epsilon)
        except LimitError as error:
            raise ModelError(str(error)) from error
