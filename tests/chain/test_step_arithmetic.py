"""The step verifier's arithmetic, case by case against the plain-integer reference.

A thousand cases of everything here, ten thousand under `make test-long`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from hashlib import sha256
from random import Random

import pytest
from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak

from efedllm.chain.local import AnvilProcess
from efedllm.numerics import reference as ref
from tests.support.steps.answers import EXP2, SIGMOID, pack_scale
from tests.support.steps.chain import HARNESS, StepChain

FEW, MANY = 1_000, 10_000
PER_CALL = 500
SCALARS = [
    "embed",
    "quantise",
    "vector_scale",
    "query_scale",
    "scale_of",
    "scale_mul",
    "linear",
    "score",
    "rotary",
    "exp2neg",
    "swiglu",
    "mixed",
    "distance",
    "draw",
    "weighted",
    "saturate",
]
"""In the order of StepHarness.Scalar."""
VECTORS = [
    "dot",
    "norm",
    "largest",
    "max_int32",
    "sum_int32",
    "max_uint64",
    "sum_uint32",
    "sum_uint64",
    "find_uint64",
    "max_weighted",
]
"""In the order of StepHarness.Vector."""


@pytest.fixture(scope="module")
def steps() -> Iterator[StepChain]:
    with AnvilProcess.start() as anvil:
        chain = StepChain(anvil)
        chain.place(HARNESS, "contracts/test/support/StepHarness.sol", "StepHarness")
        yield chain


def signed(rng: Random, bits: int) -> int:
    """An integer of so many bits, sign included: an edge, or of any length."""
    edge = 1 << (bits - 1)
    if rng.random() < 0.2:
        return rng.choice((-edge, 1 - edge, -1, 0, 1, edge - 1))
    return (rng.getrandbits(bits) - edge) >> rng.randrange(bits)


def unsigned(rng: Random, low: int, high: int) -> int:
    """An integer in [low, high]: an edge, or of any length."""
    if rng.random() < 0.2:
        return rng.choice((low, high, min(high, low + 1), max(low, high - 1)))
    return max(low, rng.randint(low, high) >> rng.randrange(high.bit_length()))


def scalar_case(rng: Random, op: str) -> tuple[list[int], int]:
    """Arguments and result."""
    match op:
        case "embed":
            q, m, e = signed(rng, 8), unsigned(rng, 1, 2**20), rng.randint(16, 60)
            return [q, m, e], ref.embed(0, [[q]], [m], e)[0]
        case "quantise":
            limit = rng.choice((ref.ACTIVATION, ref.CACHED, ref.PROBABILITY))
            largest = unsigned(rng, 1, 2**48 - 1)
            v = rng.choice((largest, -largest, 0, rng.randint(-largest, largest)))
            return [v, limit, largest], ref.quantise([v, largest], limit)[0][0]
        case "vector_scale":
            largest, limit = unsigned(rng, 1, 2**31), rng.choice((ref.ACTIVATION, ref.CACHED))
            m, e = ref.scale_of(largest, limit)
            return [largest, limit], pack_scale(0, (m, e + 16))
        case "query_scale":
            largest, head_dim = unsigned(rng, 1, 2**31), 2 * rng.randint(1, 128)
            head = [largest if largest < 2**31 else -largest] + [0] * (head_dim - 1)
            return [largest, head_dim], pack_scale(0, ref.quantise_query(head)[1])
        case "scale_of":
            num, den = unsigned(rng, 1, 2**56 - 1), unsigned(rng, 1, 2**48 - 1)
            return [num, den], pack_scale(0, ref.scale_of(num, den))
        case "scale_mul":
            one, other = [(unsigned(rng, 2**14, 2**16 - 1), rng.randint(-50, 90)) for _ in range(2)]
            return [*one, *other], pack_scale(0, ref.scale_mul(one, other))
        case "linear":
            acc, mw, ew = signed(rng, 39), unsigned(rng, 1, 2**20), rng.randint(16, 60)
            m, e = unsigned(rng, 2**14, 2**16 - 1), rng.randint(14, 90)
            y = ref.sat32(ref.rr(ref.rr(acc * mw, 13) * m, ew + e - 29))
            return [acc, mw, m, ew + e - 29], y
        case "score":
            q, m, e = signed(rng, 16), unsigned(rng, 2**14, 2**16 - 1), rng.randint(12, 80)
            largest = unsigned(rng, 1, 2**31)
            # A product of 256 columns, from one of that many times the weight.
            acc = max(-(2**31) + 1, min(2**31 - 1, q * 127 * rng.randint(-256, 256)))
            mk, ek = ref.key_scale(largest)
            return [acc, m, e, largest], ref.sat32(ref.rr(acc * m * mk, e + ek - 16))
        case "rotary":
            a, b = signed(rng, 32), signed(rng, 32)
            cos, sin = signed(rng, 16) // 2, signed(rng, 16) // 2
            if rng.random() < 0.5:
                return [a, cos, b, -sin], ref.rotary([a, b], [cos, sin])[0]
            return [b, cos, a, sin], ref.rotary([a, b], [cos, sin])[1]
        case "exp2neg":
            d = unsigned(rng, 0, (25 << 16) - 1)
            return [d, *EXP2[(d & 0xFFFF) >> 8]], ref.exp2neg(d, EXP2)
        case "swiglu":
            gate, up = signed(rng, 32), signed(rng, 32)
            if rng.random() < 0.3:
                gate = rng.choice((2**20, 2**20 - 1, -(2**20), 1 - 2**20, 2047, 2048, -2047, -2048))
            entry = SIGMOID[abs(gate) >> 11] if abs(gate) < 2**20 else (0, 0)
            return [gate, up, *entry], ref.swiglu([gate], [up], SIGMOID)[0]
        case "mixed":
            largest = unsigned(rng, 1, 2**47)
            total = max(unsigned(rng, 1, 2**41), (largest >> 20) + 1)
            m, e = ref.scale_of(largest, ref.CACHED * total)
            acc = signed(rng, 40)
            return [acc, largest, total], ref.sat32(ref.rr(acc * m, e + 6))
        case "distance":
            below, temperature = unsigned(rng, 0, 2**32 - 1), unsigned(rng, 656, 6553600)
            z = min(ref.rr(below * (ref.LOG2_E // temperature), 16), 2**21 - 1)
            return [below, temperature], z
        case "draw":
            seed, position, total = rng.getrandbits(255), unsigned(rng, 1, 2**17), unsigned(rng, 1, 2**42)
            digest = sha256(seed.to_bytes(32, "big") + position.to_bytes(8, "big")).digest()
            return [seed, position, total], int.from_bytes(digest, "big") * total >> 256
        case "weighted":
            w, m = unsigned(rng, 0, 2**24), unsigned(rng, 1, 2**31)
            return [w, m], ref.rr(w * m, 8)
        case _:
            x, y = signed(rng, 32), signed(rng, 32)
            return [x + y], ref.add([x], [y])[0]


def ints(rng: Random, bits: int, count: int) -> list[int]:
    """So many of that width, now and then all alike."""
    if rng.random() < 0.2:
        return [signed(rng, bits)] * count
    return [signed(rng, bits) for _ in range(count)]


def naturals(rng: Random, high: int, count: int) -> list[int]:
    if rng.random() < 0.2:
        return [unsigned(rng, 0, high)] * count
    return [unsigned(rng, 0, high) for _ in range(count)]


def vector_case(rng: Random, op: str) -> tuple[bytes, int]:
    """Packed arguments and result."""
    count = rng.randint(1, 40)
    match op:
        case "dot":
            q, w = ints(rng, 16, count), ints(rng, 8, count)
            return struct.pack(f"<{count}h{count}b", *q, *w), ref.dot(q, w)
        case "norm":
            x, g = ints(rng, 32, count), [max(-32767, at) for at in ints(rng, 16, count)]
            epsilon, exponent = unsigned(rng, 0, 2**32), rng.randint(0, 30)
            largest = max(1, *(abs(a * b) for a, b in zip(x, g, strict=True)))
            _, scale = ref.norm(x, g, exponent, epsilon)
            return struct.pack(f"<{count}i{count}hQQ", *x, *g, epsilon, exponent), pack_scale(largest, scale)
        case "largest" | "max_int32" | "sum_int32":
            x = ints(rng, 32, count)
            result = {"largest": max(1, *map(abs, x)), "max_int32": max(x), "sum_int32": sum(x)}[op]
            return struct.pack(f"<{count}i", *x), result
        case "max_uint64" | "sum_uint64":
            x = naturals(rng, 2**64 - 1, count)
            return struct.pack(f"<{count}Q", *x), max(x) if op == "max_uint64" else sum(x)
        case "sum_uint32":
            x = naturals(rng, 2**32 - 1, count)
            return struct.pack(f"<{count}I", *x), sum(x)
        case "find_uint64":
            x = naturals(rng, 2**42, count)
            rest = given = unsigned(rng, 0, sum(x) + 1)
            index = 0
            while index < count and x[index] <= rest:
                rest -= x[index]
                index += 1
            return struct.pack(f"<{count + 1}Q", given, *x), index | rest << 128
        case _:
            w, m = naturals(rng, 2**24, count), naturals(rng, 2**31, count)
            return struct.pack(f"<{2 * count}I", *w, *m), max(ref.rr(a * b, 8) for a, b in zip(w, m, strict=True))


def check_scalars(steps: StepChain, op: str, count: int) -> None:
    rng = Random(f"scalar {op}")
    selector = keccak(text="scalars(uint8,uint256,int256[])")[:4]
    for start in range(0, count, PER_CALL):
        cases = [scalar_case(rng, op) for _ in range(min(PER_CALL, count - start))]
        width = len(cases[0][0])
        words = [word for arguments, _ in cases for word in arguments]
        data = selector + encode(["uint8", "uint256", "int256[]"], [SCALARS.index(op), width, words])
        compare(steps, data, cases)


def check_vectors(steps: StepChain, op: str, count: int) -> None:
    rng = Random(f"vector {op}")
    selector = keccak(text="vectors(uint8,bytes[])")[:4]
    for start in range(0, count, PER_CALL):
        cases = [vector_case(rng, op) for _ in range(min(PER_CALL, count - start))]
        data = selector + encode(["uint8", "bytes[]"], [VECTORS.index(op), [packed for packed, _ in cases]])
        compare(steps, data, cases)


def compare(steps: StepChain, data: bytes, cases: Sequence[tuple[object, int]]) -> None:
    found = decode(["uint256[]"], steps.call(HARNESS, data))[0]
    assert len(found) == len(cases)
    for result, (arguments, expected) in zip(found, cases, strict=True):
        assert result == expected % (1 << 256), arguments


@pytest.mark.parametrize("op", SCALARS)
def test_arithmetic_is_that_of_the_reference(steps: StepChain, op: str) -> None:
    check_scalars(steps, op, FEW)


@pytest.mark.parametrize("op", VECTORS)
def test_reductions_are_those_of_the_reference(steps: StepChain, op: str) -> None:
    check_vectors(steps, op, FEW)


@pytest.mark.long
@pytest.mark.parametrize("op", SCALARS)
def test_arithmetic_of_many_cases_is_that_of_the_reference(steps: StepChain, op: str) -> None:
    check_scalars(steps, op, MANY)


@pytest.mark.long
@pytest.mark.parametrize("op", VECTORS)
def test_reductions_of_many_cases_are_those_of_the_reference(steps: StepChain, op: str) -> None:
    check_vectors(steps, op, MANY)
