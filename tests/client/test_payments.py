"""Money for several requests at once: what one counts on no other takes, and who needs none waits for none."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from eth_account import Account

from efedllm.chain.participants import Offer
from efedllm.client.errors import StoreError
from efedllm.client.network import ChannelState, Top
from efedllm.client.payments import Payments
from efedllm.client.routing import Route
from efedllm.client.store import Store
from efedllm.storage.witness import Witness
from tests.client.memory import DOMAIN, MODEL_ID, MemoryNetwork, spec_of

SIGNER = Account.create()
ONE, OTHER = (Offer(Account.create().address, "0x", MODEL_ID, "http://nowhere", 0, 1, 1, 1, 10) for _ in range(2))


class SlowNetwork(MemoryNetwork):
    """Transactions take until `mined` is set."""

    def __init__(self) -> None:
        super().__init__([ONE, OTHER], spec_of(1, 100, 100))
        self.asked, self.mined = asyncio.Event(), asyncio.Event()

    async def fund(self, session_key: str, tops: Sequence[Top]) -> None:
        self.asked.set()
        await self.mined.wait()
        await super().fund(session_key, tops)


@pytest.fixture
def payments(tmp_path: Path) -> Iterator[Payments]:
    network = SlowNetwork()
    store = Store(tmp_path / "client.sqlite")
    witness = Witness(DOMAIN.chain_id, DOMAIN.verifying_contract, SIGNER.address, StoreError, tmp_path / "state")
    yield Payments(network, store, witness, SIGNER, deposit=1000)
    witness.close()
    store.close()


def deposit(payments: Payments, offer: Offer, amount: int) -> SlowNetwork:
    network = payments._network
    assert isinstance(network, SlowNetwork)
    network.channels[offer.worker, SIGNER.address] = ChannelState(amount, 0, False, 0)
    return network


async def test_a_request_that_needs_no_money_waits_for_no_transaction(payments: Payments) -> None:
    network = deposit(payments, OTHER, 100)
    funding = asyncio.create_task(payments.prepare(b"first", Route((ONE,), 100), 50, 50))
    await network.asked.wait()
    async with asyncio.timeout(60):
        assert await payments.prepare(b"second", Route((OTHER,), 100), 50, 50) == 0
    network.mined.set()
    assert await funding == 1000


async def test_what_one_request_counts_on_no_other_takes(payments: Payments) -> None:
    """The channel has enough for one; the first also needs money in another channel, and waits for that."""
    network = deposit(payments, OTHER, 100)
    first = asyncio.create_task(payments.prepare(b"first", Route((ONE, OTHER), 200), 50, 50))
    await network.asked.wait()
    second = asyncio.create_task(payments.prepare(b"second", Route((OTHER,), 100), 50, 50))
    await asyncio.sleep(0.05)
    network.mined.set()
    assert (await first, await second) == (1000, 1000)
    assert payments.channel(OTHER.worker).free() == 100 + 1000 - 2 * 100
