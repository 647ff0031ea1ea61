"""Sending: nonces that recover, errors that explain, facts instead of wordings."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from eth_account import Account

from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.errors import ChainError, ChainUnreachable, NotMined, OutOfGasMoney, Reverted
from efedllm.chain.events import Registered, Transfer
from efedllm.chain.local import AnvilProcess
from efedllm.chain.rpc import Rpc
from efedllm.chain.stake_registry import Role
from efedllm.chain.transactions import Sender, UnlockedAccount
from tests.support.chain import ETHER, new_account
from tests.support.rpc_proxy import Forward, RpcProxy


def payment(wei: int = 1) -> Call:
    return Call("0x" + "11" * 20, b"", "payment", wei)


async def waiting(anvil: AnvilProcess, count: int) -> None:
    """Until so many transactions wait for a block."""
    while int(anvil.rpc("txpool_status")["pending"], 16) < count:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.01)


async def test_send_returns_typed_events(chain: Chain) -> None:
    account, hot_key = await new_account(chain), Account.create().address
    receipt = await chain.sender(account).send(chain.stakes.register(Role.WORKER, hot_key))
    (event,) = receipt.events
    assert isinstance(event, Registered)
    assert (event.participant, event.role, event.hot_key) == (account.address, Role.WORKER, hot_key)
    assert event.origin.transaction_hash == receipt.transaction_hash
    assert receipt.fee_wei > 0


async def test_concurrent_sends_of_one_key_all_arrive(chain: Chain) -> None:
    sender = chain.sender(await new_account(chain))
    receipts = await asyncio.gather(*(sender.send(payment()) for _ in range(5)))
    assert len({receipt.transaction_hash for receipt in receipts}) == 5


async def test_send_all_may_share_a_block(chain: Chain, anvil: AnvilProcess) -> None:
    sender = chain.sender(await new_account(chain))
    anvil.rpc("evm_setAutomine", False)
    try:
        sending = asyncio.create_task(sender.send_all([payment(), payment(), payment()]))
        await waiting(anvil, 3)
        anvil.mine()
        receipts = await sending
    finally:
        anvil.rpc("evm_setAutomine", True)
    assert len({receipt.block_number for receipt in receipts}) == 1


async def test_two_senders_with_one_key(chain: Chain) -> None:
    """In one process they share the key; each sees the other's nonces."""
    account = await new_account(chain)
    first, second = chain.sender(account), chain.sender(account)
    assert first is second
    other = Sender(chain.rpc, 31337, account, {})
    for sender in (first, other, first):
        await sender.send(payment())
    other.close()
    assert await chain.rpc.transaction_count(account.address) == 3


async def test_nonce_recovers_after_transactions_were_undone(chain: Chain, anvil: AnvilProcess) -> None:
    """A reorganisation takes transactions away: going on counting from them would leave a gap that is never mined."""
    sender = chain.sender(await new_account(chain))
    snapshot = anvil.snapshot()
    await sender.send(payment())
    await sender.send(payment())
    anvil.revert(snapshot)
    await sender.send(payment())
    assert await chain.rpc.transaction_count(sender.address) == 1


async def test_nonce_recovers_from_a_node_that_lags(chain: Chain, anvil: AnvilProcess) -> None:
    """The newest of our transactions are not counted: the same nonce would never be mined."""
    account = await new_account(chain)
    with RpcProxy(anvil.url) as proxy:
        async with Rpc(proxy.url) as rpc:
            sender = Sender(rpc, 31337, account, {})
            await sender.send(payment())
            await sender.send(payment())

            def one_less(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
                return {"result": hex(int(forward(method, parameters)["result"], 16) - 1)}

            proxy.add(one_less, ["eth_getTransactionCount"], times=3)
            await sender.send(payment())
            sender.close()
    assert await chain.rpc.transaction_count(account.address) == 3


@pytest.mark.parametrize("lost", [1, 3])
async def test_lost_answer_sends_nothing_twice(chain: Chain, anvil: AnvilProcess, lost: int) -> None:
    """The node took the transaction, and its answer got lost: it is the same transaction that is sent again."""
    account = await new_account(chain)
    with RpcProxy(anvil.url) as proxy:
        async with Rpc(proxy.url) as rpc:
            proxy.lose_answers("eth_sendRawTransaction", times=lost)
            with Sender(rpc, 31337, account, {}) as sender:
                await sender.send(payment(5))
    assert await chain.rpc.transaction_count(account.address) == 1
    assert await chain.rpc.balance("0x" + "11" * 20) == 5


async def test_not_mined_in_time(chain: Chain, anvil: AnvilProcess) -> None:
    account = await new_account(chain)
    anvil.rpc("evm_setAutomine", False)
    try:
        with pytest.raises(NotMined, match="but may be later"):
            await Sender(chain.rpc, 31337, account, {}, timeout_seconds=0.1).send(payment())
    finally:
        anvil.rpc("evm_setAutomine", True)


async def test_revert_is_explained_and_costs_nothing(chain: Chain) -> None:
    account = await new_account(chain)
    with pytest.raises(Reverted) as caught:
        await chain.sender(account).send(chain.stakes.stake(1))
    assert caught.value.name == "NotRegistered"
    assert caught.value.arguments == {"participant": account.address}
    assert "run `efedllm stake` first" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert await chain.rpc.balance(account.address) == ETHER


async def test_revert_in_the_block_is_explained(chain: Chain, anvil: AnvilProcess) -> None:
    """Both estimates pass, the second transaction fails: the first one took what it needed."""
    account, hot_key = await new_account(chain), Account.create().address
    anvil.rpc("evm_setAutomine", False)
    try:
        sending = asyncio.create_task(
            chain.sender(account).send_all(
                [chain.stakes.register(Role.WORKER, hot_key), chain.stakes.register(Role.VERIFIER, hot_key)]
            )
        )
        await waiting(anvil, 2)
        anvil.mine()
        with pytest.raises(Reverted) as caught:
            await sending
    finally:
        anvil.rpc("evm_setAutomine", True)
    assert caught.value.name == "AlreadyRegistered"
    assert (await chain.stakes.participant_of(account.address)).role is Role.WORKER


async def test_without_money_for_gas(chain: Chain) -> None:
    account = await new_account(chain, eth_wei=0)
    with pytest.raises(OutOfGasMoney, match=account.address):
        await chain.sender(account).send(chain.stakes.register(Role.WORKER, Account.create().address))
    almost = await new_account(chain, eth_wei=10**9)
    with pytest.raises(OutOfGasMoney):
        await chain.sender(almost).send(chain.stakes.register(Role.WORKER, Account.create().address))


async def test_unlocked_account(chain: Chain) -> None:
    to = "0x" + secrets.token_hex(20)
    sender = chain.sender(UnlockedAccount((await chain.rpc.accounts())[0]))
    (event,) = (await sender.send(chain.token.transfer(to, 7))).events
    assert isinstance(event, Transfer)
    assert event.amount == 7


async def test_refusal_that_is_no_revert(chain: Chain) -> None:
    with pytest.raises(ChainError, match="refused"):
        await chain.sender(UnlockedAccount("0x" + "22" * 20)).send(payment(0))


async def test_unreachable_chain() -> None:
    with AnvilProcess.start() as anvil:
        url = anvil.url
    async with Rpc(url) as rpc:
        with pytest.raises(ChainUnreachable, match="start one with `efedllm chain` or pass --rpc"):
            await Sender(rpc, 31337, Account.create(), {}).send(payment())
