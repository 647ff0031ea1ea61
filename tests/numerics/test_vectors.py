"""The golden vectors hold for the reference and for torch, and the file is what its script writes."""

import json
from hashlib import sha256
from typing import Any

import pytest
import torch
from torch import Tensor

from efedllm.numerics import fixed, ops
from efedllm.numerics import reference as ref
from efedllm.numerics.backend import AVAILABLE, Backend
from efedllm.numerics.fixed import Scale
from efedllm.numerics.sampling import sample
from efedllm.numerics.sampling_parameters import SamplingParameters
from efedllm.numerics.tables import exp2_table, rotary_table, sigmoid_table
from efedllm.numerics.weights import Gain, Matrix
from tests.numerics.strategies import EXP2, EXP2_TENSOR, SIGMOID, SIGMOID_TENSOR, int32
from tests.vectors import make_numerics

VECTORS = json.loads(make_numerics.FILE.read_text())
Case = dict[str, Any]


def cases(op: str) -> Any:
    return pytest.mark.parametrize("case", VECTORS[op], ids=[case["name"] for case in VECTORS[op]])


def int64(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def scale_tensor(case: Case) -> Scale:
    return Scale(int64([case["m"]]), int64([case["e"]]))


def unflatten(values: list[int], columns: int) -> list[list[int]]:
    return [values[start : start + columns] for start in range(0, len(values), columns)]


def assert_scale(scale: Scale, case: Case) -> None:
    assert (scale.m.item(), scale.e.item()) == (case["m"], case["e"])


def test_file_is_what_the_script_writes() -> None:
    text = make_numerics.text()
    assert make_numerics.FILE.read_text() == text, "run python -m tests.vectors.make_numerics"
    assert len(text) < 300_000


@cases("rounded_shift")
def test_rounded_shift(case: Case) -> None:
    assert [ref.rr(x, s) for x, s in zip(case["x"], case["shift"], strict=True)] == case["y"]
    assert [fixed.rounded_shift_(int64([x]), s).item() for x, s in zip(case["x"], case["shift"], strict=True)] == case[
        "y"
    ]
    by_tensor = [i for i, s in enumerate(case["shift"]) if s >= 1]
    x, shift = int64(case["x"])[by_tensor], int64(case["shift"])[by_tensor]
    assert fixed.rounded_shift_(x, shift).tolist() == [case["y"][i] for i in by_tensor]


@cases("quantise")
def test_quantise(case: Case) -> None:
    assert ref.quantise(case["v"], case["limit"]) == (case["q"], case["maximum"])
    if case["limit"] == fixed.PROBABILITY:
        q, largest, t = fixed.quantise_wide(torch.tensor(case["v"], dtype=torch.float64), case["limit"])
        assert t.item() == max(0, case["maximum"].bit_length() - 32)
    else:
        q, largest = fixed.quantise(int32(case["v"]), case["limit"])
    assert (q.tolist(), largest.item()) == (case["q"], case["maximum"])


@cases("scale_of")
def test_scale_of(case: Case) -> None:
    scale = fixed.scale_of(int64(case["num"]), int64(case["den"]))
    assert (scale.m.tolist(), scale.e.tolist()) == (case["m"], case["e"])
    for num, den, m, e in zip(*(case[key] for key in ("num", "den", "m", "e")), strict=True):
        assert ref.scale_of(num, den) == (m, e)
        one = fixed.scale_of(int64([num]), den)
        assert (one.m.item(), one.e.item()) == (m, e)


@cases("scale_mul")
def test_scale_mul(case: Case) -> None:
    for m1, e1, m2, e2, m, e in zip(*(case[key] for key in ("m1", "e1", "m2", "e2", "m", "e")), strict=True):
        assert ref.scale_mul((m1, e1), (m2, e2)) == (m, e)
        product = fixed.scale_mul(Scale(int64([m1]), int64([e1])), m2, e2)
        assert (product.m.item(), product.e.item()) == (m, e)


@cases("exp2neg")
def test_exp2neg(case: Case) -> None:
    assert [ref.exp2neg(d, EXP2) for d in case["d"]] == case["w"]
    for table in (EXP2_TENSOR, fixed.expand_exp2(EXP2_TENSOR)):
        assert fixed.exp2neg(int64(case["d"]), table).tolist() == case["w"]


@cases("sigmoid")
def test_sigmoid(case: Case) -> None:
    assert [ref.sigmoid(x, SIGMOID) for x in case["x"]] == case["y"]
    assert fixed.sigmoid(int32(case["x"]), SIGMOID_TENSOR).tolist() == case["y"]


def test_tables() -> None:
    (exp2,), (sigmoid,), (rotary,) = (VECTORS[name] for name in ("exp2_table", "sigmoid_table", "rotary_table"))
    assert [x for entry in exp2_table() for x in entry] == exp2["entries"]
    assert [x for entry in sigmoid_table() for x in entry] == sigmoid["entries"]
    rows = rotary_table(rotary["context"], rotary["head_dim"], rotary["theta"])
    assert [x for row in rows for x in row] == rotary["entries"]
    (large,) = VECTORS["rotary_table_hash"]
    rows = rotary_table(large["context"], large["head_dim"], large["theta"])
    data = torch.tensor(rows, dtype=torch.int16).numpy().astype("<i2").tobytes()
    assert "0x" + sha256(data).hexdigest() == large["hash"]


@cases("embed")
def test_embed(case: Case) -> None:
    q = unflatten(case["q"], case["columns"])
    assert ref.embed(case["token"], q, case["m"], case["e"]) == case["y"]
    matrix = Matrix(torch.tensor(q, dtype=torch.int8), int32(case["m"]), case["e"])
    assert ops.embed(int64([case["token"]]), matrix).tolist() == [case["y"]]


@cases("norm")
def test_norm(case: Case) -> None:
    q, scale = ref.norm(case["x"], case["gain"], case["gain_exponent"], case["epsilon"])
    assert (q, *scale) == (case["q"], case["m"], case["e"])
    gain = Gain(torch.tensor(case["gain"], dtype=torch.int16), case["gain_exponent"])
    result, scales = ops.norm(int32([case["x"]]), gain, case["epsilon"])
    assert result.tolist() == [case["q"]] and result.dtype == torch.int16
    assert_scale(scales, case)


@cases("quantise_row")
def test_quantise_row(case: Case) -> None:
    assert ref.quantise_row(case["v"]) == (case["q"], (case["m"], case["e"]))
    q, scale = ops.quantise_rows(int32([case["v"]]))
    assert q.tolist() == [case["q"]] and q.dtype == torch.int16
    assert_scale(scale, case)


@pytest.mark.parametrize("backend", AVAILABLE, ids=lambda backend: backend.name)
@cases("linear")
def test_linear(case: Case, backend: Backend) -> None:
    w = unflatten(case["w"], case["columns"])
    assert ref.linear(case["q"], (case["m"], case["e"]), w, case["mw"], case["ew"]) == case["y"]
    matrix = backend.prepare(Matrix(torch.tensor(w, dtype=torch.int8), int32(case["mw"]), case["ew"]))
    y = ops.linear(torch.tensor([case["q"]], dtype=torch.int16), scale_tensor(case), matrix, backend)
    assert y.tolist() == [case["y"]] and y.dtype == torch.int32


@cases("rotary")
def test_rotary(case: Case) -> None:
    assert ref.rotary(case["v"], case["turn"]) == case["y"]
    y = ops.rotary(int32([[case["v"]]]), int64([0]), torch.tensor([case["turn"]], dtype=torch.int16))
    assert y.tolist() == [[case["y"]]] and y.dtype == torch.int32


@cases("quantise_query")
def test_quantise_query(case: Case) -> None:
    assert ref.quantise_query(case["v"]) == (case["q"], (case["m"], case["e"]))
    q, scale = ops.quantise_query(int32([[case["v"]]]))
    assert q.tolist() == [[case["q"]]] and q.dtype == torch.int16
    assert_scale(scale, case)


@cases("quantise_key")
def test_quantise_key(case: Case) -> None:
    assert ref.quantise_key(case["v"]) == (case["q"], case["maximum"])
    assert ref.key_scale(case["maximum"]) == (case["m"], case["e"])
    k, largest = ops.quantise_key(int32([[case["v"]]]))
    assert (k.tolist(), largest.tolist()) == ([[case["q"]]], [[case["maximum"]]]) and k.dtype == torch.int8
    assert_scale(fixed.scale_of_maxima(largest, fixed.CACHED), case)


@cases("quantise_value")
def test_quantise_value(case: Case) -> None:
    assert ref.quantise_value(case["v"]) == (case["q"], case["maximum"])
    v, largest = ops.quantise_value(int32([[case["v"]]]))
    assert (v.tolist(), largest.tolist()) == ([[case["q"]]], [[case["maximum"]]]) and v.dtype == torch.int8


@pytest.mark.parametrize("backend", AVAILABLE, ids=lambda backend: backend.name)
@cases("attention")
def test_attention(case: Case, backend: Backend) -> None:
    head_dim, positions = len(case["q"]), len(case["key_maxima"])
    keys, values = unflatten(case["keys"], head_dim), unflatten(case["values"], head_dim)
    s = ref.scores(case["q"], (case["m"], case["e"]), keys, case["key_maxima"])
    w, total = ref.softmax(s, EXP2)
    assert (s, w, total) == (case["scores"], case["weights"], case["total"])
    assert ref.values(w, total, values, case["value_maxima"]) == case["y"]
    y = ops.attention(
        torch.tensor([[case["q"]]], dtype=torch.int16),
        Scale(int64([case["m"]]).unsqueeze(0), int64([case["e"]]).unsqueeze(0)),
        torch.tensor(keys, dtype=torch.int8).unsqueeze(1),
        int64(case["key_maxima"]).unsqueeze(1),
        torch.tensor(values, dtype=torch.int8).unsqueeze(1),
        int64(case["value_maxima"]).unsqueeze(1),
        positions - 1,
        EXP2_TENSOR,
        backend,
    )
    assert y.tolist() == [[case["y"]]] and y.dtype == torch.int32


@cases("add")
def test_add(case: Case) -> None:
    assert ref.add(case["x"], case["y"]) == case["z"]
    z = ops.add(int32(case["x"]), int32(case["y"]))
    assert z.tolist() == case["z"] and z.dtype == torch.int32


@cases("swiglu")
def test_swiglu(case: Case) -> None:
    assert ref.swiglu(case["gate"], case["up"], SIGMOID) == case["y"]
    y = ops.swiglu(int32([case["gate"]]), int32([case["up"]]), SIGMOID_TENSOR)
    assert y.tolist() == [case["y"]] and y.dtype == torch.int32


@cases("sample")
def test_sample(case: Case) -> None:
    seed = bytes.fromhex(case["seed"][2:])
    temperature, top_k, top_p, position = (case[key] for key in ("temperature", "top_k", "top_p", "position"))
    assert ref.sample(case["logits"], seed, position, temperature, top_k, top_p, EXP2) == case["token"]
    parameters = SamplingParameters(temperature=temperature, top_k=top_k, top_p=top_p)
    assert sample(int32([case["logits"]]), [parameters], [seed], [position], EXP2_TENSOR).tolist() == [case["token"]]
