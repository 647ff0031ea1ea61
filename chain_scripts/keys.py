"""`efedllm keys new|list|rotate`: the keys of a data directory."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING

from efedllm.options import (
    add_data_dir_option,
    add_json_option,
    add_key_options,
    add_password_option,
    emit,
    password,
    table,
)

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Iterable

    from efedllm.chain.keys import KeyFile

_ROLES = ("cold", "hot", "session")
_ROTATE = """\
Put a new key in the place of one that signs every day. The cold key, which owns stake and money, decides; so it never
needs to be rotated, and whoever steals a hot or a session key can do no more than that key.

hot      The new key is announced on chain and signs after a delay; the old one signs until then. What it signed stays
         valid. Restart the worker or the verifier after that time: it then takes the new key by itself.
session  New requests use the new key and need new channels. The channels of the old one are closed; run this again
         after the delay to get back what workers have not claimed.

After a crash, or to see how far it is, run it again: it goes on where it was, and makes no other key.
"""


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    parser = subparsers.add_parser("keys", help="make, list and rotate keys")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    new = commands.add_parser(
        "new",
        help="make keys that are not there yet",
        description="Make keys: cold owns stake and money, hot signs a worker's receipts, session a client's requests.",
    )
    new.add_argument("roles", nargs="*", metavar="ROLE", help=f"{', '.join(_ROLES)} (default: those that are missing)")
    _add_light(new)
    add_data_dir_option(new)
    add_password_option(new)
    add_json_option(new)
    new.set_defaults(run=run_new)

    show = commands.add_parser("list", help="show the keys' addresses; needs no password")
    add_data_dir_option(show)
    add_json_option(show)
    show.set_defaults(run=run_list)

    rotate = commands.add_parser(
        "rotate",
        help="put a new hot or session key in the place of the old one",
        description=_ROTATE,
        formatter_class=RawDescriptionHelpFormatter,
    )
    rotate.add_argument("--role", choices=("hot", "session"), default="hot", help="(default: hot)")
    rotate.add_argument(
        "--again", action="store_true", help="make another key although the last one is still under way"
    )
    _add_light(rotate)
    add_key_options(rotate)
    rotate.set_defaults(run=run_rotate)


def _add_light(parser: ArgumentParser) -> None:
    parser.add_argument("--light", action="store_true", help="weaker but faster password hashing, for throw-away keys")


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
    _show(arguments, store.list_all(), f"no keys in {store.folder}: run `efedllm keys new`")
    return 0


def run_rotate(arguments: Namespace) -> int:
    from .network import run_on_chain
    from .rotate import rotate_hot, rotate_session

    return run_on_chain(arguments, rotate_hot if arguments.role == "hot" else rotate_session)


def _show(arguments: Namespace, keys: Iterable[KeyFile], nothing: str) -> None:
    rows = [(key.role, key.state, key.address, key.path) for key in keys]
    result = {
        "keys": [
            {"role": role, "state": state, "address": address, "path": str(path)} for role, state, address, path in rows
        ]
    }
    emit(arguments, result, table(("role", "state", "address", "file"), rows) if rows else nothing)
