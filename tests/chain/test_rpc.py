"""Endpoints that are down, slow, busy, lagging, on another chain, or answer nonsense: behind a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.errors import (
    ChainError,
    ChainSlow,
    ChainUnreachable,
    DeploymentError,
    NotMined,
    Reverted,
    UnknownBlock,
    WrongChain,
)
from efedllm.chain.event_reader import EventReader
from efedllm.chain.events import Registered
from efedllm.chain.local import AnvilProcess
from efedllm.chain.rpc import Rpc
from efedllm.chain.stake_registry import Role
from efedllm.chain.transactions import Sender
from tests.support.chain import new_account
from tests.support.rpc_proxy import Forward, RpcProxy

TO = "0x" + "11" * 20


def payment(wei: int = 1) -> Call:
    return Call(TO, b"", "payment", wei)


@pytest.fixture
def proxy(anvil: AnvilProcess) -> Iterator[RpcProxy]:
    with RpcProxy(anvil.url) as started:
        yield started


@pytest.fixture
async def rpc(proxy: RpcProxy) -> AsyncIterator[Rpc]:
    async with Rpc(proxy.url) as connected:
        yield connected


Read = Callable[[Rpc], Awaitable[Any]]
READS: dict[str, Read] = {
    "identity": lambda rpc: rpc.identity(),
    "chain_id": lambda rpc: rpc.chain_id(),
    "block_number": lambda rpc: rpc.block_number(),
    "block": lambda rpc: rpc.block(),
    "transactions": lambda rpc: rpc.transactions(1),
    "balance": lambda rpc: rpc.balance(TO),
    "code": lambda rpc: rpc.code(TO),
    "call": lambda rpc: rpc.call(TO, b""),
    "estimate_gas": lambda rpc: rpc.estimate_gas({"from": TO, "to": TO}),
    "transaction_count": lambda rpc: rpc.transaction_count(TO),
    "priority_fee": lambda rpc: rpc.priority_fee(),
    "gas_price": lambda rpc: rpc.gas_price(),
    "accounts": lambda rpc: rpc.accounts(),
    "receipt": lambda rpc: rpc.receipt(b"\x01" * 32),
    "knows": lambda rpc: rpc.knows(b"\x01" * 32),
    "logs": lambda rpc: rpc.logs([TO], 0, 1),
    "send_raw": lambda rpc: rpc.send_raw(b"\x01"),
}


@pytest.mark.parametrize("name", READS)
async def test_everything_says_that_the_chain_is_down(proxy: RpcProxy, rpc: Rpc, name: str) -> None:
    proxy.cut()
    with pytest.raises(ChainUnreachable, match=r"cannot reach the chain at http://.*: start one with"):
        await READS[name](rpc)
    assert len(proxy.requests) <= 3


@pytest.mark.parametrize("name", READS)
async def test_everything_says_that_the_chain_is_slow(proxy: RpcProxy, name: str) -> None:
    """In bounded time: no answer is waited for longer than the limit, nor asked for again."""
    proxy.hang()
    async with Rpc(proxy.url, timeout_seconds=0.3) as rpc, asyncio.timeout(60):
        with pytest.raises(ChainSlow, match="no answer in time"):
            await READS[name](rpc)
    assert len(proxy.requests) == 1


GARBAGE: list[Any] = [
    5, True, "", "hello", "0x", "0xzz", "0x1g", "-0x1", "0x" + "f" * 65, {}, [], [5], ["0x"], [{}], {"number": "0x1"},
    {"hash": 5}, b"", b"hello", b"5", b"null", b"[]", b"[1]", b"{}", b'{"result', b'{"error": 5}', b'{"error": {}}',
    b'{"error": {"message": 7}}', b"\xff\xfe", b"\x00" * 100,
]  # fmt: skip


@pytest.mark.parametrize("name", READS)
async def test_nonsense_is_no_answer(proxy: RpcProxy, rpc: Rpc, name: str) -> None:
    """A value of another kind never gets through, and every error is one that is waited out."""
    right = {
        "accounts": [[]],
        "logs": [[]],
        "code": ["0x"],
        "call": ["0x"],
        "knows": [{}, {"number": "0x1"}, {"hash": 5}],
    }
    for garbage in GARBAGE:
        if garbage in right.get(name, []):
            continue
        proxy.corrupt(garbage)
        with pytest.raises(ChainUnreachable) as caught:
            await READS[name](rpc)
        assert "\n" not in str(caught.value)
        proxy.restore()


async def test_fields_of_a_wrong_kind(proxy: RpcProxy, rpc: Rpc, chain: Chain) -> None:
    """Each field of a block, receipt or log on its own."""
    receipt = await chain.sender(await new_account(chain)).send(chain.stakes.register(Role.WORKER, TO))
    reads: dict[str, tuple[Read, tuple[str, ...]]] = {
        "eth_getBlockByNumber": (READS["block"], ("number", "hash", "parentHash", "timestamp")),
        "eth_getTransactionReceipt": (
            lambda rpc: rpc.receipt(receipt.transaction_hash),
            ("transactionHash", "blockNumber", "status", "gasUsed", "effectiveGasPrice", "logs"),
        ),
        "eth_getLogs": (
            lambda rpc: rpc.logs([chain.stakes.address], receipt.block_number, receipt.block_number),
            ("address", "topics", "data", "blockNumber", "blockHash", "transactionHash", "logIndex"),
        ),
    }
    for method, (read, names) in reads.items():
        assert await read(rpc)
        for name in names:
            for value in (None, 5, "0xzz", "", {}, ["0x12"]):

                def broken(
                    method: str, parameters: list[Any], forward: Forward, name: str = name, value: Any = value
                ) -> dict[str, Any]:
                    result = forward(method, parameters)["result"]
                    (result[0] if isinstance(result, list) else result)[name] = value
                    return {"result": result}

                proxy.add(broken, [method])
                with pytest.raises(ChainUnreachable, match=f"its answer to {method} makes no sense"):
                    await read(rpc)
                proxy.restore()


@pytest.mark.parametrize("status", [429, 502, 503])
async def test_busy_endpoint_is_asked_again(proxy: RpcProxy, rpc: Rpc, status: int) -> None:
    proxy.fail(status, times=2)
    assert await rpc.block_number() > 0
    proxy.fail(status)
    with pytest.raises(ChainUnreachable, match=str(status)):
        await rpc.block_number()


async def test_connection_that_breaks_is_made_again(proxy: RpcProxy, rpc: Rpc) -> None:
    proxy.cut(times=2)
    assert await rpc.block_number() > 0


async def test_transactions_are_not_sent_again_behind_the_senders_back(proxy: RpcProxy, rpc: Rpc) -> None:
    proxy.lose_answers()
    with pytest.raises(ChainUnreachable):
        await rpc.send_raw(b"\x01")
    assert proxy.count("eth_sendRawTransaction") == 1


async def test_questions_that_are_given_up_stop_no_later_ones(anvil: AnvilProcess) -> None:
    """However early: a request that ends, or a limit on a wait, takes the question along."""
    async with Rpc(anvil.url) as rpc:
        for turns in range(400):
            asking = asyncio.gather(*(rpc.block_number() for _ in range(4)))
            for _ in range(turns % 20):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
        async with asyncio.timeout(60):
            assert await rpc.block_number() > 0


async def test_refusal_is_told_in_the_nodes_words(proxy: RpcProxy, rpc: Rpc) -> None:
    proxy.refuse(message="daily limit\nreached", code=-32005)
    with pytest.raises(ChainError, match="refused: daily limit reached"):
        await rpc.block_number()


@pytest.mark.parametrize("data", ["0x", "0xzz", None, {"data": "0x"}, {"data": 5}, 5, [], "Reverted 0x"])
async def test_refusal_of_a_contract_without_reason(proxy: RpcProxy, rpc: Rpc, data: Any) -> None:
    def refuse(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
        return {"error": {"code": 3, "message": "execution reverted", "data": data}}

    proxy.add(refuse, ["eth_call"])
    with pytest.raises(Reverted, match="the contract refused"):
        await rpc.call(TO, b"")


async def test_node_that_does_not_know_a_block(proxy: RpcProxy, rpc: Rpc, anvil: AnvilProcess) -> None:
    """Whatever it says: the fact that there is no such block decides."""
    anvil.mine(5)
    head = await rpc.block_number()
    proxy.lag(3)
    for read in (rpc.call(TO, b"", head), rpc.balance(TO, head), rpc.code(TO, head), rpc.transaction_count(TO, head)):
        with pytest.raises(UnknownBlock, match=f"does not know block {head}"):
            await read
    assert await rpc.block_number() == head - 3
    proxy.restore()
    block = await rpc.block(head)
    with pytest.raises(UnknownBlock):
        await rpc.logs_of([TO], replace(block, hash=b"\x01" * 32))


# another chain


@pytest.fixture
async def through(proxy: RpcProxy, deployment: Deployment) -> AsyncIterator[Chain]:
    """The deployment behind the proxy."""
    async with await Chain.connect(proxy.url, deployment) as connected:
        yield connected


async def test_endpoint_that_turns_to_another_chain(proxy: RpcProxy, through: Chain) -> None:
    """Noticed when it comes back after it was out of reach."""
    proxy.cut()
    with pytest.raises(ChainUnreachable):
        await through.channels.fees()
    proxy.restore()
    proxy.change_chain_id(5)
    with pytest.raises(WrongChain, match="serves chain 5 by now instead of 31337: start again with another --rpc"):
        await through.channels.fees()
    proxy.restore()
    assert await through.channels.fees() == 0


async def test_nothing_is_sent_to_another_chain(proxy: RpcProxy, through: Chain) -> None:
    sender = through.sender(await new_account(through))
    proxy.change_chain_id(5)
    with pytest.raises(WrongChain):
        await sender.send(payment())
    assert proxy.count("eth_sendRawTransaction") == 0


async def test_connecting_to_another_chain(proxy: RpcProxy, deployment: Deployment) -> None:
    proxy.change_chain_id(5)
    with pytest.raises(WrongChain):
        await Chain.connect(proxy.url, deployment)


async def test_chain_that_was_restarted_with_the_same_id(proxy: RpcProxy, through: Chain) -> None:
    with AnvilProcess.start() as other:
        before = (await through.rpc.identity()).genesis
        proxy.cut()
        with pytest.raises(ChainUnreachable):
            await through.rpc.block_number()
        proxy.restore()
        proxy.upstream = other.url
        assert (await through.rpc.identity()).genesis != before
        with pytest.raises(WrongChain, match="another chain of id 31337 than before: if it was restarted"):
            await through.rpc.block_number()
        assert issubclass(WrongChain, DeploymentError)


# what waits


async def test_sender_waits_for_a_chain_that_is_down(proxy: RpcProxy, through: Chain, anvil: AnvilProcess) -> None:
    sender = through.sender(await new_account(through))
    anvil.rpc("evm_setAutomine", False)
    try:
        sending = asyncio.create_task(sender.send(payment()))
        async with asyncio.timeout(60):
            while not int(anvil.rpc("txpool_status")["pending"], 16):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.01)
        proxy.cut()
        anvil.mine()
        await asyncio.sleep(1)
        assert not sending.done()
        proxy.restore()
        assert (await sending).gas_used == 21_000
    finally:
        anvil.rpc("evm_setAutomine", True)


async def test_sender_waits_through_nonsense_and_refusals(proxy: RpcProxy, through: Chain) -> None:
    sender = through.sender(await new_account(through))
    for method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
        proxy.corrupt("0xzz", method, times=2)
    proxy.refuse("eth_getTransactionReceipt", message="busy", code=-32005, times=2)
    await sender.send(payment())
    assert proxy.count("eth_sendRawTransaction") == 1


async def test_chain_that_stays_down_after_sending(proxy: RpcProxy, through: Chain) -> None:
    """The transaction may have arrived: it is not known, and that is said."""
    account = await new_account(through)
    with Sender(through.rpc, 31337, account, {}, timeout_seconds=1) as sender:
        proxy.lose_answers("eth_sendRawTransaction")
        with pytest.raises(NotMined, match="may be later"):
            await sender.send(payment())
        proxy.restore()
        assert await sender.settle()
        assert await through.rpc.balance(TO) == 1


async def test_one_answer_of_three_is_old(proxy: RpcProxy, rpc: Rpc, anvil: AnvilProcess) -> None:
    """In no fixed place, which somebody who always asks three questions would meet with the same one for ever."""
    anvil.mine(5)
    head = await rpc.block_number()
    proxy.lag(3, every=3)
    answers = [await rpc.block_number() for _ in range(30)]
    threes = [tuple(answers[at : at + 3]) for at in range(0, 30, 3)]
    assert all(sorted(three) == [head - 3, head, head] for three in threes)
    assert len(set(threes)) == 3


async def test_events_through_nodes_of_which_one_lags(proxy: RpcProxy, through: Chain, chain: Chain) -> None:
    """One answer of three is three blocks old, and such a node leaves out the logs that it does not have yet."""
    accounts = [await new_account(chain) for _ in range(12)]
    for account in accounts:
        await chain.sender(account).send(chain.stakes.register(Role.WORKER, account.address[:-4] + "0000"))
    proxy.lag(3, every=3)
    contracts = {"StakeRegistry": through.stakes.address}
    reader = EventReader(through.rpc, contracts, through.deployment.deploy_block, confirmations=0, near_blocks=8)
    seen: list[str] = []
    async with asyncio.timeout(60):
        async for page in reader.follow(poll_seconds=0.01):
            seen += [event.participant for event in page.events if isinstance(event, Registered)]
            if len(seen) == len(accounts):
                break
    assert seen == [account.address for account in accounts]


async def test_history_that_takes_too_long_is_read_in_smaller_pages(proxy: RpcProxy, anvil: AnvilProcess) -> None:
    anvil.mine(400)

    def slow(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
        wanted = parameters[0]
        if "fromBlock" in wanted and int(wanted["toBlock"], 16) - int(wanted["fromBlock"], 16) >= 100:
            slept.wait(60)
        return forward(method, parameters)

    slept = threading.Event()
    async with Rpc(proxy.url, timeout_seconds=1) as rpc:
        head = await rpc.block_number()
        proxy.add(slow, ["eth_getLogs"])
        reader = EventReader(rpc, {"StakeRegistry": TO}, 0, confirmations=0, near_blocks=4)
        found = [page async for page in reader.read()]
    slept.set()
    assert found[-1].cursor.block == head
    assert max(after.cursor.block - before.cursor.block for before, after in pairwise(found)) <= 100


async def test_a_block_that_is_known_without_its_state(tmp_path: Path) -> None:
    """A node that was started anew: who waits for a block it does not have waits for this too."""
    state = tmp_path / "chain.json"
    with AnvilProcess.start() as anvil:
        anvil.mine(3)
        anvil.save(state)
    with AnvilProcess.start(state=state) as anvil:
        async with Rpc(anvil.url) as rpc:
            assert (await rpc.block(2)).number == 2
            for question in (rpc.call(anvil.accounts[0], b"", 2), rpc.balance(anvil.accounts[0], 2)):
                with pytest.raises(UnknownBlock, match=r"state after block 2 .* try again later"):
                    await question
            assert await rpc.balance(anvil.accounts[0], 3) > 0
