"""`efedllm keys new|list`: the keys of a data directory."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from efedllm.options import add_data_dir_option, add_json_option, add_password_option, emit, password, table

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.keys import KeyFile

_ROLES = ("cold", "hot", "session")


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser("keys", help="make and list keys")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    new = commands.add_parser(
        "new",
        help="make keys that are not there yet",
        description="Make keys: cold owns stake and money, hot signs a worker's receipts, session a client's requests.",
    )
    new.add_argument("roles", nargs="*", metavar="ROLE", help=f"{', '.join(_ROLES)} (default: those that are missing)")
    new.add_argument("--light", action="store_true", help="weaker but faster password hashing, for throw-away keys")
    add_data_dir_option(new)
    add_password_option(new)
    add_json_option(new)
    new.set_defaults(run=run_new)

    show = commands.add_parser("list", help="show the keys' addresses; needs no password")
    add_data_dir_option(show)
    add_json_option(show)
    show.set_defaults(run=run_list)


def run_new(arguments: Namespace) -> int:
    from efedllm.chain.errors import KeyStoreError
    from efedllm.chain.keys import KeyRole, KeyStore

    store = KeyStore(arguments.data_dir)
    if unknown := [role for role in arguments.roles if role not in _ROLES]:
        raise KeyStoreError(f"no such role: {unknown[0]}; there are {', '.join(_ROLES)}")
    roles = [KeyRole(role) for role in arguments.roles] or [role for role in KeyRole if not store.has(role)]
    secret = password(arguments)
    _show(arguments, [store.create(role, secret, arguments.light) for role in roles], "all keys are there already")
    return 0


def run_list(arguments: Namespace) -> int:
    from efedllm.chain.keys import KeyStore

    store = KeyStore(arguments.data_dir)
    _show(arguments, store.list(), f"no keys in {store.folder}: run `efedllm keys new`")
    return 0


def _show(arguments: Namespace, keys: list[KeyFile], nothing: str) -> None:
    rows = [(key.role, key.address, key.path) for key in keys]
    result = {"keys": [{"role": role, "address": address, "path": str(path)} for role, address, path in rows]}
    emit(arguments, result, table(("role", "address", "file"), rows) if rows else nothing)
