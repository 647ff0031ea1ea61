"""Flags over environment over config.toml; what nobody knows is refused."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from efedllm.options import OptionError, add_chain_options, add_key_options, password
from efedllm.settings import SettingsError, apply_settings, find_commands


def parse(tmp_path: Path, words: str, config: str = "", **environ: str) -> Namespace:
    parser = ArgumentParser()
    commands = parser.add_subparsers(required=True)
    worker = commands.add_parser("worker")
    worker.add_argument("--layers", required=True)
    worker.add_argument("--threads", type=int, default=1)
    worker.add_argument("--mode", choices=("fast", "exact"), default="fast")
    worker.add_argument("--log-json", action="store_true")
    add_key_options(worker)
    channel = commands.add_parser("channel").add_subparsers(required=True)
    opened = channel.add_parser("open")
    opened.add_argument("amount")
    opened.add_argument("--all", action="store_true")
    add_chain_options(opened)
    if config:
        (tmp_path / "config.toml").write_text(config)
    arguments = [*words.split(), "--data-dir", str(tmp_path)]
    apply_settings(parser, arguments, environ)
    return parser.parse_args(arguments)


def test_find_commands_names_the_leaves() -> None:
    parser = ArgumentParser()
    commands = parser.add_subparsers()
    commands.add_parser("a")
    commands.add_parser("b").add_subparsers().add_parser("c")
    assert [words for words, _ in find_commands(parser)] == [("a",), ("b", "c")]


def test_defaults(tmp_path: Path) -> None:
    parsed = parse(tmp_path, "worker --layers 0:4")
    assert (parsed.rpc, parsed.threads, parsed.data_dir) == ("http://127.0.0.1:8545", 1, tmp_path)


def test_order_of_precedence(tmp_path: Path) -> None:
    config = 'rpc = "http://file"\n[worker]\nthreads = 2\nlayers = "0:1"\n'
    environ = {"EFEDLLM_RPC": "http://environment", "EFEDLLM_WORKER_THREADS": "3"}
    from_file = parse(tmp_path, "worker", config)
    assert (from_file.rpc, from_file.threads, from_file.layers) == ("http://file", 2, "0:1")
    from_environment = parse(tmp_path, "worker", config, **environ)
    assert (from_environment.rpc, from_environment.threads) == ("http://environment", 3)
    from_flags = parse(tmp_path, "worker --rpc http://flag --threads 4 --layers 5:6", config, **environ)
    assert (from_flags.rpc, from_flags.threads, from_flags.layers) == ("http://flag", 4, "5:6")


def test_data_dir_from_environment_holds_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "config.toml").write_text('rpc = "http://file"')
    parser = ArgumentParser()
    add_chain_options(parser.add_subparsers().add_parser("status"))
    apply_settings(parser, ["status"], {"EFEDLLM_DATA_DIR": "~/elsewhere"})
    parsed = parser.parse_args(["status"])
    assert (parsed.data_dir, parsed.rpc) == (folder, "http://file")


def test_table_of_a_nested_command(tmp_path: Path) -> None:
    assert parse(tmp_path, "channel open 5", "[channel.open]\nall = true\n").all is True
    assert parse(tmp_path, "channel open 5", "[channel.open]\nall = true\n", EFEDLLM_CHANNEL_OPEN_ALL="0").all is False


def test_password_file_is_a_path(tmp_path: Path) -> None:
    assert parse(tmp_path, "worker --layers 0:1", 'password_file = "secret.txt"').password_file == Path("secret.txt")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("rcp = 1", "unknown key rcp"),
        ("[worker]\nlayer = 1", "unknown key worker.layer"),
        ("[wroker]\nlayers = 1", "unknown key wroker"),
        ("[channel]\nall = true", "unknown key channel.all"),
        ("[worker.more]\nlayers = 1", "unknown key worker.more"),
        ("[worker]\njson = true", "unknown key worker.json"),
        ("data_dir = '/'", "unknown key data_dir"),
        ("[worker]\nlog_json = 'perhaps'", "expected true or false"),
        ("[worker]\nthreads = true", "expected one value"),
        ("[worker]\nlayers = ['0:1']", "expected one value"),
        ("[worker]\nmode = 'slow'", "'slow' is none of fast, exact"),
        ("rpc = [1]", "expected one value"),
        ("rpc", "cannot read"),
    ],
)
def test_file_is_refused(tmp_path: Path, config: str, message: str) -> None:
    """Also when another command runs: a misspelt option would silently do nothing."""
    with pytest.raises(SettingsError) as caught:
        parse(tmp_path, "channel open 5", config)
    assert message in str(caught.value)
    assert "config.toml" in str(caught.value)


def test_value_of_the_wrong_type_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(tmp_path, "worker --layers 0:1", "[worker]\nthreads = 'many'")
    assert "argument --threads: invalid int value: 'many'" in capsys.readouterr().err


def test_options_cannot_be_abbreviated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(tmp_path, "worker --layers 0:1 --data /elsewhere")
    assert "unrecognized arguments: --data" in capsys.readouterr().err


def test_password_comes_from_the_file_first(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("first line\nsecond line\n")
    environ = {"EFEDLLM_PASSWORD": "from environment"}
    assert password(Namespace(password_file=path), environ) == "first line"
    assert password(Namespace(password_file=None), environ) == "from environment"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "is empty"), (b"\nx", "is empty"), (b"\xff\xfe", "it is not text")],
)
def test_password_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OptionError, match=message):
        password(Namespace(password_file=path), {"EFEDLLM_PASSWORD": "not used"})


def test_password_is_missing() -> None:
    with pytest.raises(OptionError, match="pass --password-file FILE or set EFEDLLM_PASSWORD"):
        password(Namespace(password_file=None), {"EFEDLLM_PASSWORD": ""})
