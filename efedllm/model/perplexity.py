"""Perplexity of a float checkpoint and of its integer form over the same windows of a text: what the conversion costs.

Floats are fine here: this measures a model, nobody has to recompute it.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy

from efedllm.model.blocks import blocks_for
from efedllm.model.errors import ModelError
from efedllm.model.format import Quality
from efedllm.model.generate import PREFILL_CHUNK
from efedllm.model.load import load
from efedllm.model.shard import Shard, Slice
from efedllm.numerics.backend import select

MAX_WINDOW = 2048
LOGIT_ONE = 2.0**16
LOSS_ROWS = 128
"""Rows of logits held in fp64 at once: a vocabulary is wide."""

Logits = Callable[[Tensor], Tensor]
"""Token ids int64 [T] of one window -> logits [T, vocab] in natural units, float."""


def measure(checkpoint: Path, built: Path, text: str, tell: Callable[[str, int, int], None]) -> Quality:
    """Measure both forms on `text`, cut into windows of the context. Raises ModelError for a text that is too short."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    shard = Shard(load(built), select())
    tokenizer = Tokenizer.from_file(str(built / "tokenizer.json"))
    ids = torch.tensor(tokenizer.encode(text).ids, dtype=torch.int64)
    windows = [window for window in ids.split(min(MAX_WINDOW, shard.dimensions.context)) if len(window) > 1]
    if not windows:
        raise ModelError("the text is too short to measure perplexity on; give some thousand words")
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, local_files_only=True).eval()
    return Quality(
        _perplexity(windows, lambda window: model(window.unsqueeze(0)).logits[0], partial(tell, "float perplexity")),
        _perplexity(windows, lambda window: _integer_logits(shard, window), partial(tell, "integer perplexity")),
        sum(len(window) - 1 for window in windows),
    )


@torch.inference_mode()
def _perplexity(windows: list[Tensor], logits: Logits, tell: Callable[[int, int], None]) -> float:
    loss, count = 0.0, 0
    for done, window in enumerate(windows):
        tell(done, len(windows))
        predictions = logits(window)[:-1]
        for rows, targets in zip(predictions.split(LOSS_ROWS), window[1:].split(LOSS_ROWS), strict=True):
            loss += float(cross_entropy(rows.to(torch.float64), targets, reduction="sum"))
        count += len(window) - 1
    tell(len(windows), len(windows))
    return math.exp(loss / count)


def _integer_logits(shard: Shard, window: Tensor) -> Tensor:
    cache = shard.cache_pool(blocks_for(len(window))).sequence()
    rows = [shard.logits(shard.forward([Slice(cache, len(part))], part)) for part in window.split(PREFILL_CHUNK)]
    return torch.cat(rows).to(torch.float32) / LOGIT_ONE
