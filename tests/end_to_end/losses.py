"""What an honest side lost to a cheat, in base units against its credit window; every test of a cheat records it.

`python -m tests.end_to_end.losses` runs those tests and prints the table.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from efedllm.chain.amounts import format_amount

FOLDER = Path(__file__).parent
TESTS = ("test_cheating_clients.py", "test_cheating_workers.py")
DECIMALS = 18


@dataclass(frozen=True)
class Loss:
    """`given` was delivered and receipted by a worker, or paid by a client; `got` is what came for it."""

    cheat: str
    loser: str
    given: int
    got: int
    window: int

    @property
    def lost(self) -> int:
        return max(self.given - self.got, 0)

    def line(self) -> str:
        amounts = " | ".join(format_amount(amount, DECIMALS) for amount in (self.given, self.got, self.lost))
        return f"| {self.cheat} | {self.loser} | {amounts} | {100 * self.lost / self.window:.0f} % |"


recorded: list[Loss] = []


def record(cheat: str, loser: str, given: int, got: int, window: int) -> Loss:
    """Keeps a measurement for the table. Fails if more than the window was lost."""
    loss = Loss(cheat, loser, given, got, window)
    recorded.append(loss)
    assert loss.lost <= window, loss.line()
    return loss


def table() -> str:
    """Markdown: the greatest loss of each cheat, over all parties that it met."""
    worst: dict[str, Loss] = {}
    for loss in recorded:
        if loss.cheat not in worst or (loss.lost, loss.given) > (worst[loss.cheat].lost, worst[loss.cheat].given):
            worst[loss.cheat] = loss
    head = "| cheat | who loses most | given | got | lost | of a window |\n|---|---|---|---|---|---|"
    return "\n".join([head, *(loss.line() for loss in worst.values())])


def main() -> int:
    paths = [str(FOLDER / name) for name in TESTS]
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-s", *paths], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
