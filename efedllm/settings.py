"""Options from elsewhere: flags win over the environment, the environment over `config.toml` in --data-dir.

The file holds common options at its top and those of one command in a table of the command's name:

    rpc = "https://rpc.example.org"

    [worker]
    layers = "0:8"

    [channel.open]
    ...

A variable is named after the same path: EFEDLLM_RPC, EFEDLLM_WORKER_LAYERS. The file is checked as a whole: a key that
no command knows is an error, since a misspelt option would silently do nothing.
"""

import argparse
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from efedllm.errors import EfedllmError
from efedllm.options import DEFAULT_DATA_DIR, folder

CONFIG_FILE = "config.toml"
# Settings that everybody shares; the file's own place and the form of the output are no settings.
COMMON = frozenset({"rpc", "deployment", "password_file", "max_gas_price"})
_NO_SETTINGS = frozenset({"help", "json", "data_dir"})

Commands = Mapping[tuple[str, ...], argparse.ArgumentParser]


class SettingsError(EfedllmError):
    """`config.toml` or a variable that cannot be used."""


def apply_settings(parser: argparse.ArgumentParser, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Turn settings into the options' defaults, before `parser` parses `arguments`. Raises SettingsError."""
    commands = dict(find_commands(parser))
    for command in commands.values():
        command.allow_abbrev = False  # else `--data` would be understood below, but not by `_data_dir`
    data_dir = _data_dir(arguments, environ)
    _apply_file(commands, data_dir / CONFIG_FILE)
    for words, command in commands.items():
        for action in _options(command):
            names = [_variable(*words, action.dest)] + [_variable(action.dest)] * (action.dest in COMMON)
            for name in names:
                if environ.get(name):
                    _set(command, action, environ[name], name)
                    break
        command.set_defaults(**({"data_dir": data_dir} if "data_dir" in _destinations(command) else {}))


def find_commands(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """All commands that have no further ones below them, by the words that call them."""
    nested = subcommands(parser)
    if nested is None:
        yield words, parser
        return
    for name, command in nested.choices.items():
        yield from find_commands(command, (*words, name))


def subcommands(parser: argparse.ArgumentParser) -> "argparse._SubParsersAction[argparse.ArgumentParser] | None":
    return next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)


def _data_dir(arguments: Sequence[str], environ: Mapping[str, str]) -> Path:
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--data-dir", type=folder)
    given: Path | None = early.parse_known_args(arguments)[0].data_dir
    return given or folder(environ.get("EFEDLLM_DATA_DIR") or DEFAULT_DATA_DIR)


def _apply_file(commands: Commands, path: Path) -> None:
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    for key, value in content.items():
        if key in COMMON:
            for command in commands.values():
                for action in _options(command):
                    if action.dest == key:
                        _set(command, action, value, f"{path}: {key}")
    _apply_table(commands, {key: value for key, value in content.items() if key not in COMMON}, (), path)


def _apply_table(commands: Commands, content: Mapping[str, Any], words: tuple[str, ...], path: Path) -> None:
    command = commands.get(words)
    options = {action.dest: action for action in _options(command)} if command is not None else {}
    for key, value in content.items():
        name = ".".join((*words, key))
        if command is not None and key in options:
            _set(command, options[key], value, f"{path}: {name}")
        elif isinstance(value, dict) and any(known[: len(words) + 1] == (*words, key) for known in commands):
            _apply_table(commands, value, (*words, key), path)
        else:
            raise SettingsError(f"{path}: unknown key {name}")


def _set(command: argparse.ArgumentParser, action: argparse.Action, value: object, where: str) -> None:
    """Make `value` the option's default; argparse converts a default that is text as if it had been typed."""
    if action.nargs == 0:
        if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
            value = value.lower() in ("true", "1")
        if not isinstance(value, bool):
            raise SettingsError(f"{where}: expected true or false")
    elif isinstance(value, bool | dict | list):
        raise SettingsError(f"{where}: expected one value")
    else:
        value = str(value)
        if action.choices is not None and value not in action.choices:
            raise SettingsError(f"{where}: {value!r} is none of {', '.join(map(str, action.choices))}")
    command.set_defaults(**{action.dest: value})
    action.required = False


def _options(command: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in command._actions if action.option_strings and action.dest not in _NO_SETTINGS]


def _destinations(command: argparse.ArgumentParser) -> set[str]:
    return {action.dest for action in command._actions}


def _variable(*words: str) -> str:
    return "_".join(("EFEDLLM", *words)).upper().replace("-", "_")
