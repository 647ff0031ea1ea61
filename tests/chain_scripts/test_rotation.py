"""keys rotate: a new key beside the old one, step by step, and what a crash in between leaves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.errors import KeyStoreError, Reverted
from efedllm.chain.keys import KeyRole, KeyState, KeyStore
from efedllm.chain.local import AnvilProcess
from efedllm.chain.rotation import settle_hot_key
from efedllm.chain.stake_registry import Participant
from tests.support.chain import WORK
from tests.support.cli import PASSWORD, Person
from tests.support.vouchers import give_voucher

People = Callable[[str], Person]
OnChain = Callable[[Callable[[Chain], Awaitable[Any]]], Any]


@pytest.fixture
def on_chain(anvil: AnvilProcess, deployment: Deployment) -> OnChain:
    def run(work: Callable[[Chain], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            async with await Chain.connect(anvil.url, deployment) as chain:
                return await work(chain)

        return asyncio.run(connected())

    return run


@pytest.fixture
def worker(person: People) -> Person:
    made = person("worker").with_keys()
    made.json("stake", "1000")
    return made


@pytest.fixture
def client(person: People, worker: Person) -> Person:
    made = person("client").with_keys(work="100")
    made.json("channel", "open", "30", worker.address)
    return made


def rotate(person: Person, *options: str) -> Any:
    return person.json("keys", "rotate", "--light", *options)


def addresses(person: Person, role: str) -> dict[str, list[str]]:
    """Of one role, by state."""
    found: dict[str, list[str]] = {}
    for key in person.run("keys", "list", "--json").json["keys"]:
        if key["role"] == role:
            found.setdefault(key["state"], []).append(key["address"])
    return found


# hot keys


def test_rotate_announces_then_takes_over(worker: Person, anvil: AnvilProcess, on_chain: OnChain) -> None:
    (old,) = addresses(worker, "hot")["used"]
    announced = rotate(worker)
    new = announced["hot_key"]
    assert announced["state"] == "announced" and new != old
    assert addresses(worker, "hot") == {"used": [old], "next": [new]}
    state: Participant = on_chain(lambda chain: chain.stakes.participant_of(worker.address))
    assert (state.hot_key, state.next_hot_key, state.next_hot_key_at) == (old, new, announced["effective_at"])
    assert rotate(worker) == announced, "asked again, it tells and makes nothing"

    anvil.increase_time(3)
    assert rotate(worker) == {"role": "hot", "state": "used", "hot_key": new, "effective_at": None}
    assert addresses(worker, "hot") == {"used": [new], "old": [old]}
    assert KeyStore(worker.data_dir).load(KeyRole.HOT, PASSWORD).address == new


def test_rotate_tells_people_when(worker: Person, anvil: AnvilProcess) -> None:
    text = worker.on_chain("keys", "rotate", "--light").out
    assert "signs from 20" in text and "restart the worker or verifier after that time" in text
    anvil.increase_time(3)
    assert "signs now" in worker.on_chain("keys", "rotate", "--light").out


def test_rotate_goes_on_with_the_key_of_a_crash(worker: Person, on_chain: OnChain) -> None:
    """The key was made and nothing was sent."""
    made = KeyStore(worker.data_dir).create_next(KeyRole.HOT, PASSWORD, light=True)
    assert rotate(worker)["hot_key"] == made.address
    state: Participant = on_chain(lambda chain: chain.stakes.participant_of(worker.address))
    assert state.next_hot_key == made.address
    assert len(addresses(worker, "hot")["next"]) == 1


def test_rotate_after_a_crash_while_taking_over(
    worker: Person, anvil: AnvilProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,), new = addresses(worker, "hot")["used"], rotate(worker)["hot_key"]
    anvil.increase_time(3)
    with monkeypatch.context() as crash:
        crash.setattr(os, "replace", lambda source, target: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        assert "cannot write" in worker.on_chain("keys", "rotate", "--light").err
    store = KeyStore(worker.data_dir)
    assert store.find(KeyRole.HOT).address == old, "there is always one in use"
    assert rotate(worker)["state"] == "used"
    assert store.find(KeyRole.HOT).address == new


def test_rotate_again_puts_another_in_place_of_an_announced_key(
    worker: Person, anvil: AnvilProcess, on_chain: OnChain
) -> None:
    (old,), lost = addresses(worker, "hot")["used"], rotate(worker)["hot_key"]
    new = rotate(worker, "--again")["hot_key"]
    assert addresses(worker, "hot") == {"used": [old], "next": [new], "old": [lost]}
    anvil.increase_time(3)
    assert on_chain(lambda chain: chain.stakes.hot_key_of(worker.address)) == new
    assert not on_chain(lambda chain: chain.stakes.ever_hot_key_of(worker.address, lost))


def test_programs_start_with_the_key_that_counts(worker: Person, anvil: AnvilProcess, on_chain: OnChain) -> None:
    new, store = rotate(worker)["hot_key"], KeyStore(worker.data_dir)
    assert on_chain(lambda chain: settle_hot_key(chain, store)) is False
    anvil.increase_time(3)
    assert on_chain(lambda chain: settle_hot_key(chain, store)) is True
    assert store.find(KeyRole.HOT).address == new
    assert on_chain(lambda chain: settle_hot_key(chain, store)) is False


def test_rotate_of_a_stranger_is_refused(person: People) -> None:
    stranger = person("stranger").with_keys()
    result = stranger.on_chain("keys", "rotate", "--light")
    assert result.code == 1 and "is not registered" in result.err
    assert "next" not in addresses(stranger, "hot")


def test_one_password_opens_all_keys(worker: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFEDLLM_PASSWORD", "another")
    result = worker.on_chain("keys", "rotate", "--light")
    assert result.code == 1 and "wrong password" in result.err
    assert "next" not in addresses(worker, "hot")


def test_what_was_earned_with_the_old_key_is_claimed_after_the_rotation(
    worker: Person, client: Person, deployment: Deployment, anvil: AnvilProcess
) -> None:
    give_voucher(client, worker, deployment, WORK)
    result = worker.on_chain("keys", "rotate", "--light")
    assert "none of the chain's coin" in result.out
    new = KeyStore(worker.data_dir).find_next(KeyRole.HOT).address
    worker.json("fund", new, "--work", "0")
    assert "none of the chain's coin" not in worker.on_chain("keys", "rotate", "--light").out
    anvil.increase_time(3)
    rotate(worker)
    assert worker.json("claim")["claimed"] == str(WORK)


# session keys


def test_rotate_session_closes_the_channels_of_the_old_key(
    client: Person, worker: Person, deployment: Deployment, anvil: AnvilProcess
) -> None:
    give_voucher(client, worker, deployment, 4 * WORK)
    (old,) = addresses(client, "session")["used"]
    done = rotate(client, "--role", "session")
    new = done["session_key"]
    assert done["is_new"] and new != old
    assert addresses(client, "session") == {"used": [new], "old": [old]}
    (closing,) = done["closing"]
    assert (closing["session_key"], closing["worker"], closing["left"]) == (old, worker.address, str(30 * WORK))

    again = rotate(client, "--role", "session")
    assert (again["session_key"], again["is_new"], again["refund"]) == (new, False, "0")
    client.json("channel", "open", "10", worker.address)
    assert worker.json("claim")["claimed"] == str(4 * WORK), "what was signed is paid"

    anvil.increase_time(deployment.parameters.withdrawal_delay_seconds + 1)
    last = rotate(client, "--role", "session")
    assert (last["session_key"], last["is_new"]) == (new, False)
    assert (last["refund"], last["closing"]) == (str(26 * WORK), [])
    channels = {entry["session_key"]: entry for entry in client.json("channel", "list")["channels"]}
    assert (channels[new]["deposit"], channels[new]["closing_at"]) == (str(10 * WORK), None)
    assert client.json("status")["own"]["work"] == str(86 * WORK)


@pytest.mark.parametrize("closed_already", [False, True])
def test_rotate_session_goes_on_after_a_crash(client: Person, worker: Person, closed_already: bool) -> None:
    made = KeyStore(client.data_dir).create_next(KeyRole.SESSION, PASSWORD, light=True)
    if closed_already:
        client.json("channel", "close", worker.address)
    done = rotate(client, "--role", "session")
    assert (done["session_key"], done["is_new"], len(done["closing"])) == (made.address, True, 1)
    assert rotate(client, "--role", "session")["session_key"] == made.address


def test_rotate_session_without_channels(person: People) -> None:
    client = person("client").with_keys()
    first = rotate(client, "--role", "session")
    second = rotate(client, "--role", "session")
    assert first["is_new"] and second["is_new"] and first["session_key"] != second["session_key"]


def test_rotate_session_again_while_the_last_one_closes(client: Person) -> None:
    first = rotate(client, "--role", "session")["session_key"]
    done = rotate(client, "--role", "session", "--again")
    assert done["is_new"] and done["session_key"] != first
    assert len(addresses(client, "session")["old"]) == 2


def test_a_clients_money_needs_the_cold_key_alone(
    client: Person, worker: Person, deployment: Deployment, anvil: AnvilProcess, on_chain: OnChain
) -> None:
    store = KeyStore(client.data_dir)
    session, cold = store.load(KeyRole.SESSION, PASSWORD), store.load(KeyRole.COLD, PASSWORD)
    store.path(KeyRole.SESSION).unlink()
    delay = deployment.parameters.withdrawal_delay_seconds

    async def with_the_session_key(chain: Chain) -> None:
        anvil.rpc("anvil_setBalance", session.address, hex(WORK))
        with pytest.raises(Reverted, match="NoChannel"):
            await chain.sender(session).send(chain.channels.request_close(session.address, [worker.address]))

    async def with_the_cold_key(chain: Chain) -> None:
        sender = chain.sender(cold)
        await sender.send(chain.channels.request_close(session.address, [worker.address]))
        anvil.increase_time(delay + 1)
        await sender.send(chain.channels.finish_close(session.address, [worker.address]))

    on_chain(with_the_session_key)
    on_chain(with_the_cold_key)
    assert client.json("status")["own"]["work"] == str(100 * WORK)


# the store


def test_a_next_key_is_made_once(client: Person) -> None:
    store = KeyStore(client.data_dir)
    store.create_next(KeyRole.SESSION, PASSWORD, light=True)
    with pytest.raises(KeyStoreError, match="it is kept as it is"):
        store.create_next(KeyRole.SESSION, PASSWORD, light=True)
    assert [key.state for key in store.list_all()].count(KeyState.NEXT) == 1
    assert oct(store.next_path(KeyRole.SESSION).stat().st_mode & 0o777) == "0o600"
