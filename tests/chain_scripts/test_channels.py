"""channel open, topup, close, list; claim; withdraw earnings: money from a client to a worker."""

import asyncio
from collections.abc import Callable

from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from tests.support.chain import WORK
from tests.support.cli import Person
from tests.support.registry import register_model, serve
from tests.support.vouchers import give_voucher

People = Callable[[str], Person]


def test_open_takes_the_deposit(client: Person, worker: Person) -> None:
    channel = client.json("channel", "open", "30", worker.address)["channels"][0]
    assert (channel["worker"], channel["deposit"], channel["claimed"]) == (worker.address, str(30 * WORK), "0")
    assert client.json("status")["own"]["work"] == str(70 * WORK)


def test_open_makes_a_missing_session_key(person: People, worker: Person) -> None:
    client = person("client")
    client.run("keys", "new", "cold", "--light")
    client.on_chain("fund", "--work", "5")
    result = client.on_chain("channel", "open", "5", worker.address)
    assert result.code == 0
    assert "made a session key" in result.err
    assert len(client.json("channel", "list")["channels"]) == 1


def test_open_twice_is_refused(client: Person, worker: Person) -> None:
    client.json("channel", "open", "1", worker.address)
    result = client.on_chain("channel", "open", "1", worker.address)
    assert result.code == 1
    assert "run `efedllm channel topup`" in result.err


def test_open_with_a_stranger_is_refused(client: Person) -> None:
    result = client.on_chain("channel", "open", "1", client.address)
    assert result.code == 1
    assert "is not an active worker" in result.err


def test_open_names_nobody(client: Person) -> None:
    assert client.on_chain("channel", "open", "1").code == 2


def test_open_with_a_malformed_address(client: Person) -> None:
    result = client.on_chain("channel", "open", "1", "0x123")
    assert result.code == 1
    assert "'0x123' is not an address" in result.err


def test_open_all_without_workers(client: Person) -> None:
    result = client.on_chain("channel", "open", "1", "--all")
    assert result.code == 1
    assert "no worker offers a service" in result.err


def test_open_all_takes_those_that_serve(
    client: Person, worker: Person, person: People, anvil: AnvilProcess, deployment: Deployment
) -> None:
    idle = person("idle").with_keys()
    idle.json("stake", "1")

    async def offer() -> None:
        async with await Chain.connect(anvil.url, deployment) as chain:
            await register_model(chain, worker)
            await serve(chain, worker, 0, 8)

    asyncio.run(offer())
    opened = client.json("channel", "open", "2", "--all")["channels"]
    assert [channel["worker"] for channel in opened] == [worker.address]


def test_topup_adds_to_the_deposit(client: Person, worker: Person) -> None:
    client.json("channel", "open", "1", worker.address)
    topped_up = client.json("channel", "topup", "0.5", "--all")["channels"][0]
    assert topped_up["deposit"] == str(WORK * 3 // 2)


def test_topup_without_channel(client: Person, worker: Person) -> None:
    result = client.on_chain("channel", "topup", "1", worker.address)
    assert result.code == 1
    assert "run `efedllm channel open`" in result.err


def test_list_is_empty_at_first(client: Person) -> None:
    assert client.json("channel", "list") == {"payer": client.address, "channels": []}


def test_close_gives_back_the_rest_after_the_delay(
    client: Person, worker: Person, anvil: AnvilProcess, deployment: Deployment
) -> None:
    client.json("channel", "open", "30", worker.address)
    closing = client.json("channel", "close", worker.address)
    assert closing["refund"] == "0"
    assert closing["channels"][0]["closing_at"] is not None

    waiting = client.on_chain("channel", "close", "--all")
    assert waiting.code == 0
    assert "run this again after" in waiting.out

    give_voucher(client, worker, deployment, 7 * WORK)
    assert worker.json("claim")["claimed"] == str(7 * WORK)

    anvil.increase_time(11)
    closed = client.json("channel", "close", "--all")
    assert closed["refund"] == str(23 * WORK)
    assert closed["channels"][0]["deposit"] == "0"
    assert client.json("channel", "list")["channels"][0]["epoch"] == 1


def test_close_without_channel(client: Person, worker: Person) -> None:
    result = client.on_chain("channel", "close", worker.address)
    assert result.code == 1
    assert f"no channel with {worker.address}" in result.err


def test_claim_release_and_withdraw(
    client: Person, worker: Person, anvil: AnvilProcess, deployment: Deployment
) -> None:
    client.json("channel", "open", "30", worker.address)
    give_voucher(client, worker, deployment, 5 * WORK)
    first = worker.json("claim")
    assert (first["claimed"], first["pending"]) == (str(5 * WORK), str(5 * WORK))
    early = worker.on_chain("withdraw", "earnings")
    assert early.code == 1
    assert "no earnings to withdraw yet: 5 WORK pending, releasable 20" in early.err
    assert worker.json("claim")["claims"] == []

    give_voucher(client, worker, deployment, 9 * WORK)
    second = worker.json("claim", "--key", "hot")
    assert second["claims"] == [{"index": 1, "amount": str(4 * WORK)}]

    anvil.increase_time(6)
    paid = worker.json("withdraw", "earnings", "--to", client.address)
    assert (paid["withdrawn"], paid["released_claims"], paid["pending"]) == (str(9 * WORK), [0, 1], "0")
    assert client.json("status")["own"]["work"] == str(79 * WORK)
    assert client.json("channel", "list")["channels"][0]["left"] == str(21 * WORK)


def test_claim_beyond_the_deposit_takes_what_is_there(client: Person, worker: Person, deployment: Deployment) -> None:
    client.json("channel", "open", "2", worker.address)
    give_voucher(client, worker, deployment, 3 * WORK)
    assert worker.json("claim")["claimed"] == str(2 * WORK)
    assert worker.json("claim")["claims"] == []


def test_claim_without_a_store(worker: Person) -> None:
    result = worker.on_chain("claim")
    assert result.code == 1
    assert "no worker has served from" in result.err


def test_withdraw_releases_a_claim_that_was_passed_over(
    client: Person, worker: Person, anvil: AnvilProcess, deployment: Deployment, person: People
) -> None:
    """The stake covers 100 per window: the first claim has to wait for the unbonding period, later ones do not."""
    rich = person("rich").with_keys(work="1000")
    rich.json("channel", "open", "900", worker.address)
    client.json("channel", "open", "30", worker.address)
    give_voucher(rich, worker, deployment, 500 * WORK)
    worker.json("claim")
    give_voucher(client, worker, deployment, 5 * WORK)
    assert worker.json("claim")["claims"][0]["index"] == 1

    anvil.increase_time(6)
    assert worker.json("withdraw", "earnings")["released_claims"] == [1]
    anvil.increase_time(20)
    assert worker.json("withdraw", "earnings")["withdrawn"] == str(500 * WORK)
