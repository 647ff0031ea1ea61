"""Generation: what is drawn, where it ends, and that chunks and seeds do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from efedllm.model.errors import ModelError
from efedllm.model.generate import generate
from efedllm.model.load import load
from efedllm.model.shard import Shard
from efedllm.numerics.backend import Backend
from efedllm.numerics.sampling_parameters import SamplingParameters
from tests.model.reference_model import ReferenceModel

PROMPT = [7, 200, 31, 99, 4]
WARM = SamplingParameters(temperature=1 << 16, top_p=60000, top_k=50)
SEED = bytes(range(32))


@pytest.mark.parametrize("sampling", [SamplingParameters(), WARM])
def test_equals_the_reference(model: Shard, built: Path, sampling: SamplingParameters) -> None:
    reference = ReferenceModel(built)
    new, expected = PROMPT, []
    for _ in range(6):
        for token in new:
            row = reference.step(token)
        drawn = reference.sample(reference.logits(row), SEED, sampling.temperature, sampling.top_k, sampling.top_p)
        new = [drawn]
        expected += new
    assert list(generate(model, PROMPT, 6, sampling, SEED)) == expected


@pytest.mark.parametrize("chunk", [1, 2, 64, 1000])
def test_chunks_do_not_matter(model: Shard, chunk: int) -> None:
    prompt = [(at * 13) % 300 for at in range(100)]
    assert list(generate(model, prompt, 8, WARM, SEED, chunk=chunk)) == list(generate(model, prompt, 8, WARM, SEED))


def test_the_seed_decides(model: Shard) -> None:
    first = list(generate(model, PROMPT, 20, WARM, SEED))
    assert first == list(generate(model, PROMPT, 20, WARM, SEED))
    assert first != list(generate(model, PROMPT, 20, WARM, bytes(32)))
    greedy = list(generate(model, PROMPT, 20, seed=SEED))
    assert greedy == list(generate(model, PROMPT, 20, seed=bytes(32)))


def test_ends_with_a_stop_id(model: Shard) -> None:
    tokens = list(generate(model, PROMPT, 20, WARM, SEED))
    stop = tokens[5]
    ended = list(generate(model, PROMPT, 20, WARM, SEED, stop_ids=[stop]))
    assert ended == tokens[: tokens.index(stop) + 1]


def test_fills_the_context(model: Shard) -> None:
    """The last token needs no position of its own."""
    prompt = [1] * 195
    assert len(list(generate(model, prompt, 6))) == 6
    with pytest.raises(ModelError, match="195 prompt tokens and 7 to generate exceed the context of 200 positions"):
        generate(model, prompt, 7)


def test_refuses_at_once(model: Shard, built: Path, backend: Backend) -> None:
    with pytest.raises(ModelError, match="needs a prompt"):
        generate(model, [], 1)
    with pytest.raises(ModelError, match="a token to generate"):
        generate(model, PROMPT, 0)
    with pytest.raises(ModelError, match="layers 0:2 are not a whole model of 3 layers"):
        generate(Shard(load(built, 0, 2), backend), PROMPT, 1)
    with pytest.raises(ModelError, match="token id 300 is outside"):
        list(generate(model, [300], 1))
