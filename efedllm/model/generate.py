"""Generation in one process over a whole model: what a run over several workers must equal, token by token."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from efedllm.model.blocks import blocks_for
from efedllm.model.cache import Cache
from efedllm.model.errors import ModelError
from efedllm.model.shard import Shard, Slice
from efedllm.numerics.sampling import sample
from efedllm.numerics.sampling_parameters import SEED_BYTES, SamplingParameters

PREFILL_CHUNK = 128


def generate(
    shard: Shard,
    prompt_ids: Sequence[int],
    max_tokens: int,
    sampling: SamplingParameters | None = None,
    seed: bytes = bytes(SEED_BYTES),
    stop_ids: Iterable[int] = (),
    chunk: int = PREFILL_CHUNK,
) -> Iterator[int]:
    """Yield the tokens after the prompt, at most `max_tokens`; a stop id is yielded and is the last.

    `sampling`: greedy by default; `chunk`: most prompt positions per step, which changes no token. Raises ModelError
    for a shard that is not a whole model, an empty prompt, ids outside the vocabulary, and a prompt that with
    `max_tokens` is longer than the context.
    """
    context = shard.dimensions.context
    if not (shard.is_first and shard.is_last):
        raise ModelError(f"layers {shard.start}:{shard.end} are not a whole model of {shard.dimensions.layers} layers")
    if not prompt_ids or max_tokens < 1 or chunk < 1:
        raise ModelError("a generation needs a prompt, a token to generate, and a chunk of at least one position")
    if len(prompt_ids) + max_tokens > context + 1:
        raise ModelError(
            f"{len(prompt_ids)} prompt tokens and {max_tokens} to generate exceed the context of {context} positions"
        )
    cache = shard.cache_pool(blocks_for(len(prompt_ids) + max_tokens - 1)).sequence()
    parameters = sampling or SamplingParameters()
    stops = frozenset(stop_ids)

    def tokens() -> Iterator[int]:
        new = list(prompt_ids)
        for _ in range(max_tokens):
            logits = shard.logits(prefill(shard, cache, new, chunk))
            token = int(sample(logits, [parameters], [seed], [cache.length], shard.tables.exp2))
            yield token
            if token in stops:
                return
            new = [token]

    return tokens()


def prefill(shard: Shard, cache: Cache, ids: Sequence[int], chunk: int = PREFILL_CHUNK) -> Tensor:
    """Pass ids through the shard that has the embedding, `chunk` at a time -> the last row: int32 [1, hidden]."""
    for start in range(0, len(ids), chunk):
        part = torch.tensor(ids[start : start + chunk], dtype=torch.int64)
        hidden = shard.forward([Slice(cache, len(part))], part)
    return hidden[-1:]
