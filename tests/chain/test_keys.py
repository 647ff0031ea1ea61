"""Key files: made once, kept, opened with their password only."""

import json
import logging
import stat
from pathlib import Path

import pytest
from eth_account import Account

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


def test_standard_parameters_and_any_other_program_can_read_it(store: KeyStore) -> None:
    """Keystore V3 with the full work factor, as wallets write it."""
    key = store.create(KeyRole.COLD, "sécret")
    content = json.loads(key.path.read_text())
    crypto = content["crypto"]
    assert (content["version"], content["address"].lower()) == (3, key.address[2:].lower())
    assert (crypto["kdf"], crypto["cipher"]) == ("scrypt", "aes-128-ctr")
    assert (crypto["kdfparams"]["n"], crypto["kdfparams"]["dklen"]) == (1 << 18, 32)
    assert Account.from_key(Account.decrypt(content, "sécret")).address == key.address


def test_every_role_has_a_key_of_its_own(store: KeyStore) -> None:
    """Separate files and passwords: who holds one key holds no other."""
    made = {role: store.create(role, f"secret of {role}", light=True) for role in KeyRole}
    assert len({key.address for key in made.values()}) == len({key.path for key in made.values()}) == len(KeyRole) == 3
    for role, key in made.items():
        assert stat.S_IMODE(key.path.stat().st_mode) == 0o600
        assert store.load(role, f"secret of {role}").address == key.address
        for other in set(KeyRole) - {role}:
            with pytest.raises(KeyStoreError, match="wrong password"):
                store.load(role, f"secret of {other}")


def test_nothing_secret_is_logged_or_told(store: KeyStore, caplog: pytest.LogCaptureFixture) -> None:
    """At the finest level of every logger, and in the messages of what goes wrong: one line, no password, no key."""
    caplog.set_level(logging.DEBUG)
    store.create(KeyRole.HOT, "open sesame", light=True)
    account = store.load(KeyRole.HOT, "open sesame")
    account.sign_transaction({"to": account.address, "value": 1, "gas": 1, "gasPrice": 1, "nonce": 0, "chainId": 1})
    with pytest.raises(KeyStoreError) as caught:
        store.load(KeyRole.HOT, "open barley")
    told = [caplog.text, str(caught.value), repr(caught.value), repr(store.find(KeyRole.HOT)), repr(account)]
    for text in told:
        assert bytes(account.key).hex() not in text.lower()
        assert "sesame" not in text
        assert "barley" not in text
    assert "\n" not in str(caught.value)


def test_reading_an_address_takes_no_password(store: KeyStore) -> None:
    made = store.create(KeyRole.COLD, "secret", light=True)
    assert store.find(KeyRole.COLD).address == made.address
