"""channel tend: what a client's channels need while nobody asks anything."""

import asyncio

from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from tests.support.chain import WORK
from tests.support.cli import Person
from tests.support.registry import register_model, serve
from tests.support.vouchers import give_voucher


def test_nothing_to_do(client: Person, worker: Person) -> None:
    assert client.on_chain("channel", "tend").out == "nothing to do\n"
    client.json("channel", "open", "30", worker.address)
    assert client.on_chain("channel", "tend").out == "nothing to do\n"


def test_channels_without_use_come_back(
    client: Person, worker: Person, anvil: AnvilProcess, deployment: Deployment
) -> None:
    client.json("channel", "open", "30", worker.address)
    give_voucher(client, worker, deployment, 7 * WORK)
    closing = client.json("channel", "tend", "--idle-days", "0")
    assert (closing["closing"], closing["closed"], closing["refund"]) == ([worker.address], [], "0")
    assert client.json("channel", "tend", "--idle-days", "0")["closing"] == []
    worker.json("claim")
    anvil.increase_time(11)
    closed = client.json("channel", "tend")
    assert (closed["closed"], closed["refund"]) == ([worker.address], str(23 * WORK))
    assert client.on_chain("channel", "tend").out == "nothing to do\n"


def test_channels_in_use_are_filled_up_within_the_budget(
    client: Person, worker: Person, anvil: AnvilProcess, deployment: Deployment
) -> None:
    async def offer() -> None:
        async with await Chain.connect(anvil.url, deployment) as chain:
            await register_model(chain, worker)
            await serve(chain, worker, 0, 8)

    asyncio.run(offer())
    client.json("channel", "open", "30", worker.address)
    options = ("--deposit", "25", "--budget", "60")
    filled = client.json("channel", "tend", "--low-water", "40", *options)
    assert filled["topped_up"] == [{"worker": worker.address, "amount": str(25 * WORK)}]
    assert client.json("channel", "tend", "--low-water", "40", *options)["topped_up"] == []
    short = client.on_chain("channel", "tend", "--low-water", "60", *options)
    assert short.code == 1
    assert f"need {25 * WORK} base units more than the balance or budget allows" in short.err
    assert client.json("channel", "list")["channels"][0]["deposit"] == str(55 * WORK)


def test_a_worker_that_is_gone_and_was_paid_is_no_problem(
    client: Person, worker: Person, anvil: AnvilProcess, deployment: Deployment
) -> None:
    client.json("channel", "open", "30", worker.address)
    give_voucher(client, worker, deployment, 7 * WORK)
    worker.json("claim")
    told = client.on_chain("channel", "tend")
    assert (told.code, told.err) == (0, "")  # it has nothing to get: what it claimed is all that is known of
