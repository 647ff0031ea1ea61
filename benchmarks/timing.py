"""Timing on a machine that does other things too: contenders take turns, and medians are compared."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import torch


class Steps(Protocol):
    """Something that produces one token after the other."""

    def step(self) -> None: ...


def steps(model: Steps, count: int) -> None:
    """So many more tokens."""
    for _ in range(count):
        model.step()


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median of what each contender returns over `rounds` turns (A B C, A B C, ...).

    Whatever slows the machine down for a while meets all of them, so that ratios outlive it. Warm up before.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            taken[name].append(measure())
    return {name: median(values) for name, values in taken.items()}


@dataclass(frozen=True)
class Cost:
    """Seconds on the wall, and of them those in which this thread had a processor: the rest it waited, for the disk or
    behind other programs."""

    wall: float = 0.0
    processor: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.wall + other.wall, self.processor + other.processor)

    @classmethod
    def of(cls, work: Callable[[], object]) -> "Cost":
        wall, processor = time.perf_counter(), time.thread_time()
        work()
        return cls(time.perf_counter() - wall, time.thread_time() - processor)

    @classmethod
    def median(cls, costs: Iterable["Cost"]) -> "Cost":
        """Of each of the two by itself."""
        pairs = [(cost.wall, cost.processor) for cost in costs]
        return cls(*map(median, zip(*pairs, strict=True)))


@contextmanager
def one_thread() -> Iterator[None]:
    """One compute thread, as co-located workers have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
