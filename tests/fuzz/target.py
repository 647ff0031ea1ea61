"""What every fuzz target is: a decoder, valid samples, and what must hold whatever bytes come."""

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field

from efedllm.errors import MAX_SHOWN, EfedllmError

FREE_BYTES = 1 << 20
"""An input may cost this much memory however short it is (tables, caches, an error's text)."""
BYTES_PER_BYTE = 48
"""And so much for each of its bytes."""


class Broken(AssertionError):
    """A decoder did what it must not do."""


@dataclass(frozen=True)
class Target:
    """`check` decodes bytes and returns what these stand for in the decoder's own, only form: the bytes again.

    `error`: the only exceptions that it may raise. `canonical`: a second form of the same value is refused; where it
    is False, `check` compares what has to be compared by itself. `samples`: valid inputs, which mutation starts from.
    `shape`: what the inputs are made of, for the mutator.
    """

    name: str
    check: Callable[[bytes], bytes]
    samples: Callable[[], list[bytes]]
    shape: str = "bytes"
    error: type[EfedllmError] | tuple[type[EfedllmError], ...] = EfedllmError
    canonical: bool = True
    runs: int = 20_000
    """Inputs of one long campaign."""
    free_bytes: int = field(default=FREE_BYTES)

    def run(self, data: bytes) -> bool:
        """Whether the decoder took the input. Raises Broken, or whatever the decoder raises by mistake."""
        try:
            again = self.check(data)
        except self.error as error:
            check_error(error)
            return False
        if self.canonical and again != data:
            raise Broken(f"{self.name}: {data[:200].hex()} was read as {bytes(again[:200]).hex()}")
        return True

    def run_measured(self, data: bytes) -> bool:
        """Like `run`, and the memory that it takes is in proportion to the input."""
        taken = False

        def measured() -> None:
            nonlocal taken
            taken = self.run(data)

        most = self.free_bytes + BYTES_PER_BYTE * len(data)
        if (peak := peak_of(measured)) > most:
            raise Broken(f"{self.name}: {len(data)} bytes took {peak} bytes of memory, {most} at most are due")
        return taken


def check_error(error: Exception) -> None:
    """Messages reach logs and terminals: one printable line, however long a stranger's words were."""
    text = str(error)
    if not text or not text.isprintable() or len(text) > MAX_SHOWN + 3:
        raise Broken(f"a message of {len(text)} characters is no line to show: {text[:200]!r}") from error


def peak_of(call: Callable[[], object]) -> int:
    """Most bytes that Python had allocated at a time during the call, beyond those from before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
