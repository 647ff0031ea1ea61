"""Key files: made once, kept, opened with their password only."""

import json
import stat
from pathlib import Path

import pytest

from efedllm.chain.errors import KeyStoreError
from efedllm.chain.keys import KeyRole, KeyStore


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "data")


def test_create_load_list(store: KeyStore) -> None:
    made = [store.create(role, "secret", light=True) for role in (KeyRole.HOT, KeyRole.COLD)]
    assert store.list() == [made[1], made[0]]
    assert store.load(KeyRole.HOT, "secret").address == made[0].address
    assert made[0].address != made[1].address


def test_files_are_private_and_nothing_else_is_left(store: KeyStore) -> None:
    path = store.create(KeyRole.COLD, "secret", light=True).path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert [entry.name for entry in store.folder.iterdir()] == ["cold.json"]


def test_file_is_a_standard_keystore_without_the_key(store: KeyStore) -> None:
    path = store.create(KeyRole.COLD, "secret", light=True).path
    content = json.loads(path.read_text())
    assert (content["version"], content["crypto"]["kdf"], content["crypto"]["kdfparams"]["n"]) == (3, "scrypt", 4096)
    assert store.load(KeyRole.COLD, "secret").key.hex() not in path.read_text()


def test_create_keeps_an_existing_key(store: KeyStore) -> None:
    before = store.create(KeyRole.COLD, "secret", light=True)
    with pytest.raises(KeyStoreError, match="already: it is kept"):
        store.create(KeyRole.COLD, "other", light=True)
    assert store.load(KeyRole.COLD, "secret").address == before.address
    assert [entry.name for entry in store.folder.iterdir()] == ["cold.json"]


def test_wrong_password(store: KeyStore) -> None:
    store.create(KeyRole.COLD, "secret", light=True)
    with pytest.raises(KeyStoreError, match=r"wrong password for .*cold\.json"):
        store.load(KeyRole.COLD, "Secret")


def test_missing_key_says_what_to_run(store: KeyStore) -> None:
    with pytest.raises(KeyStoreError, match="run `efedllm keys new session`"):
        store.load(KeyRole.SESSION, "secret")
    assert store.list() == []


@pytest.mark.parametrize("content", ["", "{}", "[]", "not json", '{"address": "12", "version": 3}', "\xff"])
def test_damaged_file(store: KeyStore, content: str) -> None:
    path = store.create(KeyRole.COLD, "secret", light=True).path
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(KeyStoreError, match="not a keystore V3 file"):
        store.load(KeyRole.COLD, "secret")


def test_file_without_ciphertext(store: KeyStore) -> None:
    path = store.create(KeyRole.COLD, "secret", light=True).path
    content = json.loads(path.read_text())
    del content["crypto"]["ciphertext"]
    path.write_text(json.dumps(content))
    with pytest.raises(KeyStoreError, match="not a keystore V3 file"):
        store.load(KeyRole.COLD, "secret")


def test_exchanged_files_are_noticed(store: KeyStore) -> None:
    """A file whose address was edited would let a person fund an address that nobody owns."""
    cold = store.create(KeyRole.COLD, "secret", light=True)
    hot = store.create(KeyRole.HOT, "secret", light=True)
    cold.path.write_text(cold.path.read_text().replace(cold.address[2:], hot.address[2:]))
    with pytest.raises(KeyStoreError, match="but holds the key of"):
        store.load(KeyRole.COLD, "secret")


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyStoreError, match="cannot write"):
        KeyStore(tmp_path / "file").create(KeyRole.COLD, "secret", light=True)
