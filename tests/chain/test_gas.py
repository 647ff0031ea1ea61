"""Gas spikes, stuck and dropped transactions, on a real chain whose blocks the test makes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.errors import EarlierTransaction, GasTooDear, NonceTaken, NotMined
from efedllm.chain.local import AnvilProcess
from efedllm.chain.rpc import Rpc
from efedllm.chain.transactions import Receipt, Sender
from tests.support.chain import new_account
from tests.support.rpc_proxy import RpcProxy

GWEI = 10**9
TO = "0x" + "11" * 20


def payment(wei: int = 1) -> Call:
    return Call(TO, b"", "payment", wei)


async def sender_of(chain: Chain, timeout_seconds: float = 60, cap: int = 500 * GWEI, confirmations: int = 0) -> Sender:
    account = await new_account(chain, eth_wei=10**20)
    return Sender(chain.rpc, 31337, account, {}, timeout_seconds, cap, 0.1, confirmations)


@pytest.fixture
def by_hand(anvil: AnvilProcess) -> Iterator[AnvilProcess]:
    """Blocks come when the test makes them."""
    yield anvil
    anvil.rpc("evm_setAutomine", True)
    mine_at(anvil, GWEI)  # going back to a snapshot keeps the price


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.01)


def offered(anvil: AnvilProcess) -> list[int]:
    """What waiting transactions offer per gas."""
    senders = anvil.rpc("txpool_content")["pending"].values()
    return [int(one["maxFeePerGas"], 16) for nonces in senders for one in nonces.values()]


def mine_at(anvil: AnvilProcess, base_fee: int) -> None:
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(base_fee))
    anvil.mine()


async def mining(anvil: AnvilProcess, base_fee: int, work: Awaitable[Receipt]) -> Receipt:
    """The result of `work`, while blocks of one base fee come."""
    task = asyncio.ensure_future(work)
    while not task.done():
        mine_at(anvil, base_fee)
        await asyncio.wait([task], timeout=0.1)
    return task.result()


async def test_stuck_transaction_is_replaced_until_it_is_mined(chain: Chain, by_hand: AnvilProcess) -> None:
    """The base fee rises above the first offer: the same transaction is offered for more."""
    sender = await sender_of(chain)
    by_hand.rpc("evm_setAutomine", False)
    sending = asyncio.create_task(sender.send(payment()))
    await until(lambda: bool(offered(by_hand)))
    (first,) = offered(by_hand)
    receipt = await mining(by_hand, 20 * first, sending)
    assert receipt.fee_wei >= 20 * first * receipt.gas_used
    assert await chain.rpc.transaction_count(sender.address) == 1
    assert await chain.rpc.balance(TO) == 1


async def test_never_more_than_the_cap(chain: Chain, by_hand: AnvilProcess) -> None:
    """Above the cap it waits; once the price falls it is mined, for no more than allowed."""
    sender = await sender_of(chain, cap=8 * GWEI)
    by_hand.rpc("evm_setAutomine", False)
    sending = asyncio.create_task(sender.send(payment()))
    await until(lambda: bool(offered(by_hand)))
    for _ in range(10):
        mine_at(by_hand, 50 * GWEI)
        await asyncio.sleep(0.1)
    assert not sending.done()
    assert max(offered(by_hand), default=0) <= 8 * GWEI
    receipt = await mining(by_hand, 4 * GWEI, sending)
    assert receipt.fee_wei <= 8 * GWEI * receipt.gas_used


async def test_too_dear_to_send_at_all(chain: Chain, by_hand: AnvilProcess) -> None:
    sender = await sender_of(chain, timeout_seconds=0.5, cap=8 * GWEI)
    mine_at(by_hand, 50 * GWEI)
    with pytest.raises(GasTooDear, match=r"gas costs .* gwei, more than the 8 allowed, and nothing was sent") as caught:
        await sender.send(payment())
    assert "--max-gas-price" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert await chain.rpc.transaction_count(sender.address) == 0


async def test_too_dear_waits_for_the_price_to_fall(chain: Chain, by_hand: AnvilProcess) -> None:
    sender = await sender_of(chain, cap=8 * GWEI)
    mine_at(by_hand, 50 * GWEI)
    sending = asyncio.create_task(sender.send(payment()))
    await asyncio.sleep(0.3)
    assert not sending.done()
    mine_at(by_hand, GWEI)
    assert (await sending).fee_wei > 0


async def test_too_dear_after_it_was_sent(chain: Chain, by_hand: AnvilProcess) -> None:
    """The transaction may still be mined: it is settled before the next is sent, and nothing is done twice."""
    sender = await sender_of(chain, timeout_seconds=3, cap=8 * GWEI)
    by_hand.rpc("evm_setAutomine", False)
    sending = asyncio.create_task(sender.send(payment()))
    await until(lambda: bool(offered(by_hand)))
    mine_at(by_hand, 50 * GWEI)
    with pytest.raises(GasTooDear, match=r"transaction 0x[0-9a-f]{64} waits and may be mined later"):
        await sending
    mine_at(by_hand, GWEI)
    by_hand.rpc("evm_setAutomine", True)
    with pytest.raises(EarlierTransaction, match=r"payment of 0x.* was still under way: it is settled now"):
        await sender.send(payment())
    await sender.send(payment())
    assert await chain.rpc.balance(TO) == 2


async def test_no_offer_is_raised_while_no_block_comes(chain: Chain, by_hand: AnvilProcess) -> None:
    sender = await sender_of(chain, timeout_seconds=2)
    by_hand.rpc("evm_setAutomine", False)
    sending = asyncio.create_task(sender.send(payment()))
    await until(lambda: bool(offered(by_hand)))
    first = offered(by_hand)
    with pytest.raises(NotMined):
        await sending
    assert offered(by_hand) == first


async def test_dropped_transaction_is_sent_again(chain: Chain, by_hand: AnvilProcess) -> None:
    sender = await sender_of(chain)
    by_hand.rpc("evm_setAutomine", False)
    sending = asyncio.create_task(sender.send(payment()))
    await until(lambda: bool(offered(by_hand)))
    by_hand.rpc("anvil_dropAllTransactions")
    await until(lambda: bool(offered(by_hand)))
    by_hand.mine()
    await sending
    assert await chain.rpc.balance(TO) == 1


async def test_endpoint_that_forgets_what_it_acknowledged(chain: Chain, anvil: AnvilProcess) -> None:
    account = await new_account(chain)
    with RpcProxy(anvil.url) as proxy:
        proxy.drop_transactions(times=2)
        async with Rpc(proxy.url) as rpc:
            with Sender(rpc, 31337, account, {}, patience_seconds=0.1) as sender:
                await sender.send(payment())
        assert proxy.count("eth_sendRawTransaction") == 3
    assert await chain.rpc.transaction_count(account.address) == 1


async def test_gap_made_by_another_program_is_filled(chain: Chain, by_hand: AnvilProcess) -> None:
    """Somebody used a nonce too high with our key: it waits for ours, and then counts."""
    sender = await sender_of(chain)
    foreign = sender.account.sign_transaction(  # type: ignore[union-attr]
        {"to": TO, "value": 5, "gas": 21000, "gasPrice": 10 * GWEI, "nonce": 1, "chainId": 31337}
    )
    await chain.rpc.send_raw(bytes(foreign.raw_transaction))
    await sender.send(payment())
    await sender.send(payment())
    assert await chain.rpc.transaction_count(sender.address) == 3
    assert await chain.rpc.balance(TO) == 7


async def test_key_in_use_on_another_machine(
    chain: Chain, by_hand: AnvilProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """A foreign transaction takes our nonce: ours can have no effect any more, and that is what is said."""
    sender = await sender_of(chain)
    by_hand.rpc("evm_setAutomine", False)
    sending = asyncio.create_task(sender.send(payment()))
    await until(lambda: bool(offered(by_hand)))
    foreign = sender.account.sign_transaction(  # type: ignore[union-attr]
        {"to": TO, "value": 5, "gas": 21000, "gasPrice": 100 * GWEI, "nonce": 0, "chainId": 31337}
    )
    await chain.rpc.send_raw(bytes(foreign.raw_transaction))
    by_hand.mine()
    by_hand.rpc("evm_setAutomine", True)
    with pytest.raises(NonceTaken, match=r"another program or machine sends with the key of .* took nonce 0"):
        await sending
    await sender.send(payment())
    assert await chain.rpc.balance(TO) == 6


async def test_waiting_transaction_of_another_machine(chain: Chain, by_hand: AnvilProcess) -> None:
    """What it will do is not known: it is waited for, and the caller looks again."""
    sender = await sender_of(chain)
    by_hand.rpc("evm_setAutomine", False)
    foreign = sender.account.sign_transaction(  # type: ignore[union-attr]
        {"to": TO, "value": 5, "gas": 21000, "gasPrice": 100 * GWEI, "nonce": 0, "chainId": 31337}
    )
    await chain.rpc.send_raw(bytes(foreign.raw_transaction))
    sending = asyncio.create_task(sender.send(payment()))
    await asyncio.sleep(0.2)
    assert not sending.done()
    by_hand.mine()
    with pytest.raises(EarlierTransaction, match="another program or machine"):
        await sending
    by_hand.rpc("evm_setAutomine", True)
    await sender.send(payment())
    assert await chain.rpc.balance(TO) == 6


async def test_unconfirmed_transaction_lost_in_a_reorganisation_is_sent_again(
    chain: Chain, anvil: AnvilProcess
) -> None:
    sender = await sender_of(chain, confirmations=4)
    await sender.send(payment(3))
    anvil.rpc("anvil_reorg", 1, [])
    assert await chain.rpc.balance(TO) == 0
    with pytest.raises(EarlierTransaction):
        await sender.send(payment(10))
    assert await chain.rpc.balance(TO) == 3
    anvil.mine(4)
    await sender.send(payment(10))
    assert await chain.rpc.balance(TO) == 13


async def test_transactions_before_it_that_are_lost_meanwhile_are_sent_again_too(
    chain: Chain, by_hand: AnvilProcess
) -> None:
    """A node that is killed loses its last blocks and its pool: what waits cannot be mined before what was in them."""
    sender = await sender_of(chain, confirmations=4)
    await sender.send(payment(3))
    await sender.send(payment(4))
    by_hand.rpc("evm_setAutomine", False)
    sending = asyncio.create_task(sender.send(payment(10)))
    await until(lambda: bool(offered(by_hand)))
    by_hand.rpc("anvil_reorg", 2, [])
    by_hand.rpc("anvil_dropAllTransactions")
    by_hand.rpc("evm_setAutomine", True)
    async with asyncio.timeout(60):
        await sending
    assert await chain.rpc.balance(TO) == 17
    assert await chain.rpc.transaction_count(sender.address) == 3
