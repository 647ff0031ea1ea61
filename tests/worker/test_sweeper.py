"""Rows are deleted once the chain says that nobody can ask for them any more, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from efedllm.chain.chain import Chain
from efedllm.chain.channels import VoucherClaim
from efedllm.chain.local import AnvilProcess
from efedllm.protocol import eip712
from efedllm.protocol.objects import Hop
from efedllm.protocol.receipts import Progress, receipt_for
from tests.support.chain import WORK
from tests.worker.payer import SALT, Payer, payment_for
from tests.worker.till import Market, Paying
from worker.holdings import DEEP_BLOCKS
from worker.keeping import Windows
from worker.sweeper import Sweeper

WINDOWS = Windows(challenge_window=100, force_grace=50, margin=10)


@pytest.fixture
async def market(chain: Chain, tmp_path: Path) -> Market:
    return await Market.open(chain, tmp_path)


async def serve(market: Market, paying: Paying, paid: int = 2, expires_in: int = 20) -> bytes:
    """A request with two receipts and rows, of which the first `paid` are paid for."""
    domain, store, worker = market.chain.deployment.domain, market.store, market.cold.address
    payer = Payer(paying.account, paying.session, domain)
    expiry = (await market.chain.rpc.block()).timestamp + expires_in
    request = payer.request([Hop(worker, 0, 3, 3, 10)], [1, 2, 3], 50, expiry=expiry)
    request_id = eip712.digest(domain, request)
    store.begin_request(request_id, request, bytes(65), SALT, [1, 2, 3], 0, payer.session.address, 0)
    book = store.book(payer.account.address, payer.session.address, worker, 0)
    for at, count in enumerate((1, 2)):
        receipt = receipt_for(request, request_id, 0, 0, Progress(2 + count, count, *[bytes(32)] * 3), bytes(32))
        store.keep_receipt(receipt, eip712.digest(domain, receipt), bytes(65), [7] * count, b"rows", None)
        if at < paid:
            payment = payment_for(payer, book, receipt)
            index = len(book.leaves) - 1
            store.keep_voucher(payer.session.address, book.leaves[-1], index, payment.voucher, payment.signature)
    store.end_request(request_id, "done")
    return request_id


async def claim(market: Market) -> None:
    vouchers = [VoucherClaim.of(held.voucher, held.signature) for held in market.store.best_vouchers()]
    await market.chain.sender(market.hot).send(market.chain.channels.claim(market.cold.address, vouchers))


def later(anvil: AnvilProcess, seconds: int) -> None:
    """So much time passes, and it is final."""
    anvil.increase_time(seconds)
    anvil.mine(DEEP_BLOCKS + 1)


async def test_claimed_and_over_it_goes(market: Market, anvil: AnvilProcess) -> None:
    sweeper = Sweeper(market.chain, market.cold.address, market.store, WINDOWS)
    paying = await market.client(WORK)
    request_id = await serve(market, paying)
    later(anvil, 20 + 50 + 100 + 20)
    assert await sweeper.sweep() == 0  # not claimed
    await claim(market)
    assert await sweeper.sweep() == 0  # not final
    later(anvil, 1)
    assert await sweeper.sweep() == 0  # the claim can be challenged
    later(anvil, 100)
    assert market.store.kept.is_whole(request_id)
    later(anvil, 20)
    assert await sweeper.sweep() == 1
    assert not market.store.kept.is_whole(request_id)
    assert await sweeper.sweep() == 0


async def test_unpaid_it_stays_until_the_epoch_is_over(market: Market, anvil: AnvilProcess) -> None:
    sweeper = Sweeper(market.chain, market.cold.address, market.store, WINDOWS)
    paying = await market.client(WORK)
    await serve(market, paying, paid=1)
    await claim(market)
    later(anvil, 1000)
    await sweeper.sweep()
    later(anvil, 1000)
    assert await sweeper.sweep() == 0
    await market.close(paying)
    anvil.increase_time(11)
    await market.finish(paying)
    later(anvil, 1)
    assert await sweeper.sweep() == 0
    later(anvil, 200)
    assert await sweeper.sweep() == 1


async def test_disputed_it_stays(market: Market, anvil: AnvilProcess) -> None:
    sweeper = Sweeper(market.chain, market.cold.address, market.store, WINDOWS)
    paying = await market.client(WORK)
    disputed, other = await serve(market, paying), await serve(market, paying)
    await claim(market)
    with market.store._db.transaction() as db:
        db.execute(
            "INSERT INTO games (game_id, block, challenger, request_id, receipt_digest) VALUES (?, 1, '', ?, ?)",
            (bytes(32), disputed, bytes(32)),
        )
    later(anvil, 1000)
    await sweeper.sweep()
    later(anvil, 1000)
    assert await sweeper.sweep() == 1
    assert (market.store.kept.is_whole(disputed), market.store.kept.is_whole(other)) == (True, False)
    market.store.games.roll_back(0)  # as if the game had never been
    assert await sweeper.sweep() == 1


async def test_what_was_never_receipted_goes_once_it_expired(market: Market, anvil: AnvilProcess) -> None:
    sweeper = Sweeper(market.chain, market.cold.address, market.store, WINDOWS)
    payer = Payer()
    expiry = (await market.chain.rpc.block()).timestamp + 20
    request = payer.request([Hop(market.cold.address, 0, 3, 3, 10)], [1, 2, 3], 50, expiry=expiry)
    market.store.begin_request(b"\x01" * 32, request, bytes(65), SALT, [1, 2, 3], 0, payer.session.address, 0)
    market.store.interrupt_open()
    later(anvil, 10)
    assert await sweeper.sweep() == 0
    later(anvil, 300)
    assert await sweeper.sweep() == 1


async def test_a_young_chain_has_nothing_final(market: Market) -> None:
    assert await Sweeper(market.chain, market.cold.address, market.store, WINDOWS).sweep() == 0
