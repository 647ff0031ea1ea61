"""Writes the golden vectors of the integer semantics: `python -m tests.vectors.make_numerics` from the checkout's root.

They come from the plain-integer reference; the reference, torch and Solidity are tested against them. The file maps an
op to named cases; every field is an integer, a flat list of integers (matrices row by row) or 0x-hex.
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from efedllm.numerics import reference as ref
from efedllm.numerics.limits import SEMANTICS
from efedllm.numerics.tables import exp2_table, rotary_table, sigmoid_table

FILE = Path(__file__).parent / "numerics.json"
LOW, HIGH = -(2**31), 2**31 - 1
EXP2, SIGMOID = exp2_table(), sigmoid_table()
ROTARY = rotary_table(64, 16, 10000.0)

Case = dict[str, Any]


class Stream:
    """Integers that look random and are the same in every Python."""

    def __init__(self, label: str) -> None:
        self.label, self.count = label, 0

    def integer(self, low: int, high: int) -> int:
        """Between low and high, both inclusive."""
        self.count += 1
        digest = sha256(f"{self.label} {self.count}".encode()).digest()
        return low + int.from_bytes(digest, "big") % (high - low + 1)

    def row(self, count: int, bound: int) -> list[int]:
        """`count` integers in -bound - 1 .. bound, as an integer type has them."""
        return [self.integer(-bound - 1, bound) for _ in range(count)]

    def matrix(self, rows: int, columns: int) -> list[list[int]]:
        """Weights."""
        return [[self.integer(-127, 127) for _ in range(columns)] for _ in range(rows)]


def rows(label: str, count: int) -> Iterator[tuple[str, list[int]]]:
    """Named int32 rows: the extremes first, then random ones of several sizes."""
    stream = Stream(label)
    yield "zero", [0] * count
    yield "one", [1] + [0] * (count - 1)
    yield "minus one", [-1] * count
    yield "highest", [HIGH] * count
    yield "lowest", [LOW] * count
    yield "extremes", [HIGH if i % 2 else LOW for i in range(count)]
    yield "spike", [LOW if i == count // 2 else stream.integer(-9, 9) for i in range(count)]
    for bits in (3, 16, 20, 24, 31):
        yield f"{bits} bits", stream.row(count, (1 << bits) - 1)


def flat(matrix: list[list[int]]) -> list[int]:
    return [x for row in matrix for x in row]


def primitives() -> dict[str, list[Case]]:
    stream = Stream("primitives")
    shifts = [(stream.integer(-(2**61), 2**61) >> stream.integer(0, 60), s) for s in range(64)]
    shifts += [(x, s) for x in (-3, -2, -1, 0, 1, 2, 3) for s in (0, 1, 2)] + [
        (2**62 - 1, 62),
        (-(2**62), 63),
        (7, 200),
    ]
    quotients = [
        (1, 1),
        (2**56 - 1, 1),
        (1, 2**48 - 1),
        (2**56 - 1, 2**48 - 1),
        (32512, 32512),
        (65535, 1),
        (1, 127 << 41),
    ]
    quotients += [
        (stream.integer(1, 2 ** (1 + i % 56) - 1), stream.integer(1, 2 ** (1 + 5 * i % 48) - 1)) for i in range(60)
    ]
    scales = [(2**14, 14, 2**14, 14), (2**16 - 1, 0, 2**16 - 1, 60), (2**15, 3, 2**15, 5), (2**15, 3, 2**15 - 1, 5)]
    scales += [
        (
            stream.integer(2**14, 2**16 - 1),
            stream.integer(0, 60),
            stream.integer(2**14, 2**16 - 1),
            stream.integer(0, 60),
        )
        for _ in range(12)
    ]
    products = [ref.scale_mul((a, b), (c, d)) for a, b, c, d in scales]
    distances = [0, 1, 255, 256, 65535, 65536, 24 * 65536, 25 * 65536 - 1, 25 * 65536, 2**21 - 1, 2**32 - 1]
    distances += [stream.integer(0, 25 * 65536) for _ in range(50)]
    logits = [0, 1, -1, 2047, 2048, -2048, 2**20 - 1, 2**20, -(2**20), 1 - 2**20, HIGH, LOW]
    logits += stream.row(50, 2**20 - 1)
    return {
        "rounded_shift": [
            {
                "name": "all",
                "x": [x for x, _ in shifts],
                "shift": [s for _, s in shifts],
                "y": [ref.rr(x, s) for x, s in shifts],
            }
        ],
        "quantise": [
            {"name": f"{name} to {limit}", "v": v, "limit": limit, "q": q, "maximum": m}
            for limit, wide in ((32512, 0), (127, 0), (16384, 16))
            for name, v in ((name, [x << wide for x in row]) for name, row in rows(f"quantise {limit}", 9))
            for q, m in (ref.quantise(v, limit),)
        ],
        "scale_of": [
            {
                "name": "all",
                "num": [num for num, _ in quotients],
                "den": [den for _, den in quotients],
                "m": [ref.scale_of(num, den)[0] for num, den in quotients],
                "e": [ref.scale_of(num, den)[1] for num, den in quotients],
            }
        ],
        "scale_mul": [
            {
                "name": "all",
                **{key: [scale[i] for scale in scales] for i, key in enumerate(("m1", "e1", "m2", "e2"))},
                "m": [m for m, _ in products],
                "e": [e for _, e in products],
            }
        ],
        "exp2neg": [{"name": "all", "d": distances, "w": [ref.exp2neg(d, EXP2) for d in distances]}],
        "sigmoid": [{"name": "all", "x": logits, "y": [ref.sigmoid(x, SIGMOID) for x in logits]}],
    }


def tables() -> dict[str, list[Case]]:
    big = rotary_table(1024, 64, 500000.0)
    data = b"".join(x.to_bytes(2, "little", signed=True) for x in flat(big))
    return {
        "exp2_table": [{"name": "all", "entries": [x for entry in EXP2 for x in entry]}],
        "sigmoid_table": [{"name": "all", "entries": [x for entry in SIGMOID for x in entry]}],
        "rotary_table": [{"name": "small", "context": 64, "head_dim": 16, "theta": 10000, "entries": flat(ROTARY)}],
        "rotary_table_hash": [
            {
                "name": "sha256 of little-endian int16",
                "context": 1024,
                "head_dim": 64,
                "theta": 500000,
                "hash": "0x" + sha256(data).hexdigest(),
            }
        ],
    }


def residual_ops() -> dict[str, list[Case]]:
    stream = Stream("residual")
    matrix, scales = stream.matrix(4, 12), [1, 2**20, 1000, 77777]
    gains = {
        "plain": ([stream.integer(-8191, 8191) for _ in range(24)], 12),
        "largest": ([3276, -3276] * 12, 0),
        "zero": ([0] * 24, 30),
    }
    norms = [
        (f"{name}, {kind} gain, epsilon {epsilon}", x, gain, exponent, epsilon)
        for name, x in rows("norm", 24)
        for kind, (gain, exponent) in gains.items()
        for epsilon in ((0, 42950, 2**32) if kind == "plain" else (42950,))
    ]
    return {
        "embed": [
            {"name": f"token {t}, e {e}", "columns": 12, "q": flat(matrix), "m": scales, "e": e, "token": t, "y": y}
            for t, e in ((0, 16), (1, 16), (1, 24), (2, 30), (3, 60))
            for y in (ref.embed(t, matrix, scales, e),)
        ],
        "norm": [
            {"name": name, "x": x, "gain": g, "gain_exponent": ge, "epsilon": eps, "q": q, "m": scale[0], "e": scale[1]}
            for name, x, g, ge, eps in norms
            for q, scale in (ref.norm(x, g, ge, eps),)
        ],
        "quantise_row": [
            {"name": name, "v": v, "q": q, "m": scale[0], "e": scale[1]}
            for name, v in rows("row", 12)
            for q, scale in (ref.quantise_row(v),)
        ],
        "add": [
            {"name": name, "x": x, "y": y, "z": ref.add(x, y)}
            for (name, x), (_, y) in zip(rows("x", 10), reversed(list(rows("y", 10))), strict=True)
        ],
        "swiglu": [
            {"name": f"{first} by {second}", "gate": g, "up": u, "y": ref.swiglu(g, u, SIGMOID)}
            for first, g in rows("gate", 8)
            for second, u in rows("up", 8)
            if second in ("lowest", "highest", "20 bits")
        ],
    }


def linears() -> list[Case]:
    stream = Stream("linear")
    cases = []
    for columns, count in ((1, 2), (12, 5), (1030, 2)):
        w = stream.matrix(count, columns)
        w[0] = [127] * columns
        for name, v in rows(f"linear {columns}", columns):
            if columns > 100 and name not in ("highest", "20 bits"):
                continue
            q, (m, e) = ref.quantise_row(v)
            for ew, mw in (
                (16, [2**20] * count),
                (40, [stream.integer(1, 2**20) for _ in range(count)]),
                (60, [1] * count),
            ):
                y = ref.linear(q, (m, e), w, mw, ew)
                case = {"columns": columns, "q": q, "m": m, "e": e, "w": flat(w), "mw": mw, "ew": ew, "y": y}
                cases.append({"name": f"{count} x {columns}, {name}, exponent {ew}", **case})
    return cases


def heads() -> dict[str, list[Case]]:
    return {
        "rotary": [
            {"name": f"{name} at {p}", "v": v, "turn": ROTARY[p], "y": ref.rotary(v, ROTARY[p])}
            for p in (0, 1, 63)
            for name, v in rows(f"rotary {p}", 16)
        ],
        "quantise_query": [
            {"name": f"{name}, {count}", "v": v, "q": q, "m": scale[0], "e": scale[1]}
            for count in (2, 8, 256)
            for name, v in rows(f"query {count}", count)
            if count < 256 or name in ("lowest", "20 bits")
            for q, scale in (ref.quantise_query(v),)
        ],
        "quantise_key": [
            {"name": name, "v": v, "q": q, "maximum": m, "m": ref.key_scale(m)[0], "e": ref.key_scale(m)[1]}
            for name, v in rows("key", 8)
            for q, m in (ref.quantise_key(v),)
        ],
        "quantise_value": [
            {"name": name, "v": v, "q": q, "maximum": m}
            for name, v in rows("value", 8)
            for q, m in (ref.quantise_value(v),)
        ],
    }


def attentions() -> list[Case]:
    stream = Stream("attention")
    cases = []
    for kind, query_bound, key_bound, positions in (
        ("one position", 2**18, 2**18, 1),
        ("even", 2**15, 2**15, 20),
        ("sharp", 2**20, 2**20, 20),
        ("extreme", HIGH, HIGH, 20),
        ("tiny", 1, 1, 5),
    ):
        for head in range(3):
            q, scale = ref.quantise_query(stream.row(8, query_bound))
            keys, key_maxima = map(
                list, zip(*(ref.quantise_key(stream.row(8, key_bound)) for _ in range(positions)), strict=True)
            )
            cached, maxima = map(
                list,
                zip(
                    *(ref.quantise_value(stream.row(8, 2 ** (9 * head + 13) - 1)) for _ in range(positions)),
                    strict=True,
                ),
            )
            s = ref.scores(q, scale, keys, key_maxima)
            w, total = ref.softmax(s, EXP2)
            cases.append(
                {
                    "name": f"{kind}, head {head}",
                    "q": q,
                    "m": scale[0],
                    "e": scale[1],
                    "keys": flat(keys),
                    "key_maxima": key_maxima,
                    "values": flat(cached),
                    "value_maxima": maxima,
                    "scores": s,
                    "weights": w,
                    "total": total,
                    "y": ref.values(w, total, cached, maxima),
                }
            )
    return cases


def samples() -> list[Case]:
    stream = Stream("sample")
    cases = []
    for name, logits in (
        ("one token", [5]),
        ("equal", [-7] * 20),
        ("flat", stream.row(40, 2**15)),
        ("peaked", stream.row(40, 2**19)),
        ("ties", [stream.integer(0, 3) << 15 for _ in range(40)]),
        ("extreme", [LOW, HIGH, 0, HIGH, -1]),
    ):
        for temperature, top_k, top_p in (
            (0, 0, 65536),
            (656, 0, 65536),
            (65536, 0, 65536),
            (65536, 3, 65536),
            (65536, 1, 1),
            (52429, 5, 60000),
            (65536, 0, 32768),
            (6553600, 1000, 65535),
        ):
            seed, position = sha256(f"{name} {temperature} {top_k} {top_p}".encode()).digest(), stream.integer(1, 2**17)
            token = ref.sample(logits, seed, position, temperature, top_k, top_p, EXP2)
            request = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
            draw = {"seed": "0x" + seed.hex(), "position": position, "token": token}
            cases.append({"name": f"{name}, {temperature}, {top_k}, {top_p}", "logits": logits, **request, **draw})
    return cases


def vectors() -> dict[str, list[Case]]:
    """Every op's cases."""
    attention, sample = {"attention": attentions()}, {"sample": samples()}
    return primitives() | tables() | residual_ops() | {"linear": linears()} | heads() | attention | sample


def text() -> str:
    """The file: one case a line, so that a change shows where it is."""
    ops = [
        f" {json.dumps(op)}: [\n"
        + ",\n".join("  " + json.dumps(case, separators=(",", ":")) for case in cases)
        + "\n ]"
        for op, cases in vectors().items()
    ]
    return f'{{\n "semantics": {SEMANTICS},\n' + ",\n".join(ops) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(text())
