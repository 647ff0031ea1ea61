"""The same integers one by one or together, with any number of threads, compiled or not, on CPU and on CUDA."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from efedllm.numerics import ops, tiles
from efedllm.numerics.backend import AVAILABLE, Backend, select
from efedllm.numerics.fixed import Scale
from efedllm.numerics.sampling import sample
from efedllm.numerics.sampling_parameters import SamplingParameters
from efedllm.numerics.tables import rotary_table
from efedllm.numerics.weights import Gain, Matrix
from tests.numerics.strategies import EXP2_TENSOR, SIGMOID_TENSOR, random_rows

HIDDEN, HEADS, KV_HEADS, HEAD_DIM = 96, 6, 2, 16
ROTARY = torch.tensor(rotary_table(64, HEAD_DIM, 10000.0), dtype=torch.int16)
GAIN = Gain(random_rows(9, HIDDEN, bits=10).to(torch.int16), 9)


def matrix(seed: int, rows: int, columns: int) -> Matrix:
    q = (random_rows(seed, rows, columns, bits=12) % 255 - 127).to(torch.int8)
    return Matrix(q, random_rows(seed + 1, rows, bits=19).abs() + 1, 33)


WEIGHTS = {
    name: matrix(seed, rows, columns)
    for seed, (name, rows, columns) in enumerate(
        (
            ("q", HEADS * HEAD_DIM, HIDDEN),
            ("k", KV_HEADS * HEAD_DIM, HIDDEN),
            ("v", KV_HEADS * HEAD_DIM, HIDDEN),
            ("o", HIDDEN, HEADS * HEAD_DIM),
            ("gate", 200, HIDDEN),
            ("up", 200, HIDDEN),
            ("down", HIDDEN, 200),
        )
    )
}


def layer(x: Tensor, backend: Backend, device: str = "cpu") -> Tensor:
    """Every op of a layer over the positions 0 .. T of one sequence. x: int32 [T, HIDDEN] -> int32 [T, HIDDEN]."""
    prepared = {
        name: backend.prepare(Matrix(m.q.to(device), m.scale.to(device), m.exponent)) for name, m in WEIGHTS.items()
    }
    gain, rotary = Gain(GAIN.g.to(device), GAIN.exponent), ROTARY.to(device)
    positions = torch.arange(len(x), device=device)
    q, scale = ops.norm(x, gain, 42950)
    query, key, value = (
        ops.linear(q, scale, prepared[name], backend).view(len(x), -1, HEAD_DIM) for name in ("q", "k", "v")
    )
    query, query_scale = ops.quantise_query(ops.rotary(query, positions, rotary))
    keys, values = ops.quantise_key(ops.rotary(key, positions, rotary)), ops.quantise_value(value)
    mixed = ops.attention(query, query_scale, *keys, *values, 0, EXP2_TENSOR.to(device), backend)
    x = ops.add(x, ops.linear(*ops.quantise_rows(mixed.flatten(1)), prepared["o"], backend))
    q, scale = ops.norm(x, gain, 42950)
    gate, up = (ops.linear(q, scale, prepared[name], backend) for name in ("gate", "up"))
    y = ops.swiglu(gate, up, SIGMOID_TENSOR.to(device))
    return ops.add(x, ops.linear(*ops.quantise_rows(y), prepared["down"], backend))


@pytest.mark.parametrize("backend", AVAILABLE, ids=lambda backend: backend.name)
def test_rows_together_equal_rows_one_by_one(backend: Backend) -> None:
    x = random_rows(1, 23, HIDDEN, bits=22)
    prepared = backend.prepare(WEIGHTS["gate"])
    head = x.view(23, HEADS, HEAD_DIM)
    positions = torch.arange(23)
    q, scale = ops.norm(x, GAIN, 42950)
    chains: list[Callable[[slice], tuple[Tensor, ...]]] = [
        lambda r: ops.norm(x[r], GAIN, 42950)[:1],
        lambda r: tuple(ops.norm(x[r], GAIN, 42950)[1]),
        lambda r: tuple(ops.quantise_rows(x[r])[1]),
        lambda r: (ops.linear(q[r], Scale(scale.m[r], scale.e[r]), prepared, backend),),
        lambda r: (ops.rotary(head[r], positions[r], ROTARY),),
        lambda r: ops.quantise_query(head[r])[:1],
        lambda r: ops.quantise_key(head[r]),
        lambda r: (ops.swiglu(x[r], x[r].flip(1), SIGMOID_TENSOR),),
    ]
    for chain in chains:
        one_by_one = [chain(slice(t, t + 1)) for t in range(23)]
        for together, parts in zip(chain(slice(0, 23)), zip(*one_by_one, strict=True), strict=True):
            assert torch.equal(together, torch.cat(parts))


def test_tiles_of_rows_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x = random_rows(2, 23, HIDDEN, bits=22)
    whole = layer(x, select("exact"))
    for tile in (1, HIDDEN * 4, HIDDEN * 22):
        monkeypatch.setattr(tiles, "TILE", tile)
        assert torch.equal(layer(x, select("exact")), whole)


def test_back_ends_agree() -> None:
    x = random_rows(3, 40, HIDDEN, bits=20)
    first, *others = (layer(x, backend) for backend in AVAILABLE)
    assert first.unique().numel() > 1000
    assert all(torch.equal(first, other) for other in others)


@pytest.fixture
def restore_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("backend", AVAILABLE, ids=lambda backend: backend.name)
def test_the_number_of_threads_does_not_matter(backend: Backend) -> None:
    x = random_rows(4, 300, HIDDEN, bits=20)[:64].repeat(6, 1)[:64]
    logits = random_rows(5, 2, 40_000, bits=18)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        tokens = sample(logits, [SamplingParameters(65536, 60000, 900)] * 2, [bytes(32)] * 2, [3, 4], EXP2_TENSOR)
        results.append((layer(x, backend), tokens))
    assert all(torch.equal(a, b) for result in results[1:] for a, b in zip(result, results[0], strict=True))


def elementwise(x: Tensor, acc: Tensor, rows: Tensor, table: Tensor) -> tuple[Tensor, ...]:
    """Every chain of a layer but its products."""
    q, scale = ops.norm(x, GAIN, 42950)
    y = ops.swiglu(ops.add(x, ops.scaled(acc.clone(), scale, rows, 33)), x, table)
    quantised, row_scale = ops.quantise_rows(y)
    heads = ops.rotary(y.view(len(x), HEADS, HEAD_DIM), torch.arange(len(x)), ROTARY)
    query, query_scale = ops.quantise_query(heads)
    return (q, *scale, y, quantised, *row_scale, heads, query, *query_scale, *ops.quantise_key(heads))


@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile finds no compiler here"
)
def test_compiled_equals_eager() -> None:
    x = random_rows(6, 5, HIDDEN, bits=26)
    x[0] = 0
    x[1] = torch.where(x[1] > 0, 2**31 - 1, -(2**31))
    acc = random_rows(7, 5, HIDDEN, bits=30).to(torch.int64) * 37
    rows = random_rows(8, HIDDEN, bits=19).abs().to(torch.int64) + 1
    compiled = torch.compile(elementwise, fullgraph=True, dynamic=False)(x, acc, rows, SIGMOID_TENSOR)
    for eager, fused in zip(elementwise(x, acc, rows, SIGMOID_TENSOR), compiled, strict=True):
        assert torch.equal(eager, fused)


@pytest.mark.parametrize("module", ["errors", "limits", "tables", "reference", "sampling_parameters"])
def test_these_modules_need_no_torch(module: str) -> None:
    code = f"import sys; sys.modules['torch'] = sys.modules['numpy'] = None; import efedllm.numerics.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["exact", "int8"])
def test_cuda_equals_cpu(name: str) -> None:
    backend = select(name, "cuda")
    for bits in (3, 20, 31):
        x = random_rows(bits, 40, HIDDEN, bits=bits)
        assert torch.equal(layer(x.cuda(), backend, "cuda").cpu(), layer(x, select("exact")))
    logits = random_rows(5, 2, 40_000, bits=18)
    for parameters in (SamplingParameters(), SamplingParameters(65536, 60000, 900)):
        arguments = [parameters] * 2, [bytes(32)] * 2, [3, 4]
        on_cuda = sample(logits.cuda(), *arguments, EXP2_TENSOR.cuda())
        assert torch.equal(on_cuda.cpu(), sample(logits, *arguments, EXP2_TENSOR))
