"""A shard computes docs/numerics.md exactly, and nothing about how it is run changes a bit."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from efedllm.model.cache import Cache
from efedllm.model.errors import CacheFull, ModelError
from efedllm.model.load import load
from efedllm.model.shard import Shard, Slice
from efedllm.numerics.backend import Backend, select
from efedllm.numerics.errors import BackendError
from tests.model.reference_model import ReferenceModel

IDS = torch.tensor([(37 * at * at + 11 * at) % 300 for at in range(150)])


def run(shard: Shard, rows: Tensor, chunks: list[int], cache: Cache | None = None) -> Tensor:
    """Hidden rows of one sequence that enters in chunks of these sizes."""
    cache = cache or shard.cache_pool(3).sequence()
    return torch.cat([shard.forward([Slice(cache, len(part))], part) for part in rows.split(chunks)])


@pytest.fixture(scope="module")
def whole(model: Shard) -> Tensor:
    """Hidden rows of IDS in one step."""
    return run(model, IDS, [len(IDS)])


@pytest.mark.parametrize("name", ["built", "untied"])
def test_equals_the_reference(name: str, backend: Backend, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    reference = ReferenceModel(folder)
    shard = Shard(load(folder), backend)
    expected = [reference.step(token) for token in IDS[:9].tolist()]
    hidden = run(shard, IDS[:9], [9])
    assert hidden.tolist() == expected
    assert shard.logits(hidden[-2:]).tolist() == [reference.logits(row) for row in expected[-2:]]


def test_rows_differ(whole: Tensor) -> None:
    """The comparisons of this file compare something."""
    assert whole.dtype == torch.int32
    assert len({tuple(row) for row in whole.tolist()}) == len(IDS)
    assert whole.abs().max() > 1 << 16


def test_prefill_is_decode(model: Shard, whole: Tensor) -> None:
    assert torch.equal(run(model, IDS, [1] * len(IDS)), whole)


@given(st.data())
@settings(max_examples=15)
def test_chunks_do_not_matter(model: Shard, whole: Tensor, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(IDS) - 1), max_size=6)))
    chunks = [end - start for start, end in pairwise([0, *cuts, len(IDS)])]
    assert torch.equal(run(model, IDS, chunks), whole)


def test_batch_is_one_by_one(model: Shard) -> None:
    """Three sequences, at different positions, in ragged steps: prefill and decode side by side."""
    sequences = [IDS[:70], IDS[20:31], IDS[80:140]]
    alone = [run(model, ids, [len(ids)]) for ids in sequences]
    pool = model.cache_pool(6)
    caches = [pool.sequence() for _ in sequences]
    taken = [0, 0, 0]
    together: list[list[Tensor]] = [[], [], []]
    for counts in ((60, 1, 0), (1, 0, 59), (0, 9, 1), (9, 1, 0)):
        active = [at for at, count in enumerate(counts) if count]
        rows = torch.cat([sequences[at][taken[at] : taken[at] + counts[at]] for at in active])
        out = model.forward([Slice(caches[at], counts[at]) for at in active], rows)
        for at, part in zip(active, out.split([counts[at] for at in active]), strict=True):
            together[at].append(part)
            taken[at] += counts[at]
    assert taken == [len(ids) for ids in sequences]
    for one, many in zip(alone, together, strict=True):
        assert torch.equal(one, torch.cat(many))


@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 2)])
def test_any_split_of_layers(built: Path, backend: Backend, whole: Tensor, cuts: tuple[int, ...]) -> None:
    rows = IDS
    for start, end in pairwise((0, *cuts, 3)):
        shard = Shard(load(built, start, end), backend)
        assert (shard.is_first, shard.is_last) == (start == 0, end == 3)
        rows = run(shard, rows, [100, 1, 49])
    assert torch.equal(rows, whole)


def test_threads_do_not_matter(model: Shard, whole: Tensor) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert torch.equal(run(model, IDS, [len(IDS)]), whole)
    finally:
        torch.set_num_threads(before)


def test_back_ends_agree(built: Path, whole: Tensor) -> None:
    try:
        fast = select("int8")
    except BackendError as error:
        pytest.skip(str(error))
    assert torch.equal(run(Shard(load(built), fast), IDS, [len(IDS)]), whole)


def test_scattered_blocks_do_not_matter(model: Shard, whole: Tensor) -> None:
    pool = model.cache_pool(6)
    others = [pool.sequence() for _ in range(3)]
    cache = pool.sequence()
    out = []
    for part, other in zip(IDS.split(50), others, strict=True):
        other.reserve(64)  # the block behind the sequence's own is taken whenever it grows
        out.append(model.forward([Slice(cache, 50)], part))
    assert torch.equal(torch.cat(out), whole)
    assert cache.read(0, 150).keys.data_ptr() != pool.layers[0].keys.data_ptr()


def test_truncated_sequence_continues_as_new(model: Shard, whole: Tensor) -> None:
    cache = model.cache_pool(3).sequence()
    run(model, IDS.flip(0), [150], cache)
    cache.truncate(0)
    run(model, IDS[:100], [100], cache)
    run(model, IDS.flip(0)[:40], [40], cache)
    cache.truncate(100)
    assert torch.equal(run(model, IDS[100:], [50], cache), whole[100:])


@pytest.mark.parametrize("token", [-1, 300, 2**40])
def test_token_out_of_range(model: Shard, token: int) -> None:
    cache = model.cache_pool(1).sequence()
    with pytest.raises(ModelError, match=rf"token id {token} is outside this model's 0 \.\. 299"):
        model.forward([Slice(cache, 2)], torch.tensor([1, token]))
    assert cache.length == 0


def test_past_the_context(model: Shard) -> None:
    cache = model.cache_pool(4).sequence()
    run(model, IDS, [150], cache)
    with pytest.raises(ModelError, match="position 200 is past the model's context of 200 positions"):
        model.forward([Slice(cache, 51)], IDS[:51])
    assert cache.length == 150


def test_full_cache_leaves_every_sequence_as_it_was(model: Shard) -> None:
    pool = model.cache_pool(2)
    first, second = pool.sequence(), pool.sequence()
    model.forward([Slice(first, 60)], IDS[:60])
    with pytest.raises(CacheFull, match="0 free blocks of 64 positions, 1 are needed"):
        model.forward([Slice(second, 64), Slice(first, 5)], IDS[:69])
    assert (first.length, second.length, pool.blocks.free) == (60, 0, 1)
    model.forward([Slice(second, 64)], IDS[:64])


def test_rows_that_do_not_fit(model: Shard, built: Path, backend: Backend) -> None:
    inner = Shard(load(built, 1, 2), backend)
    pool = inner.cache_pool(2)
    cache = pool.sequence()
    for rows in (torch.zeros(1, 48), torch.zeros(2, 48, dtype=torch.int32), torch.zeros(1, 47, dtype=torch.int32)):
        with pytest.raises(ModelError, match=r"hidden states are .*, not int32 \[1, 48\]"):
            inner.forward([Slice(cache, 1)], rows)
    with pytest.raises(ModelError, match="token ids are"):
        model.forward([Slice(model.cache_pool(1).sequence(), 1)], torch.zeros(1, dtype=torch.int32))
    row = torch.zeros(2, 48, dtype=torch.int32)
    for slices in ([], [Slice(cache, 0)], [Slice(cache, 1), Slice(cache, 1)]):
        with pytest.raises(ModelError, match="each of another sequence"):
            inner.forward(slices, row)
    with pytest.raises(ModelError, match="layers 1:2 do not have the head"):
        inner.logits(row)
    assert cache.length == 0 and pool.blocks.free == 2


@pytest.mark.parametrize("value", [-(2**31), 2**31 - 1])
def test_extreme_residuals_stay_integers(built: Path, backend: Backend, value: int) -> None:
    """The bounds hold for every int32 residual: the plain-integer twin asserts them, and agrees."""
    inner = Shard(load(built, 1, 2), backend)
    row = [value if at % 3 else -value - 1 for at in range(48)]
    got = inner.forward([Slice(inner.cache_pool(1).sequence(), 1)], torch.tensor([row], dtype=torch.int32))
    assert got[0].tolist() == ReferenceModel(built)._layer(1, row)


@pytest.mark.gpu
def test_cuda_is_cpu(built: Path, whole: Tensor, model: Shard) -> None:
    shard = Shard(load(built), select(device="cuda"), "cuda")
    hidden = run(shard, IDS, [100, 1, 49])
    assert torch.equal(hidden.cpu(), whole)
    assert torch.equal(shard.logits(hidden).cpu(), model.logits(whole))
