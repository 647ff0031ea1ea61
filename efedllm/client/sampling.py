"""What people write about sampling, as the fixed-point numbers that are signed. Floats end here."""

import os
from collections.abc import Iterable

from efedllm.client.errors import ClientError
from efedllm.protocol.objects import Sampling
from efedllm.protocol.requests import TEMPERATURE_MIN, TOP_P_ONE

Q16 = 1 << 16
SEED_BYTES = 32
LOWEST_TEMPERATURE = 0.01


def sampling_of(temperature: float, top_p: float, top_k: int) -> Sampling:
    """`temperature` and `top_p` to the nearest 1/65536; `top_k` 0 is off. Raises ClientError for no finite number.

    Ranges are checked where requests are (`requests.check_sampling`), except what does not fit the signed type.
    """
    for name, value in (("temperature", temperature), ("top_p", top_p), ("top_k", top_k)):
        if not 0 <= value < Q16:
            raise ClientError(f"{name} {value} is out of range: temperature 0 to 100, top_p up to 1, top_k from 0")
    fixed = round(temperature * Q16)
    if temperature >= LOWEST_TEMPERATURE:
        fixed = max(fixed, TEMPERATURE_MIN)  # 0.01 itself lies between two steps, the lower of them outside the range
    elif temperature > 0:
        raise ClientError(f"temperature {temperature} is out of range: use 0 (greedy) or {LOWEST_TEMPERATURE} to 100")
    return Sampling(fixed, top_k, min(round(top_p * Q16), TOP_P_ONE) if top_p <= 1 else round(top_p * Q16))


def seed_of(seed: int | bytes | None) -> bytes:
    """32 bytes: those given, a number as uint256 big-endian, or random ones. Raises ClientError for anything else."""
    if seed is None:
        return os.urandom(SEED_BYTES)
    if isinstance(seed, int) and 0 <= seed < 1 << 256:
        return seed.to_bytes(SEED_BYTES)
    if isinstance(seed, bytes) and len(seed) == SEED_BYTES:
        return seed
    raise ClientError(f"the seed must be a number from 0 to 2^256 - 1 or {SEED_BYTES} bytes")


def stop_ids_of(stop_ids: Iterable[int]) -> tuple[int, ...]:
    """Strictly increasing, as they are signed."""
    return tuple(sorted(set(stop_ids)))
