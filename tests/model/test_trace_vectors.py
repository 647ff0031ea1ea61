"""The golden vectors of the trace are what this code computes, and a judge without weights accepts every element."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import decode

from efedllm.protocol.hash_tree import Opening
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Shape, Step
from efedllm.protocol.trace_case import Case
from tests.support.step_judge import Refused, is_wrong
from tests.vectors.make_trace import CASE, FILE, JUDGED, SHAPES, shape_vector, vectors

VECTORS: dict[str, Any] = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", SHAPES)
def test_coordinates(name: str) -> None:
    (vector,) = (vector for vector in VECTORS["shapes"] if vector["name"] == name)
    assert vector == shape_vector(name, SHAPES[name])


def test_values() -> None:
    assert Path(FILE).read_text() == json.dumps(vectors(), indent=0) + "\n"


@pytest.mark.parametrize("judged", VECTORS["judged"], ids=lambda judged: judged["name"])
def test_every_element_recomputes_from_its_openings(judged: dict[str, Any]) -> None:
    model, *counts, input_root, body_root, seed, sampling = decode([CASE], bytes.fromhex(judged["case"][2:]))[0]
    case = Case(Shape(ModelSpec(*model), *counts), input_root, body_root, seed, Sampling(*sampling))
    for encoded in judged["steps"]:
        numbers, leaf, opened = decode(JUDGED, bytes.fromhex(encoded[2:]))
        step, openings = Step(*numbers), [Opening(*one) for one in opened]
        number, _ = case.shape.find_element(step)
        size = case.shape.parts(step.segment, step.tensor)[number].kind.size
        assert not is_wrong(case, step, leaf, openings)
        for bit in (0, 8 * size - 1):
            assert is_wrong(case, step, flipped(leaf, 8 * size * step.element + bit), openings)
        for at, one in enumerate(openings):
            data = Opening(flipped(one.data, 37 * at % (8 * len(one.data))), one.siblings)
            path = Opening(one.data, (flipped(one.siblings[0], at), *one.siblings[1:])) if one.siblings else data
            for changed in (data, path, Opening(one.data, (*one.siblings, bytes(32))), Opening(one.data[:-1], ())):
                with pytest.raises(Refused):
                    is_wrong(case, step, leaf, [*openings[:at], changed, *openings[at + 1 :]])
        for wrong in (openings[:-1], [*openings, Opening(b"", ())]):
            if wrong != openings:
                with pytest.raises(Refused):
                    is_wrong(case, step, leaf, wrong)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
