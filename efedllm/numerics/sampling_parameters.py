"""What a request may ask of sampling. Imports no torch, so that clients can validate before they send."""

from dataclasses import dataclass

from .errors import SamplingError

ONE = 1 << 16
MIN_TEMPERATURE, MAX_TEMPERATURE = 656, 6553600
SEED_BYTES = 32


@dataclass(frozen=True)
class SamplingParameters:
    """temperature: Q16, 0 (greedy) or 656 .. 6553600; top_p: Q16, 1 .. 65536 (off); top_k: 0 (off) .. 2^32 - 1.

    Raises SamplingError outside these ranges.
    """

    temperature: int = 0
    top_p: int = ONE
    top_k: int = 0

    def __post_init__(self) -> None:
        if self.temperature != 0 and not MIN_TEMPERATURE <= self.temperature <= MAX_TEMPERATURE:
            raise SamplingError(f"temperature {self.temperature}/65536 is out of range; use 0 (greedy) or 0.01 .. 100")
        if not 1 <= self.top_p <= ONE:
            raise SamplingError(f"top_p {self.top_p}/65536 is out of range; use a value above 0, up to 1")
        if not 0 <= self.top_k < 1 << 32:
            raise SamplingError(f"top_k {self.top_k} is out of range; use 0 (off) or a positive number of tokens")
