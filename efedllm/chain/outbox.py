"""What one key has under way, kept on disk: a program that is killed knows it when it starts again.

One file and one lock per chain and address, in the state directory. The lock keeps a second process from sending with
the same key. The file is written before a transaction leaves, and names every version of it that was sent; it is
forgotten once a confirmed block holds one of them. Of a local chain that was restarted nothing is left to send.
"""

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from efedllm.chain import answers
from efedllm.chain.errors import KeyInUse, OutboxError
from efedllm.chain.fees import Fees
from efedllm.chain.rpc import Identity
from efedllm.storage.errors import Held, StorageError
from efedllm.storage.files import replace as replace_file
from efedllm.storage.guard import ProgramLock

_VERSION = 1


@dataclass(frozen=True)
class Version:
    """A transaction as it was sent once."""

    hash: bytes
    fees: Fees


@dataclass(frozen=True)
class Sent:
    """One nonce: what it does, and every version that was sent.

    `to` is None for a creation; `first_block` was the newest when it was sent. `seen` says that whoever sent it knows
    what came of it; until then nobody may decide anything that depends on it.
    """

    nonce: int
    label: str
    to: str | None
    data: bytes
    value: int
    gas: int
    is_legacy: bool
    first_block: int
    versions: tuple[Version, ...] = ()
    seen: bool = False

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Newest first."""
        return tuple(version.hash for version in reversed(self.versions))

    def with_version(self, version: Version) -> "Sent":
        return replace(self, versions=(*self.versions, version))

    def as_seen(self) -> "Sent":
        return replace(self, seen=True)


@dataclass
class Outbox:
    """Made by `open`, which takes the lock; `close` gives it back. Senders of one process and key share it."""

    path: Path
    identity: Identity
    lock: ProgramLock
    sent: tuple[Sent, ...]
    users: int = field(default=1)

    _opened: ClassVar[dict[Path, "Outbox"]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def open(cls, folder: Path, identity: Identity, address: str) -> "Outbox":
        """Raises KeyInUse while another process has it, OutboxError where the disk refuses or the file is damaged."""
        path = folder / "keys" / f"{identity.chain_id}-{address.lower()}.json"
        with cls._guard:
            if (outbox := cls._opened.get(path)) is not None and outbox.identity == identity:
                outbox.users += 1
                return outbox
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = outbox.lock if outbox is not None else ProgramLock.take(path.with_suffix(".lock"))
            except Held as error:
                raise KeyInUse(address, error.pid) from error
            except (StorageError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise OutboxError(f"cannot lock the key of {address} in {path.parent}: {reason}") from error
            try:
                opened = cls(path, identity, lock, _read(path, identity))
            except BaseException:
                lock.release()
                raise
            cls._opened[path] = opened
            return opened

    def close(self) -> None:
        """To be called once by each that opened it."""
        with self._guard:
            self.users -= 1
            if self.users == 0 and self._opened.get(self.path) is self:
                del self._opened[self.path]
                self.lock.release()

    def put(self, sent: Sent) -> None:
        """Keep this about its nonce; on disk when it returns. Raises OutboxError."""
        with self._guard:
            self._keep([*(one for one in self.sent if one.nonce != sent.nonce), sent])

    def drop(self, nonces: Sequence[int]) -> None:
        """Nothing more is to be known about them. Raises OutboxError."""
        with self._guard:
            self._keep([one for one in self.sent if one.nonce not in nonces])

    def _keep(self, sent: Sequence[Sent]) -> None:
        ordered = tuple(sorted(sent, key=lambda one: one.nonce))
        content = {
            "version": _VERSION,
            "genesis": _hex(self.identity.genesis),
            "sent": [_plain(one) for one in ordered],
        }
        try:
            replace_file(self.path, json.dumps(content).encode())
        except OSError as error:
            raise OutboxError(
                f"cannot keep what is sent in {self.path} ({error.strerror}): free or repair the disk, then try again"
            ) from error
        self.sent = ordered


def _read(path: Path, identity: Identity) -> tuple[Sent, ...]:
    try:
        content = json.loads(path.read_bytes())
        if content["version"] != _VERSION:
            raise OutboxError(f"{path} was written by another version of this program: upgrade it")
        if answers.hash32(content["genesis"]) != identity.genesis:
            return ()
        return tuple(_sent(one) for one in content["sent"])
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise OutboxError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise OutboxError(
            f"{path} is damaged: delete it when none of this key's transactions is under way any more"
        ) from error


def _plain(sent: Sent) -> dict[str, Any]:
    versions = [{"hash": _hex(one.hash), **asdict(one.fees)} for one in sent.versions]
    return asdict(sent) | {"data": _hex(sent.data), "versions": versions}


def _sent(plain: dict[str, Any]) -> Sent:
    versions = tuple(
        Version(answers.hash32(one["hash"]), Fees(int(one["max_fee"]), int(one["tip"]))) for one in plain["versions"]
    )
    return Sent(**plain | {"data": answers.data(plain["data"]), "versions": versions})


def _hex(content: bytes) -> str:
    return "0x" + content.hex()
