"""The command line as a person uses it, inside this process, against a real chain."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from efedllm.cli import main

PASSWORD = "correct horse"


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object that --json promises."""
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True, eq=False)
class Person:
    """Someone with a data directory, talking to one chain and deployment."""

    data_dir: Path
    capsys: pytest.CaptureFixture[str]
    options: list[str] = field(default_factory=list)

    def run(self, *arguments: str) -> Result:
        """A command with this person's --data-dir and nothing else."""
        self.capsys.readouterr()
        code = main([*arguments, "--data-dir", str(self.data_dir)])
        captured = self.capsys.readouterr()
        return Result(code, captured.out, captured.err)

    def on_chain(self, *arguments: str) -> Result:
        """A command with --rpc and --deployment as well."""
        return self.run(*arguments, *self.options)

    def json(self, *arguments: str) -> Any:
        """The result of a command on the chain that has to succeed."""
        return self.on_chain(*arguments, "--json").json

    def with_keys(self, work: str = "10000") -> Person:
        """The same, with new keys that are funded with `work` whole tokens."""
        assert self.run("keys", "new", "--light").code == 0
        assert self.on_chain("fund", "--work", work).code == 0
        return self

    @property
    def address(self) -> str:
        listed = json.loads(self.run("keys", "list", "--json").out)["keys"]
        return next(key["address"] for key in listed if key["role"] == "cold")
