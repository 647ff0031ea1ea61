"""Writes the golden vectors of the trace: `python -m tests.vectors.make_trace` from the checkout's root.

`shapes`: coordinates that follow from counts alone. Every list of `places` is flat, seven numbers a leaf: segment,
tensor, row, leaf, depth of its node, bytes, part; `paths` are the nodes' paths. `nodes`: two numbers a node, depth and
whether it is padding, with `nodePaths`. `operands`: of an element of every place, as text.

`judged`: elements of a tiny model with all that judges them, each abi-encoded as
`(IStepVerifier.Step, bytes leaf, IStepVerifier.Opening[])`, the case as `IStepVerifier.Case`; every element is right.
"""

import json
from collections.abc import Iterator
from dataclasses import astuple
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from eth_abi.abi import encode

from efedllm.model.build import build
from efedllm.model.segment_weights import SegmentWeights
from efedllm.model.trace import Trace
from efedllm.model.trace_openings import TraceOpenings
from efedllm.numerics.backend import select
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.hash_tree import Opening
from efedllm.protocol.objects import Sampling
from efedllm.protocol.trace import Node, Place, Shape, Step
from efedllm.protocol.trace_case import Case
from efedllm.protocol.trace_operand import BodyLeaf, Operand
from efedllm.protocol.trace_operands import operands
from efedllm.protocol.trace_tensors import BLOCK, Layer, Part, Program
from tests.model.checkpoints import write_checkpoint
from tests.support.shapes import LARGEST, model_spec

FILE = Path(__file__).parent / "trace.json"

SEED = sha256(b"trace").digest()
GREEDY = Sampling(temperature=0, topK=0, topP=65536)
PLAIN = Sampling(temperature=60000, topK=0, topP=65536)
BOTH = Sampling(temperature=80000, topK=40, topP=58000)
TOP_K = Sampling(temperature=80000, topK=40, topP=65536)
TOP_P = Sampling(temperature=80000, topK=0, topP=58000)

SPEC = "(uint16,uint32,uint32,uint32,uint32,uint32,uint32,uint32,uint32,uint64,bytes32,bytes32,bytes32,address)"
CASE = f"({SPEC},uint32,uint32,uint32,uint32,uint32,bytes32,bytes32,bytes32,(uint32,uint32,uint32))"
JUDGED = ("(uint32,uint32,uint32,uint32,uint32)", "bytes", "(bytes,bytes32[])[]")

SHAPES = {
    "tiny, whole": Shape(model_spec(), 0, 3, 12, 10, 3),
    "tiny, first": Shape(model_spec(), 0, 1, 12, 10, 3),
    "tiny, inner": Shape(model_spec(), 1, 2, 12, 10, 3),
    "tiny, last": Shape(model_spec(), 2, 3, 12, 10, 3),
    "tiny, last, no token yet": Shape(model_spec(), 2, 3, 8, 10, 0),
    "one position": Shape(model_spec(), 0, 3, 1, 1, 1),
    "two blocks and a little, odd widths": Shape(
        model_spec(
            hidden=700,
            intermediate=1030,
            layers=5,
            heads=9,
            kv_heads=3,
            head_dim=36,
            vocab=1000,
            context=2000,
        ),
        0,
        5,
        513,
        500,
        14,
    ),
    "llama of 8 billion": Shape(
        model_spec(
            hidden=4096,
            intermediate=14336,
            layers=32,
            heads=32,
            kv_heads=8,
            head_dim=128,
            vocab=128256,
            context=8192,
        ),
        16,
        32,
        4096,
        4000,
        97,
    ),
    "largest": Shape(LARGEST, 0, 1024, 1 << 17, 1 << 16, (1 << 16) + 1),
}


def elements(shape: Shape, step_row: int, tensor: int, program: Program, part: Part, number: int) -> set[int]:
    """Numbers of the elements of a part that are shown: the first, the last, one in the middle, and around `j = p`."""
    chosen = {0, part.count - 1, int.from_bytes(sha256(f"{tensor} {number}".encode()).digest()[:7], "big") % part.count}
    if program is Program.LAYER and tensor in (Layer.SCORES, Layer.WEIGHTS, Layer.PROBABILITIES):
        chosen |= {step_row, min(part.count - 1, step_row + 1), BLOCK * shape.blocks + step_row // 2}
    return {at for at in chosen if at < part.count}


def steps(shape: Shape, segment: int) -> Iterator[Step]:
    """Elements of every part of every tensor of a segment, in several rows."""
    for tensor in range(shape.tensors(segment)):
        rows = shape.rows(segment, tensor)
        picked = [rows[-1], rows[len(rows) // 2], rows[0]]
        for number, part in enumerate(shape.parts(segment, tensor)):
            program = shape.program(segment)
            for turn, row in enumerate(dict.fromkeys(picked[:2] if shape.positions > 1 else picked)):
                chosen = sorted(elements(shape, row, tensor, program, part, number))
                for at in chosen if turn == 0 else chosen[:1]:
                    yield shape.step(segment, tensor, row, number, at)


def shown(operand: Operand) -> str:
    if isinstance(operand, BodyLeaf):
        return " ".join(["BodyLeaf", *map(str, operand.place)])
    return " ".join([type(operand).__name__, *map(str, astuple(operand))])


def shape_vector(name: str, shape: Shape) -> dict[str, Any]:
    model = shape.model
    places: list[int] = []
    paths, found = [], []
    nodes: dict[Node, bool] = {Node(0, 0): False}
    segments = dict.fromkeys((0, 1, shape.segments // 2, shape.segments - 2, shape.segments - 1))
    for segment in (at for at in segments if 0 <= at < shape.segments):
        for tensor in range(shape.tensors(segment)):
            rows, leaves = shape.rows(segment, tensor), shape.leaves(segment, tensor)
            row = rows[(7 * tensor + segment) % len(rows)]
            for leaf in dict.fromkeys((0, leaves // 2, leaves - 1)):
                place = Place(segment, tensor, row, leaf)
                node = shape.leaf_node(place)
                part, _, _ = shape.find_leaf(segment, tensor, leaf)
                places += [*place, node.depth, shape.leaf_bytes(segment, tensor, leaf), part]
                paths.append(word(node.path))
                step = Step(*place, 0)
                found.append([shown(operand) for operand in operands(shape, BOTH, step)])
                for depth in range(0, node.depth + 1, 5):
                    at = Node(depth, node.path >> (node.depth - depth))
                    for beside in (at, Node(depth, at.path ^ 1), Node(depth, (1 << depth) - 1)):
                        if depth <= shape.upper_depth or beside is at:
                            nodes[beside] = shape.is_padding(beside)
    return {
        "name": name,
        "model": [
            model.hidden,
            model.intermediate,
            model.layers,
            model.heads,
            model.kv_heads,
            model.head_dim,
            model.vocab,
            model.context,
        ],
        "counts": [shape.start, shape.end, shape.positions, shape.prompt_count, shape.generated],
        "segments": shape.segments,
        "upperDepth": shape.upper_depth,
        "places": places,
        "paths": paths,
        "operands": found,
        "nodes": [number for node, is_padding in nodes.items() for number in (node.depth, int(is_padding))],
        "nodePaths": [word(node.path) for node in nodes],
    }


def word(number: int) -> str:
    return f"0x{number:064x}"


def case_bytes(case: Case) -> bytes:
    """`abi.encode(IStepVerifier.Case)`."""
    shape = case.shape
    counts = (shape.start, shape.end, shape.positions, shape.prompt_count, shape.generated)
    roots = (case.input_root, case.body_root, case.seed)
    return encode([CASE], [(astuple(shape.model), *counts, *roots, astuple(case.sampling))])


def judged_bytes(step: Step, leaf: bytes, openings: tuple[Opening, ...]) -> bytes:
    """`abi.encode(step, leaf, openings)`."""
    return encode(JUDGED, [tuple(step), leaf, [(one.data, list(one.siblings)) for one in openings]])


def judged(name: str, trace: Trace, chosen: list[Step]) -> dict[str, Any]:
    opener, shape, case = TraceOpenings(trace), trace.shape, trace.case
    return {
        "name": name,
        "model": list(astuple(shape.model)[:10]) + [f"0x{root.hex()}" for root in astuple(shape.model)[10:13]],
        "counts": [shape.start, shape.end, shape.positions, shape.prompt_count, shape.generated],
        "inputRoot": f"0x{case.input_root.hex()}",
        "bodyRoot": f"0x{case.body_root.hex()}",
        "seed": f"0x{case.seed.hex()}",
        "sampling": list(astuple(case.sampling)),
        "case": f"0x{case_bytes(case).hex()}",
        "places": [" ".join(map(str, step)) for step in chosen],
        "steps": [f"0x{judged_bytes(step, trace.leaf_at(step.place), opener.openings(step)).hex()}" for step in chosen],
    }


def traces(folder: Path) -> Iterator[dict[str, Any]]:
    changes = {
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 36,
        "hidden_size": 40,
        "intermediate_size": 48,
        "max_position_embeddings": 300,
    }
    write_checkpoint(folder / "checkpoint", **changes)
    build(str(folder / "checkpoint"), folder / "model")
    weights, backend = SegmentWeights(folder / "model"), select("exact")
    model = weights.spec()
    tokens = [(37 * at * at + 11 * at) % 300 for at in range(258)]
    first = Trace(weights, Shape(model, 0, 1, 258, 258, 1), CommittedTokens(tokens), PLAIN, SEED, backend)
    yield judged("first shard, two blocks", first, [*steps(first.shape, 0), *steps(first.shape, 1)])
    outputs = first.outputs()
    few = CommittedRows(4, outputs.read)
    for name, sampling in (
        ("last shard, both cuts", BOTH),
        ("last shard, greedy", GREEDY),
        ("last shard, no cut", PLAIN),
        ("last shard, top-k", TOP_K),
        ("last shard, top-p", TOP_P),
    ):
        last = Trace(weights, Shape(model, 1, 2, 4, 3, 2), few, sampling, SEED, backend)
        chosen = list(steps(last.shape, 1))
        if sampling is BOTH:  # what an inner shard reads from its input
            layer = [
                step for step in steps(last.shape, 0) if step.tensor in (Layer.ATTENTION_NORM, Layer.ADD_ATTENTION)
            ]
            chosen = layer + chosen
        elif sampling is GREEDY:
            chosen = [step for step in chosen if step.tensor > 1]
        else:
            chosen = [step for step in chosen if step.tensor > 10]
        yield judged(name, last, chosen)


def vectors() -> dict[str, Any]:
    with TemporaryDirectory() as folder, torch.inference_mode():
        found = list(traces(Path(folder)))
    return {"shapes": [shape_vector(name, shape) for name, shape in SHAPES.items()], "judged": found}


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=0) + "\n")
