"""What goes wrong before anything is sent: one clear line on standard error, exit code 1, no standard output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from tests.support.cli import Person, Result

People = Callable[[str], Person]

READING = [("status",), ("channel", "list")]
SENDING = [
    ("stake", "1"),
    ("unstake",),
    ("withdraw", "stake"),
    ("withdraw", "earnings"),
    ("channel", "open", "1", "0x" + "11" * 20),
    ("channel", "topup", "1", "--all"),
    ("channel", "close", "--all"),
    ("claim",),
    ("model", "register", "models/shakespeare/built"),
]


def refused(result: Result) -> str:
    """The one line of an error."""
    assert result.code == 1
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    return result.err


@pytest.mark.parametrize("command", [*READING, *SENDING, ("fund",), ("deploy", "--local"), ("deploy",)], ids=" ".join)
def test_chain_unreachable(person: People, deployment_file: Path, command: tuple[str, ...]) -> None:
    someone = person("someone")
    someone.run("keys", "new", "--light")
    result = someone.run(*command, "--rpc", "http://127.0.0.1:1", "--deployment", str(deployment_file))
    assert "cannot reach the chain at http://127.0.0.1:1" in refused(result)
    assert "start one with `efedllm chain` or pass --rpc" in result.err


@pytest.mark.parametrize("command", [*READING, *SENDING, ("fund",)], ids=" ".join)
def test_deployment_file_missing(person: People, anvil: AnvilProcess, command: tuple[str, ...]) -> None:
    someone = person("someone")
    someone.run("keys", "new", "--light")
    result = someone.run(*command, "--rpc", anvil.url)
    assert "cannot read the deployment file" in refused(result)
    assert "31337.json (No such file or directory): run `efedllm deploy` or pass --deployment FILE" in result.err


@pytest.mark.parametrize("command", SENDING, ids=" ".join)
def test_key_missing(person: People, command: tuple[str, ...]) -> None:
    assert "efedllm keys new" in refused(person("newcomer").on_chain(*command))


@pytest.mark.parametrize("command", [("stake", "1"), ("withdraw", "earnings"), ("keys", "new")], ids=" ".join)
def test_password_missing(person: People, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    someone = person("someone")
    someone.run("keys", "new", "cold", "hot", "--light")
    monkeypatch.delenv("EFEDLLM_PASSWORD")
    result = someone.run(*command) if command[0] == "keys" else someone.on_chain(*command)
    assert "no password: pass --password-file FILE or set EFEDLLM_PASSWORD" in refused(result)


def test_password_wrong(person: People, monkeypatch: pytest.MonkeyPatch) -> None:
    someone = person("someone").with_keys()
    monkeypatch.setenv("EFEDLLM_PASSWORD", "guess")
    assert "wrong password for" in refused(someone.on_chain("stake", "1"))
    assert "guess" not in someone.on_chain("stake", "1").err


def test_password_file(person: People, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("another password\n")
    someone = person("someone")
    monkeypatch.delenv("EFEDLLM_PASSWORD")
    assert someone.run("keys", "new", "--light", "--password-file", str(path)).code == 0
    someone.on_chain("fund")
    assert someone.on_chain("stake", "1", "--password-file", str(path)).code == 0


def test_deployment_of_another_chain(
    person: People, anvil: AnvilProcess, deployment: Deployment, tmp_path: Path
) -> None:
    path = tmp_path / "other.json"
    replace(deployment, chain_id=1).write(path)
    result = person("someone").run("status", "--rpc", anvil.url, "--deployment", str(path))
    assert "is for chain 1, but the RPC endpoint serves chain 31337: pass another --rpc or --deployment" in refused(
        result
    )


def test_deployment_from_the_environment(
    person: People, anvil: AnvilProcess, deployment_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFEDLLM_DEPLOYMENT", str(deployment_file))
    monkeypatch.setenv("EFEDLLM_RPC", anvil.url)
    assert person("someone").run("status").code == 0


def test_chain_restarted(person: People, deployment_file: Path) -> None:
    with AnvilProcess.start() as empty:
        result = person("someone").run("status", "--rpc", empty.url, "--deployment", str(deployment_file))
    assert "if the chain was restarted, run `efedllm deploy` again" in refused(result)


def test_unknown_key_in_config_file(person: People) -> None:
    someone = person("someone")
    someone.data_dir.mkdir()
    (someone.data_dir / "config.toml").write_text("gas_price = 7\n")
    assert "config.toml: unknown key gas_price" in refused(someone.on_chain("status"))


def test_config_file_is_used(person: People, anvil: AnvilProcess, deployment_file: Path) -> None:
    someone = person("someone")
    someone.data_dir.mkdir()
    (someone.data_dir / "config.toml").write_text(f'rpc = "{anvil.url}"\ndeployment = "{deployment_file}"\n')
    assert someone.run("status", "--json").json["chain_id"] == 31337


@pytest.mark.parametrize("words", [(), ("nonsense",), ("stake",), ("status", "--nonsense"), ("channel",)])
def test_wrong_usage(person: People, words: tuple[str, ...]) -> None:
    result = person("someone").run(*words)
    assert result.code == 2
    assert result.out == ""
    assert "usage: efedllm" in result.err
