"""The tables of the semantics, correctly rounded from integers and decimals: the same on every machine.

Angles and bases come from `decimal`, whose exp and ln round correctly at a stated precision; the rest is fixed-point
integer arithmetic. No platform's maths library is involved, so equal arguments give equal bytes anywhere.
"""

from decimal import Context, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

from .errors import LimitError

ROTARY_BITS = 14
FRACTION_BITS = 24
WORK_BITS = 160
"""Fixed point of the rotary recurrence: a step errs by less than 2^-152, so 2^17 steps leave 120 guard bits."""

DIGITS = 80
"""Decimal precision of exponentials and logarithms: 265 bits."""


def exp2_table() -> list[tuple[int, int]]:
    """256 entries (E[i], E[i+1] - E[i]), `E[i] = round(2^24 * 2^(-i/256))`, half up."""
    with localcontext(Context(prec=DIGITS)):
        ln2 = Decimal(2).ln()
        entries = [_round(2**FRACTION_BITS * (-ln2 * i / 256).exp()) for i in range(257)]
    return _with_steps(entries)


def sigmoid_table() -> list[tuple[int, int]]:
    """512 entries (S[i], S[i+1] - S[i]), `S[i] = round(2^24 / (1 + e^(-i/32)))`, half up."""
    with localcontext(Context(prec=DIGITS)):
        entries = [_round(2**FRACTION_BITS / (1 + (Decimal(-i) / 32).exp())) for i in range(513)]
    return _with_steps(entries)


def rotary_table(context: int, head_dim: int, theta: float) -> list[list[int]]:
    """`context` rows: cosines of `p * theta^(-2i/head_dim)` for i < head_dim/2, then the sines, times 2^14, half up.

    theta is taken as the exact value of its double, >= 1. Raises LimitError for a theta that is not.
    """
    if not 1 <= theta < float("inf"):
        raise LimitError(f"rotary theta {theta} is out of range; use a finite value of at least 1")
    columns = [_turns(context, angle) for angle in _angles(head_dim, theta)]
    cosines, sines = zip(*columns, strict=True)
    return [list(row) for row in zip(*cosines, *sines, strict=True)]


def _with_steps(entries: list[int]) -> list[tuple[int, int]]:
    return [(a, b - a) for a, b in pairwise(entries)]


def _round(x: Decimal) -> int:
    """Half up; exact, since it leaves decimals first."""
    exact = Fraction(x)
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)


def _angles(head_dim: int, theta: float) -> list[int]:
    """theta^(-2i/head_dim) for i < head_dim/2, times 2^WORK_BITS."""
    with localcontext(Context(prec=DIGITS)):
        ln = Decimal(theta).ln()
        return [_round((ln * (-2 * i) / head_dim).exp() * 2**WORK_BITS) for i in range(head_dim // 2)]


def _unit(angle: int) -> tuple[int, int]:
    """cos and sin of an angle in [0, 1], by their series; all times 2^WORK_BITS. Some 40 terms, each
    rounded down twice, err by less than 2^-153."""
    one = 1 << WORK_BITS
    totals, term, n = [one, 0], one, 0
    while term:
        n += 1
        term = term * angle // (n << WORK_BITS)
        totals[n % 2] += term if n % 4 < 2 else -term
    return totals[0], totals[1]


def _turns(context: int, angle: int) -> tuple[list[int], list[int]]:
    """cos and sin of p * angle for p < context, rounded to ROTARY_BITS, by adding the angle again and again."""
    cos, sin = _unit(angle)
    c, s = 1 << WORK_BITS, 0
    down = WORK_BITS - ROTARY_BITS
    half = 1 << (down - 1)
    cosines, sines = [], []
    for _ in range(context):
        cosines.append((c + half) >> down)
        sines.append((s + half) >> down)
        c, s = (c * cos - s * sin) >> WORK_BITS, (s * cos + c * sin) >> WORK_BITS
    return cosines, sines
