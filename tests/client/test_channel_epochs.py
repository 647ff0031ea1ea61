"""A channel that is closed and opened again while something is under way: the books of two epochs never mix."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from eth_account import Account

from efedllm.client.channel import Channel
from efedllm.client.checking import Approved
from efedllm.client.errors import StoreError, WorkerFailed
from efedllm.client.network import ChannelState
from efedllm.client.store import SentVoucher, Store
from efedllm.protocol.eip712 import Domain
from efedllm.protocol.messages import Opened
from efedllm.protocol.objects import Receipt
from efedllm.storage.witness import Witness
from tests.client.test_channel_states import Desk

DOMAIN = Domain(31337, "0x" + "c0" * 20)
SIGNER, PAYER, WORKER = Account.create(), Account.create().address, Account.create().address
NOBODY: Desk = object()  # type: ignore[assignment]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "client.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def channel(store: Store, tmp_path: Path) -> Iterator[Channel]:
    witness = Witness(DOMAIN.chain_id, DOMAIN.verifying_contract, SIGNER.address, StoreError, tmp_path / "state")
    yield Channel(store, witness, SIGNER, DOMAIN, PAYER, WORKER)
    witness.close()


def state(epoch: int) -> ChannelState:
    return ChannelState(10**6, 0, False, epoch)


def approved(request: int, fee: int, epoch: int) -> Approved:
    number = (100 * request + fee).to_bytes(32)
    receipt = Receipt(request.to_bytes(32), 0, WORKER, PAYER, epoch, 1, 1, 1, *([number] * 4), fee)
    return Approved(0, receipt, number, b"signed")


async def open_request(channel: Channel, epoch: int, total: int) -> None:
    async with channel.lock:
        await channel.reconcile(Opened(bytes(32), epoch, total, 100), credit, NOBODY)


async def credit(sent: SentVoucher) -> int:
    return sent.voucher.total


def and_then(channel: Channel, epochs: list[int]) -> Callable[[SentVoucher], Awaitable[int]]:
    async def deliver(sent: SentVoucher) -> int:
        for epoch in epochs:
            channel.update(state(epoch))
        return sent.voucher.total

    return deliver


@pytest.mark.parametrize("when", ["while it is signed", "while it is sent"])
async def test_an_epoch_that_ends_while_a_voucher_is_under_way(
    channel: Channel, store: Store, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    channel.update(state(0))
    await open_request(channel, 0, 0)
    await channel.pay(approved(1, 10, 0), credit)
    if when == "while it is signed":
        keep = store.keep_voucher

        def keep_voucher(*arguments: object) -> None:
            keep(*arguments)  # type: ignore[arg-type]
            channel.update(state(1))

        monkeypatch.setattr(store, "keep_voucher", keep_voucher)
        await channel.pay(approved(2, 5, 0), credit)
        monkeypatch.undo()
    else:
        await channel.pay(approved(2, 5, 0), and_then(channel, [1]))
    assert (channel.signed, channel.is_settled) == (0, False)
    with pytest.raises(WorkerFailed, match="ask again"):
        await channel.pay(approved(3, 7, 1), credit)
    await open_request(channel, 1, 0)
    sent: list[SentVoucher] = []

    async def note(voucher: SentVoucher) -> int:
        sent.append(voucher)
        return voucher.voucher.total

    await channel.pay(approved(3, 7, 1), note)
    assert [(one.voucher.epoch, one.voucher.total, one.voucher.count) for one in sent] == [(1, 7, 1)]


async def test_an_epoch_that_ends_while_a_request_opens(channel: Channel, store: Store) -> None:
    channel.update(state(0))
    await open_request(channel, 0, 0)
    await channel.pay(approved(1, 10, 0), credit)
    channel.update(state(1))
    channel.update(state(0))  # two nodes that do not agree
    assert not channel.is_settled
    load = store.book

    def late(*key: object) -> object:
        book = load(*key)  # type: ignore[arg-type]
        if channel.epoch == 0:
            channel.update(state(1))
        return book

    store.book = late  # type: ignore[assignment, method-assign]
    with pytest.raises(WorkerFailed, match="epoch became 1 in the meantime"):
        await open_request(channel, 0, 10)
    assert (channel.epoch, channel.signed, channel.is_settled) == (1, 0, False)
