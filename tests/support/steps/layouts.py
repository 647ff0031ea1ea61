"""The weights tree of a model that is known by its dimensions only."""

from functools import lru_cache

from efedllm.model.config import Dimensions
from efedllm.model.layout import Layout
from efedllm.protocol.model_spec import ModelSpec


@lru_cache(64)
def layout_of(model: ModelSpec) -> Layout:
    return Layout(
        Dimensions(
            hidden=model.hidden,
            intermediate=model.intermediate,
            layers=model.layers,
            heads=model.heads,
            kv_heads=model.kv_heads,
            head_dim=model.head_dim,
            vocab=model.vocab,
            context=model.context,
            epsilon=model.epsilon,
            tied=False,
        )
    )
