"""Private keys at rest: one keystore V3 file per role in `DATA_DIR/keys`.

While a key is being rotated, `<role>.next.json` lies beside `<role>.json`; keys that were replaced stay in
`<role>-<address>.json`, since nothing that can sign is ever thrown away.

The cold key owns stake and earnings, or pays as a client; the hot key signs receipts; the session key signs requests
and vouchers. A key exists in memory only while a program that needs it runs, and never in arguments or logs.
"""

import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_keyfile.exceptions import EthKeyfileException
from eth_utils.address import is_address, to_checksum_address

from efedllm.chain.errors import KeyStoreError

# Work factor n of scrypt. The standard one costs a second and 256 MB per use; the light one is for throw-away keys.
SCRYPT_STANDARD = 1 << 18
SCRYPT_LIGHT = 1 << 12


class KeyRole(StrEnum):
    COLD = "cold"
    HOT = "hot"
    SESSION = "session"


class KeyState(StrEnum):
    USED = "used"
    NEXT = "next"
    OLD = "old"


@dataclass(frozen=True)
class KeyFile:
    """A key that lies in the store; reading its address takes no password."""

    role: KeyRole
    address: str
    path: Path
    state: KeyState = KeyState.USED


class KeyStore:
    """The key files of one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "keys"

    def path(self, role: KeyRole) -> Path:
        return self.folder / f"{role}.json"

    def has(self, role: KeyRole) -> bool:
        return self.path(role).exists()

    def list(self) -> list[KeyFile]:
        """All keys in use, in the order of the roles."""
        return [self.find(role) for role in KeyRole if self.has(role)]

    def list_all(self) -> tuple[KeyFile, ...]:
        """All keys, those that are next and those that were replaced behind the one in use."""
        found: list[KeyFile] = []
        for role in KeyRole:
            found += [self.find(role)] if self.has(role) else []
            found += [self.find_next(role)] if self.has_next(role) else []
            for path in sorted(self.folder.glob(f"{role}-0x*.json")):
                found.append(KeyFile(role, _address(self._read(role, path), path), path, KeyState.OLD))
        return tuple(found)

    def find(self, role: KeyRole) -> KeyFile:
        """Address and place of a key. Raises KeyStoreError if it is missing or no key file."""
        return KeyFile(role, _address(self._read(role, self.path(role)), self.path(role)), self.path(role))

    def create(self, role: KeyRole, password: str, light: bool = False) -> KeyFile:
        """A new random key. Raises KeyStoreError if there is one already: a key is never overwritten."""
        path = self.path(role)
        return KeyFile(role, self._create(role, path, password, light), path)

    def load(self, role: KeyRole, password: str) -> LocalAccount:
        """The key itself. Raises KeyStoreError if it is missing, damaged, or the password is not its own."""
        return self._load(role, self.path(role), password)

    # rotation

    def next_path(self, role: KeyRole) -> Path:
        return self.folder / f"{role}.next.json"

    def has_next(self, role: KeyRole) -> bool:
        return self.next_path(role).exists()

    def find_next(self, role: KeyRole) -> KeyFile:
        """The key that is to take the place of the one in use. Raises KeyStoreError if there is none."""
        path = self.next_path(role)
        return KeyFile(role, _address(self._read(role, path), path), path, KeyState.NEXT)

    def create_next(self, role: KeyRole, password: str, light: bool = False) -> KeyFile:
        """Raises KeyStoreError also if the password is not that of the key in use: one password opens them all."""
        self.load(role, password)
        path = self.next_path(role)
        return KeyFile(role, self._create(role, path, password, light), path, KeyState.NEXT)

    def promote_next(self, role: KeyRole) -> KeyFile:
        """The next key is the one in use from now on. At every moment there is one in use, so a crash in between costs
        nothing: this is called again."""
        following, present = self.find_next(role), self.find(role)
        try:
            self._keep_old(present)
            os.replace(following.path, present.path)
            _sync(self.folder)
        except OSError as error:
            raise KeyStoreError(f"cannot write {present.path}: {error.strerror}") from error
        return self.find(role)

    def withdraw_next(self, role: KeyRole) -> None:
        """The next key is put aside: another one takes its place."""
        following = self.find_next(role)
        try:
            self._keep_old(following)
            following.path.unlink()
            _sync(self.folder)
        except OSError as error:
            raise KeyStoreError(f"cannot write {following.path}: {error.strerror}") from error

    def _keep_old(self, key: KeyFile) -> None:
        old = self.folder / f"{key.role}-{key.address}.json"
        if not old.exists():
            os.link(key.path, old)

    def _create(self, role: KeyRole, path: Path, password: str, light: bool) -> str:
        account: LocalAccount = Account.from_key(secrets.token_bytes(32))
        content = Account.encrypt(
            account.key, password, kdf="scrypt", iterations=SCRYPT_LIGHT if light else SCRYPT_STANDARD
        )
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_new(path, json.dumps(content).encode())
        except FileExistsError as error:
            raise KeyStoreError(f"there is a {role} key in {path} already: it is kept as it is") from error
        except OSError as error:
            raise KeyStoreError(f"cannot write {path}: {error.strerror}") from error
        return str(account.address)

    def _load(self, role: KeyRole, path: Path, password: str) -> LocalAccount:
        content = self._read(role, path)
        address = _address(content, path)
        try:
            account: LocalAccount = Account.from_key(Account.decrypt(content, password))
        except (EthKeyfileException, ValueError) as error:
            raise KeyStoreError(f"wrong password for {path}") from error
        except (KeyError, TypeError) as error:
            raise KeyStoreError(f"{path} is not a keystore V3 file: restore it from a backup") from error
        if account.address != address:
            raise KeyStoreError(f"{path} names {address} but holds the key of {account.address}: restore it")
        return account

    def _read(self, role: KeyRole, path: Path) -> dict[str, object]:
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise KeyStoreError(f"no {role} key in {self.folder}: run `efedllm keys new {role}`") from error
        except OSError as error:
            raise KeyStoreError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise KeyStoreError(f"{path} is not a keystore V3 file: restore it from a backup") from error
        if not isinstance(content, dict):
            raise KeyStoreError(f"{path} is not a keystore V3 file: restore it from a backup")
        return content


def _address(content: Mapping[str, object], path: Path) -> str:
    address = content.get("address")
    if not isinstance(address, str) or not is_address(address):
        raise KeyStoreError(f"{path} is not a keystore V3 file: restore it from a backup")
    return to_checksum_address(address)


def _write_new(path: Path, content: bytes) -> None:
    """Create `path` with mode 0600 and all of `content`, or not at all. Raises FileExistsError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # created with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename, refuses to replace a key that appeared meanwhile
    finally:
        os.unlink(temporary)
    _sync(path.parent)


def _sync(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
