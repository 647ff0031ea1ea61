"""The integer semantics in plain Python integers and lists: the readable twin of docs/numerics.md, one token at a time.

Nothing here is fast and nothing is clever; every other implementation is compared with it. Conventions:
rows are lists of int, a scale is a pair (m, e) for `m * 2^-e`, Q16 means `value * 2^16`.
"""

import hashlib
from collections.abc import Sequence
from math import isqrt

Row = Sequence[int]
Rows = Sequence[Sequence[int]]
Scale = tuple[int, int]

ACTIVATION, CACHED, PROBABILITY = 32512, 127, 16384
LOG2_E = 6196328019
"""round(log2(e) * 2^32)."""


def rr(x: int, s: int) -> int:
    """Rounded shift, half up. Every intermediate passes here: it must fit int64, and s must not be negative."""
    assert s >= 0 and -(2**63) <= x < 2**63
    if s >= 63:
        return 0
    rounded = x + (1 << (s - 1)) if s else x
    assert -(2**63) <= rounded < 2**63
    return rounded >> s


def sat32(x: int) -> int:
    """Saturation to int32."""
    return min(max(x, -(2**31)), 2**31 - 1)


def quantise(v: Row, limit: int) -> tuple[list[int], int]:
    """v: |v| < 2^48 -> (q with |q| <= limit, M = max(1, max |v|))."""
    largest = max(1, max(abs(x) for x in v))
    assert largest < 2**48
    t = max(0, largest.bit_length() - 32)
    den = largest >> t
    return [(2 * limit * (x >> t) + den) // (2 * den) for x in v], largest


def scale_of(num: int, den: int) -> Scale:
    """The scale of `num / den`, 1 <= num < 2^56, 1 <= den < 2^48."""
    assert 1 <= num < 2**56 and 1 <= den < 2**48
    e = 15 - (num.bit_length() - den.bit_length())
    return (num << e if e >= 0 else num >> -e) // den, e


def scale_mul(a: Scale, b: Scale) -> Scale:
    """The product of two scales."""
    p, e = a[0] * b[0], a[1] + b[1]
    return (p >> 14, e - 14) if p < 2**30 else (p >> 16, e - 16)


def exp2neg(d: int, table: Rows) -> int:
    """2^-d in units of 2^-24. d >= 0, Q16; table: [256, 2]."""
    n, f = d >> 16, d & 0xFFFF
    value, step = table[f >> 8]
    return (value + rr(step * (f & 255), 8)) >> n if n < 25 else 0


def sigmoid(x: int, table: Rows) -> int:
    """The logistic function in units of 2^-24. x: Q16; table: [512, 2]."""
    a = abs(x)
    if a >= 2**20:
        s = 2**24
    else:
        value, step = table[a >> 11]
        s = value + rr(step * (a & 2047), 11)
    return s if x >= 0 else 2**24 - s


def embed(token: int, q: Rows, m: Row, e: int) -> list[int]:
    """Row `token` of the matrix (q [N, K], m [N], e) -> Q16 [K]."""
    return [sat32(rr(x * m[token], e - 16)) for x in q[token]]


def norm(x: Row, gain: Row, gain_exponent: int, epsilon: int) -> tuple[list[int], Scale]:
    """RMS norm and quantisation of a residual (int32, Q16); epsilon: Q32 -> (q int16, scale)."""
    d = len(x)
    tx = max(0, max(abs(v) for v in x).bit_length() - 23)
    square = max(1, sum((v >> tx) ** 2 for v in x) + ((epsilon * d) >> (2 * tx)))
    assert square < 2**61
    u = (62 - square.bit_length()) // 2
    root = isqrt(square << (2 * u))
    q, largest = quantise([v * g for v, g in zip(x, gain, strict=True)], ACTIVATION)
    tq = max(0, largest.bit_length() - 32)
    m, e = scale_of((largest >> tq) * isqrt(d << 32), ACTIVATION * root)
    return q, (m, e - tq - u + tx + gain_exponent + 16)


def quantise_row(v: Row) -> tuple[list[int], Scale]:
    """A Q16 row -> (q int16, scale)."""
    q, largest = quantise(v, ACTIVATION)
    m, e = scale_of(largest, ACTIVATION)
    return q, (m, e + 16)


def dot(a: Row, b: Row) -> int:
    """The exact product of two rows."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def linear(q: Row, scale: Scale, w: Rows, mw: Row, ew: int) -> list[int]:
    """q int16 [K] with its scale, times the matrix (w [N, K], mw [N], ew) -> Q16 [N]."""
    m, e = scale
    return [sat32(rr(rr(dot(q, row) * mw[n], 13) * m, ew + e - 29)) for n, row in enumerate(w)]


def rotary(v: Row, turn: Row) -> list[int]:
    """A head (Q16) turned by a row of the rotary table (cosines, then sines) -> Q16."""
    h = len(v) // 2
    cos, sin = turn[:h], turn[h:]
    return [sat32(rr(v[i] * cos[i] - v[i + h] * sin[i], 14)) for i in range(h)] + [
        sat32(rr(v[i + h] * cos[i] + v[i] * sin[i], 14)) for i in range(h)
    ]


def quantise_query(v: Row) -> tuple[list[int], Scale]:
    """A query head (Q16) -> (q int16, scale), the scale times log2(e) / sqrt(head_dim)."""
    q, scale = quantise_row(v)
    m, e = scale_of(LOG2_E, isqrt(len(v) << 32))
    return q, scale_mul(scale, (m, e + 16))


def quantise_key(v: Row) -> tuple[list[int], int]:
    """A key head (Q16) -> (k int8, its maximum M)."""
    return quantise(v, CACHED)


def key_scale(largest: int) -> Scale:
    """The scale of a key with maximum M."""
    m, e = scale_of(largest, CACHED)
    return m, e + 16


def quantise_value(v: Row) -> tuple[list[int], int]:
    """A value head (Q16) -> (v int8, its maximum M)."""
    return quantise(v, CACHED)


def scores(q: Row, scale: Scale, keys: Rows, maxima: Row) -> list[int]:
    """A query against the keys of positions 0 .. p -> logits in base 2, Q16."""
    mq, eq = scale
    result = []
    for key, largest in zip(keys, maxima, strict=True):
        mk, ek = key_scale(largest)
        result.append(sat32(rr(dot(q, key) * mq * mk, eq + ek - 16)))
    return result


def softmax(s: Row, table: Rows) -> tuple[list[int], int]:
    """Scores -> (weights in units of 2^-24, their sum Z)."""
    top = max(s)
    w = [exp2neg(top - x, table) for x in s]
    return w, sum(w)


def values(w: Row, total: int, cached: Rows, maxima: Row) -> list[int]:
    """Weights with sum `total`, value heads int8 of positions 0 .. p with their maxima -> Q16 [head_dim]."""
    p, largest = quantise([rr(x * m, 8) for x, m in zip(w, maxima, strict=True)], PROBABILITY)
    m, e = scale_of(largest, CACHED * total)
    return [sat32(rr(dot(p, column) * m, e + 6)) for column in zip(*cached, strict=True)]


def attention(
    query: Row, scale: Scale, keys: Rows, key_maxima: Row, cached: Rows, value_maxima: Row, table: Rows
) -> list[int]:
    """Ops scores, softmax and values of one query head at position p over its kv head's positions 0 .. p."""
    w, total = softmax(scores(query, scale, keys, key_maxima), table)
    return values(w, total, cached, value_maxima)


def add(x: Row, y: Row) -> list[int]:
    """The saturating sum of two rows."""
    return [sat32(a + b) for a, b in zip(x, y, strict=True)]


def swiglu(gate: Row, up: Row, table: Rows) -> list[int]:
    """gate * sigmoid(gate) * up, Q16."""
    return [sat32(rr(rr(g * sigmoid(g, table), 24) * u, 16)) for g, u in zip(gate, up, strict=True)]


def sample(logits: Row, seed: bytes, position: int, temperature: int, top_k: int, top_p: int, table: Rows) -> int:
    """The token at absolute `position`. temperature: Q16 (0 is greedy); top_k: 0 is off; top_p: Q16 (65536 is off)."""
    top = max(logits)
    if temperature == 0:
        return list(logits).index(top)
    beta = LOG2_E // temperature
    z = [min(rr((top - x) * beta, 16), 2**21 - 1) for x in logits]
    w = [exp2neg(x, table) for x in z]
    if 0 < top_k < len(z):
        cut = sorted(z)[top_k - 1]
        w = [x if at <= cut else 0 for x, at in zip(w, z, strict=True)]
    if top_p < 65536:
        cut = _nucleus(z, w, -(-top_p * sum(w) // 65536))
        w = [x if at <= cut else 0 for x, at in zip(w, z, strict=True)]
    u = int.from_bytes(hashlib.sha256(seed + position.to_bytes(8, "big")).digest(), "big")
    left = (u * sum(w)) >> 256
    for token, x in enumerate(w):
        left -= x
        if left < 0:
            return token
    raise AssertionError("a draw below the sum of the weights has a token")


def _nucleus(z: Row, w: Row, target: int) -> int:
    """The least Z with `sum of w over z <= Z` >= target."""
    total = 0
    for at, x in sorted(zip(z, w, strict=True)):
        total += x
        if total >= target:
            return at
    raise AssertionError("the target is at most the sum of the weights")
