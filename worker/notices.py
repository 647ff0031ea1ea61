"""What the operator is told while the worker runs: one line and one event each, and no warning over and over."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("efedllm.worker")

Announce = Callable[[str, dict[str, object]], None]
"""Tells the operator one line, and machines the same as a map."""

REPEAT_SECONDS = 6 * 3600.0
"""A warning whose reason stays is told again after this long."""


def log_only(text: str, _: dict[str, object]) -> None:
    """An `Announce` for where nobody listens."""
    log.info("%s", text)


class Notices:
    """Warnings by kind: told when they begin, rarely while they last, and once when they are over."""

    def __init__(self, announce: Announce = log_only, clock: Callable[[], float] = time.monotonic) -> None:
        self.announce = announce
        self._clock = clock
        self._told: dict[str, float] = {}

    def warn(self, kind: str, message: str) -> None:
        """`kind` stands for the reason: "chain", "disk", "gas", "gas price", "key", "standing" or "slots"."""
        now = self._clock()
        if kind in self._told and now < self._told[kind] + REPEAT_SECONDS:
            return
        self._told[kind] = now
        self.announce(f"warning: {message}", {"event": "warning", "kind": kind, "message": message})

    def over(self, kind: str) -> None:
        """The reason is gone; harmless if there was none."""
        if self._told.pop(kind, None) is not None:
            self.announce(f"the warning about {kind} is over", {"event": "over", "kind": kind})
