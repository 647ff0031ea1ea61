"""The float contenders: `LlamaForCausalLM` of transformers as its users run it, with its own KV caches."""

import torch
from torch import Tensor
from transformers import LlamaForCausalLM
from transformers.cache_utils import Cache, DynamicCache, StaticCache

from .shapes import Shape


def build(shape: Shape) -> tuple[LlamaForCausalLM, LlamaForCausalLM]:
    """Random weights in fp32, and the same in bf16."""
    torch.manual_seed(0)
    single = LlamaForCausalLM(shape.config()).eval()
    half = LlamaForCausalLM._from_config(shape.config(), dtype=torch.bfloat16).eval()
    half.load_state_dict(single.state_dict())
    return single, half


class FloatModel:
    """Greedy decoding, eager, with torch's fused attention; `is_static`: which of its two caches."""

    def __init__(self, model: LlamaForCausalLM, is_static: bool) -> None:
        self._model, self._is_static = model, is_static
        self.cache_name = "static" if is_static else "dynamic"

    @torch.inference_mode()
    def start(self, prompts: Tensor, positions: int) -> None:
        """Begin one sequence per row of `prompts` (int64 [batch, count]), with room for `positions` each."""
        config = self._model.config
        self._cache: Cache = (
            StaticCache(config, max_cache_len=positions) if self._is_static else DynamicCache(config=config)
        )
        self._tokens = self._next(prompts)

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every sequence."""
        self._tokens = self._next(self._tokens)

    def _next(self, tokens: Tensor) -> Tensor:
        output = self._model(tokens, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        logits: Tensor = output.logits
        return logits[:, -1:].argmax(-1)
