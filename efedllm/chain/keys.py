"""Private keys at rest: one keystore V3 file per role in `DATA_DIR/keys`.

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


@dataclass(frozen=True)
class KeyFile:
    """A key that lies in the store; reading its address takes no password."""

    role: KeyRole
    address: str
    path: Path


class KeyStore:
    """The key files of one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "keys"

    def path(self, role: KeyRole) -> Path:
        return self.folder / f"{role}.json"

    def has(self, role: KeyRole) -> bool:
        return self.path(role).exists()

    def list(self) -> list[KeyFile]:
        """All keys present, in the order of the roles."""
        return [self.find(role) for role in KeyRole if self.has(role)]

    def find(self, role: KeyRole) -> KeyFile:
        """Address and place of a key. Raises KeyStoreError if it is missing or no key file."""
        return KeyFile(role, _address(self._read(role), self.path(role)), self.path(role))

    def create(self, role: KeyRole, password: str, light: bool = False) -> KeyFile:
        """A new random key. Raises KeyStoreError if there is one already: a key is never overwritten."""
        path = self.path(role)
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
        return KeyFile(role, account.address, path)

    def load(self, role: KeyRole, password: str) -> LocalAccount:
        """The key itself. Raises KeyStoreError if it is missing, damaged, or the password is not its own."""
        content, path = self._read(role), self.path(role)
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

    def _read(self, role: KeyRole) -> dict[str, object]:
        path = self.path(role)
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
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
