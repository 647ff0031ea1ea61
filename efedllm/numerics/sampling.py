"""Sampling in torch: one token for each row of logits, by the integer inverse CDF of docs/numerics.md.

Cuts are thresholds on the exponent `z`, found digit by digit in histograms of 128 bins: linear time, no sort.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from . import fixed
from .errors import SamplingError
from .ops import LOG2_E
from .sampling_parameters import ONE, SEED_BYTES, SamplingParameters

LARGEST_Z = 2**21 - 1
LIMB_BITS = 20
LIMBS = 13
"""13 limbs of 20 bits hold a 256-bit draw, shifted left by 4; a limb times a total of at most 2^42 stays in int64."""


def sample(
    logits: Tensor,
    parameters: Sequence[SamplingParameters],
    seeds: Sequence[bytes],
    positions: Sequence[int],
    table: Tensor,
) -> Tensor:
    """logits: int32 [B, vocab], Q16; per row: parameters, seed (32 bytes), absolute position of the new token;
    table: exp2, int32 [256, 2] -> ids: int64 [B].

    Raises SamplingError for a wrong number of parameters, seeds or positions, or a seed that is not 32 bytes.
    """
    rows, vocab = logits.shape
    if not rows == len(parameters) == len(seeds) == len(positions):
        counts = f"{len(parameters)} parameters, {len(seeds)} seeds and {len(positions)} positions"
        raise SamplingError(f"{rows} rows with {counts}; give one of each per row")
    wide = logits.to(torch.int64)
    behind = wide.amax(-1, keepdim=True) - wide
    greedy = first(behind == 0)
    if all(p.temperature == 0 for p in parameters):
        return greedy

    def column(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=logits.device).unsqueeze(-1)

    beta = column([LOG2_E // p.temperature if p.temperature else 0 for p in parameters])
    z = fixed.rounded_shift_(behind * beta, 16).clamp_(max=LARGEST_Z)
    w = fixed.exp2neg(z, table)
    top_k = [p.top_k if 0 < p.top_k < vocab else 0 for p in parameters]
    if any(top_k):
        k = column(top_k)
        cut = threshold(z, torch.ones_like(z), k)
        w = torch.where((k == 0) | (z <= cut), w, 0)
    if any(p.top_p < ONE for p in parameters):
        top_p = column([p.top_p for p in parameters])
        target = (top_p * w.sum(-1, keepdim=True) + (ONE - 1)) >> 16
        cut = threshold(z, w, target)
        w = torch.where((top_p == ONE) | (z <= cut), w, 0)
    total = w.sum(-1, keepdim=True)
    digits = [limbs(seed, position) for seed, position in zip(seeds, positions, strict=True)]
    r = draw(torch.tensor(digits, dtype=torch.int64, device=logits.device), total)
    drawn = (w.cumsum(-1) <= r).sum(-1)
    return torch.where(column([p.temperature for p in parameters]).squeeze(-1) == 0, greedy, drawn)


def first(mask: Tensor) -> Tensor:
    """Lowest true index of each row. mask: bool [B, n], a true in every row -> int64 [B]."""
    index = torch.arange(mask.shape[-1], device=mask.device)
    return torch.where(mask, index, mask.shape[-1]).amin(-1)


def threshold(z: Tensor, w: Tensor, target: Tensor) -> Tensor:
    """The least Z with `sum of w_j over z_j <= Z` >= target.

    z: int64 [B, n], 0 .. 2^21 - 1; w: int64 [B, n] >= 0; target: int64 [B, 1], at most the row's sum -> int64 [B, 1].
    """
    prefix, left = torch.zeros_like(target), target
    for shift in (14, 7, 0):
        inside = torch.where(z >> (shift + 7) == prefix, w, 0)
        bins = torch.zeros(z.shape[0], 128, dtype=torch.int64, device=z.device)
        below = bins.scatter_add_(1, (z >> shift) & 127, inside).cumsum(-1)
        digit = (below < left).sum(-1, keepdim=True)
        left = left - torch.where(digit > 0, below.gather(1, (digit - 1).clamp_(min=0)), 0)
        prefix = prefix * 128 + digit
    return prefix


def limbs(seed: bytes, position: int) -> list[int]:
    """The 256-bit draw, shifted left by 4, as 13 limbs of 20 bits, lowest first."""
    if len(seed) != SEED_BYTES:
        raise SamplingError(f"a seed of {len(seed)} bytes; give {SEED_BYTES}")
    value = int.from_bytes(hashlib.sha256(seed + position.to_bytes(8, "big")).digest(), "big") << 4
    return [(value >> (LIMB_BITS * i)) & ((1 << LIMB_BITS) - 1) for i in range(LIMBS)]


def draw(digits: Tensor, total: Tensor) -> Tensor:
    """`(u * total) >> 256`, limb by limb from the lowest: floors of floors are the floor.

    digits: int64 [B, 13], lowest first; total: int64 [B, 1], <= 2^42 -> int64 [B, 1].
    """
    carry = torch.zeros_like(total)
    for i in range(LIMBS):
        carry = (digits[:, i : i + 1] * total + carry) >> LIMB_BITS
    return carry
