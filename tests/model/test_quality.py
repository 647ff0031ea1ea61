"""The integer form answers as the float checkpoint does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from efedllm.model.build import build
from efedllm.model.errors import ModelError
from efedllm.model.load import load, read_manifest
from efedllm.model.shard import Shard, Slice
from efedllm.numerics.backend import Backend, select
from tests.model.checkpoints import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "models" / "shakespeare"
IDS = torch.tensor([(37 * at * at + 11 * at) % 300 for at in range(200)])


def float_logits(checkpoint: Path, ids: Tensor) -> Tensor:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, local_files_only=True).eval()
    with torch.inference_mode():
        return torch.as_tensor(model(ids.unsqueeze(0)).logits[0])


def integer_logits(built: Path, ids: Tensor, backend: Backend) -> Tensor:
    shard = Shard(load(built), backend)
    return shard.logits(shard.forward([Slice(shard.cache_pool(8).sequence(), len(ids))], ids)) / 2**16


def divergence(p: Tensor, q: Tensor) -> float:
    """Mean Kullback-Leibler divergence in nats."""
    p, q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"num_key_value_heads": 4, "head_dim": 16}])
def test_logits_follow_the_float_model(changes: dict[str, object], tmp_path: Path, backend: Backend) -> None:
    source = write_checkpoint(tmp_path / "source", **changes)
    build(str(source), tmp_path / "out")
    floats, integers = float_logits(source, IDS), integer_logits(tmp_path / "out", IDS, backend)
    assert floats.std() > 1 and len(set(floats.argmax(-1).tolist())) > 50  # there is something to get wrong
    assert divergence(floats, integers) < 0.01
    assert (floats.argmax(-1) == integers.argmax(-1)).float().mean() > 0.85


def test_perplexity_is_measured_and_kept(checkpoint: Path, tmp_path: Path, backend: Backend) -> None:
    """Both numbers, worked out here from logits of whole windows."""
    text = "".join(chr(33 + at * at % 90) for at in range(450))
    manifest = build(str(checkpoint), tmp_path / "out", text)
    quality = read_manifest(tmp_path / "out").quality
    assert quality is not None and quality == manifest.quality
    from tokenizers import Tokenizer

    ids = torch.tensor(Tokenizer.from_file(str(checkpoint / "tokenizer.json")).encode(text).ids)
    losses: list[list[Tensor]] = [[], []]
    for window in ids.split(200):
        for at, logits in enumerate(
            (float_logits(checkpoint, window), integer_logits(tmp_path / "out", window, backend))
        ):
            chosen = logits.double().log_softmax(-1)[:-1].gather(1, window[1:, None])
            losses[at].append(-chosen.flatten())
    expected = [float(torch.cat(part).mean().exp()) for part in losses]
    assert quality.tokens == len(torch.cat(losses[0])) == 447
    assert [quality.perplexity_float, quality.perplexity_integer] == pytest.approx(expected, rel=1e-5)


def test_a_text_that_is_too_short(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the text is too short to measure perplexity"):
        build(str(checkpoint), tmp_path / "out", "x")
    assert list(tmp_path.iterdir()) == []


def test_shipped_model_is_as_good_as_its_checkpoint() -> None:
    """The figures in its manifest, and again on the first windows of the held-out text."""
    quality = read_manifest(SHIPPED / "built").quality
    assert quality is not None and quality.tokens > 20_000
    assert quality.perplexity_integer == pytest.approx(quality.perplexity_float, rel=0.01)
    from tokenizers import Tokenizer

    text = (SHIPPED / "heldout.txt").read_text()[:6000]
    ids = torch.tensor(Tokenizer.from_file(str(SHIPPED / "built" / "tokenizer.json")).encode(text).ids)
    backend = select()
    for window in ids.split(512):
        floats, integers = (
            float_logits(SHIPPED / "checkpoint", window),
            integer_logits(SHIPPED / "built", window, backend),
        )
        assert divergence(floats, integers) < 0.001
        assert (floats.argmax(-1) == integers.argmax(-1)).float().mean() > 0.98


def test_shipped_model_is_built_from_its_checkpoint(tmp_path: Path) -> None:
    shipped = read_manifest(SHIPPED / "built")
    rebuilt = build(str(SHIPPED / "checkpoint"), tmp_path / "out", name=shipped.name)
    assert rebuilt.weights_root == shipped.weights_root
    assert rebuilt.tokenizer_hash == shipped.tokenizer_hash
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.name != "model.json":
            assert path.read_bytes() == (SHIPPED / "built" / path.relative_to(tmp_path / "out")).read_bytes()
