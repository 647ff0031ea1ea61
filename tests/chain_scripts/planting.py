"""A world with an honest history, and ways to plant a fault in the copy of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from efedllm.chain.deployment import Deployment
from efedllm.chain.events import Event
from efedllm.cli import main
from tests.support.copied_chain import CopiedChain

from .ledger_market import Counter


@dataclass
class World:
    """The copy, who answers for the workers, and how to audit it."""

    copy: CopiedChain
    counter: Counter
    deployment: Deployment
    deployment_file: Path
    verifier_dir: Path
    events: list[Event]

    def audit(self, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
        """Exit code and output of the command on the copy."""
        capsys.readouterr()
        where = ["--rpc", self.copy.url, "--deployment", str(self.deployment_file)]
        code = main(["audit", *where, "--data-dir", str(self.verifier_dir), *options])
        captured = capsys.readouterr()
        assert captured.err == "", captured.err
        return code, captured.out


@dataclass(frozen=True)
class Fault:
    """`plant` alters the world; one line of the audit with `options` then holds all of `named`."""

    plant: Callable[[World], None]
    named: tuple[str, ...]
    options: tuple[str, ...] = ()


def first(world: World, kind: type[Event], **values: Any) -> Event:
    """The first event of a kind with these values."""
    return next(
        event
        for event in world.events
        if type(event) is kind and all(getattr(event, name) == value for name, value in values.items())
    )


def alter(kind: type[Event], changes: dict[str, Any], **values: Any) -> Callable[[World], None]:
    """An entry of the history says something else: numbers are added, functions applied, others put in place."""

    def other(value: Any, by: Any) -> Any:
        return by(value) if callable(by) else value + by if type(by) is int else by

    def plant(world: World) -> None:
        old = first(world, kind, **values)
        new = replace(old, **{name: other(getattr(old, name), by) for name, by in changes.items()})
        world.copy.planted.events = lambda events: [new if event == old else event for event in events]

    return plant


def drop(kind: type[Event], **values: Any) -> Callable[[World], None]:
    def plant(world: World) -> None:
        old = first(world, kind, **values)
        world.copy.planted.events = lambda events: [event for event in events if event != old]

    return plant


def repeat(kind: type[Event], **values: Any) -> Callable[[World], None]:
    """It happens again, in a place of its own right behind."""

    def plant(world: World) -> None:
        old = first(world, kind, **values)
        again = replace(old, origin=replace(old.origin, log_index=old.origin.log_index + 1000))
        world.copy.planted.events = lambda events: [*events, again]

    return plant


def twice(kind: type[Event], **values: Any) -> Callable[[World], None]:
    """The node tells the very same entry twice."""

    def plant(world: World) -> None:
        old = first(world, kind, **values)
        world.copy.planted.events = lambda events: [*events, old]

    return plant


def swap(
    one: type[Event], one_has: dict[str, Any], other: type[Event], other_has: dict[str, Any]
) -> Callable[[World], None]:
    """Two entries change places."""

    def plant(world: World) -> None:
        a, b = first(world, one, **one_has), first(world, other, **other_has)
        moved = {
            a: replace(
                a, origin=replace(b.origin, contract=a.origin.contract, transaction_hash=a.origin.transaction_hash)
            )
        }
        moved |= {
            b: replace(
                b, origin=replace(a.origin, contract=b.origin.contract, transaction_hash=b.origin.transaction_hash)
            )
        }
        world.copy.planted.events = lambda events: [moved.get(event, event) for event in events]

    return plant


def read(
    contract: str, function: str, at: int, by: int | bool | bytes | str, *arguments: Any, field: int | None = None
) -> Callable[[World], None]:
    """A contract's state reads otherwise, for calls with these arguments: value `at`, or its `field`."""

    def other(value: Any) -> Any:
        return value + by if type(by) is int else by

    def change(given: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
        if given[: len(arguments)] != arguments:
            return values
        changed = list(values)
        if field is None:
            changed[at] = other(changed[at])
        else:
            inner = list(changed[at])
            inner[field] = other(inner[field])
            changed[at] = tuple(inner)
        return tuple(changed)

    def plant(world: World) -> None:
        world.copy.planted.reads = {(contract, function): change}

    return plant
