"""A client's view of a real chain: only confirmed deposits count, and the whole history of its money."""

import asyncio
from dataclasses import replace

from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from efedllm.chain.stake_registry import Role
from efedllm.client.contracts import ContractNetwork
from efedllm.client.network import ChannelState, History, Top
from tests.support.chain import new_account

SESSION = Account.create().address


async def staked(chain: Chain) -> str:
    worker = await new_account(chain, work=100)
    with chain.sender(worker) as sender:
        await sender.send(chain.stakes.register(Role.WORKER, Account.create().address))
        await sender.send(chain.token.approve(chain.deployment.contracts.stake_registry, 100))
        await sender.send(chain.stakes.stake(100))
    return worker.address


def network(chain: Chain, payer: LocalAccount) -> ContractNetwork:
    async def unlock() -> LocalAccount:
        return payer

    return ContractNetwork(chain, payer.address, unlock)


async def test_a_deposit_counts_once_it_is_confirmed(anvil: AnvilProcess, deployment: Deployment) -> None:
    careful = replace(deployment, parameters=replace(deployment.parameters, confirmations=3))
    async with await Chain.connect(anvil.url, careful) as chain:
        worker, payer = await staked(chain), await new_account(chain, work=1000)
        anvil.mine(3)
        client = network(chain, payer)
        funding = asyncio.create_task(client.fund(SESSION, [Top(worker, 400)]))
        while (state := await client.channel(worker, SESSION)).unconfirmed == 0:
            done, _ = await asyncio.wait([funding], timeout=0.01)
            assert not done, funding.result()
        assert state == ChannelState(0, 0, False, 0, unconfirmed=400)
        anvil.mine(2)
        await asyncio.sleep(0.3)
        assert not funding.done()
        anvil.mine(1)
        await funding
        assert await client.channel(worker, SESSION) == ChannelState(400, 0, False, 0)


async def test_closing_counts_at_once(anvil: AnvilProcess, deployment: Deployment) -> None:
    async with await Chain.connect(anvil.url, deployment) as chain:
        worker, payer = await staked(chain), await new_account(chain, work=1000)
        await network(chain, payer).fund(SESSION, [Top(worker, 400)])
    careful = replace(deployment, parameters=replace(deployment.parameters, confirmations=3))
    async with await Chain.connect(anvil.url, careful) as chain:
        anvil.mine(3)
        client = network(chain, payer)
        await client.close(SESSION, [worker])
        state = await client.channel(worker, SESSION)
        assert state.closing
        assert state.closing_at > await client.now()


async def test_history_tells_what_went_in_and_came_back(chain: Chain, anvil: AnvilProcess) -> None:
    one, two, payer = await staked(chain), await staked(chain), await new_account(chain, work=1000)
    client = network(chain, payer)
    assert await client.history(SESSION) == History((), 0)
    await client.fund(SESSION, [Top(one, 400), Top(two, 50)])
    assert await client.history(SESSION) == History((one, two), 450)
    await client.fund(SESSION, [Top(one, 30)])
    await client.fund(Account.create().address, [Top(two, 5)])  # of another session key
    assert await client.history(SESSION) == History((one, two), 480)
    await client.close(SESSION, [one])
    anvil.increase_time(11)
    assert await client.finish(SESSION, [one]) == 430
    assert await client.history(SESSION) == History((one, two), 50)
    assert await network(chain, payer).history(SESSION) == History((one, two), 50)


async def test_history_of_blocks_that_were_replaced(chain: Chain, anvil: AnvilProcess) -> None:
    worker, payer = await staked(chain), await new_account(chain, work=1000)
    client = network(chain, payer)
    await client.fund(SESSION, [Top(worker, 10)])
    snapshot = anvil.snapshot()
    await client.fund(SESSION, [Top(worker, 400)])
    assert (await client.history(SESSION)).outlay == 410
    anvil.revert(snapshot)
    anvil.mine(4)
    assert (await client.history(SESSION)).outlay == 10
