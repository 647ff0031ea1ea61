"""Connecting, and the bindings against the real contracts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from eth_account import Account

from efedllm.chain.abi import CONTRACTS, JUDGES, interface
from efedllm.chain.beacon import Beacon
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Channel, Channels, Funding, VoucherClaim
from efedllm.chain.deployment import Deployment
from efedllm.chain.dispute_game import DisputeGame
from efedllm.chain.errors import ChainError, ChainUnreachable, DeploymentError, Reverted, UnknownBlock
from efedllm.chain.events import ChannelFunded, Claimed
from efedllm.chain.local import AnvilProcess
from efedllm.chain.model_registry import ModelRegistry
from efedllm.chain.pending_claims import find_pending_claims
from efedllm.chain.rpc import Rpc
from efedllm.chain.stake_registry import FOREVER, Participant, Role, StakeRegistry
from efedllm.chain.work_token import WorkToken
from efedllm.protocol.eip712 import sign
from efedllm.protocol.model_spec import model_id
from efedllm.protocol.objects import Voucher
from efedllm.protocol.values import ZERO_ADDRESS
from tests.support.chain import WORK, new_account
from tests.support.registry import MODEL_ID, SPEC


def test_every_contract_has_code_and_a_binding_that_names_it() -> None:
    bindings = (WorkToken, ModelRegistry, StakeRegistry, Channels, Beacon, DisputeGame)
    assert {kind.__name__ for kind in bindings} == set(CONTRACTS)
    assert all(interface(name).bytecode for name in (*CONTRACTS, *JUDGES))


async def test_connect_refuses_another_chain(anvil: AnvilProcess, deployment: Deployment) -> None:
    with pytest.raises(DeploymentError, match=r"is for chain 5, but .* serves 31337"):
        await Chain.connect(anvil.url, replace(deployment, chain_id=5))


async def test_connect_notices_a_chain_that_was_restarted(deployment: Deployment) -> None:
    with AnvilProcess.start() as empty, pytest.raises(DeploymentError, match="restarted, run `efedllm deploy` again"):
        await Chain.connect(empty.url, deployment)


async def test_connect_to_something_that_is_no_chain() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ChainUnreachable, match="it does not speak JSON-RPC"):
            await Chain.connect(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid:8545", "not a url", "ftp://127.0.0.1"])
async def test_connect_to_nothing(url: str) -> None:
    with pytest.raises(ChainUnreachable, match=r"cannot reach the chain at .*: start one with `efedllm chain`"):
        await Chain.connect(url)


async def test_read_where_no_contract_is(chain: Chain) -> None:
    with pytest.raises(DeploymentError, match="there is no Channels at"):
        await Channels(chain.rpc, "0x" + "99" * 20).fees()
    with pytest.raises(ChainError):
        await Channels(chain.rpc, chain.token.address).fees()


async def test_unknown_block(chain: Chain) -> None:
    with pytest.raises(UnknownBlock):
        await chain.rpc.block(10**9)


def with_confirmations(chain: Chain, confirmations: int) -> Chain:
    parameters = replace(chain.deployment.parameters, confirmations=confirmations)
    return Chain(chain.rpc, replace(chain.deployment, parameters=parameters))


async def test_confirmed_block(chain: Chain, anvil: AnvilProcess) -> None:
    account, to = await new_account(chain, work=5), "0x" + "11" * 20
    anvil.mine(2)
    await chain.sender(account).send(chain.token.transfer(to, 2))
    confirmed = await with_confirmations(chain, 1).confirmed_block()
    assert confirmed == await chain.rpc.block_number() - 1
    assert await chain.token.balance_of(to, confirmed) == 0
    assert await chain.token.balance_of(to, await chain.confirmed_block()) == 2
    anvil.mine()
    assert await chain.token.balance_of(to, await with_confirmations(chain, 1).confirmed_block()) == 2


async def test_confirmed_block_while_the_contracts_are_not_confirmed(chain: Chain) -> None:
    behind = await chain.rpc.block_number() - chain.deployment.deploy_block
    with pytest.raises(UnknownBlock, match="not confirmed yet: wait for 3 more blocks"):
        await with_confirmations(chain, behind + 3).confirmed_block()


async def test_models(chain: Chain) -> None:
    sender = chain.sender(await new_account(chain))
    assert not await chain.models.is_registered(MODEL_ID)
    with pytest.raises(Reverted) as caught:
        await chain.models.spec_of(MODEL_ID)
    assert caught.value.name == "UnknownModel"
    await sender.send(chain.models.register(SPEC, "name"))
    assert await chain.models.is_registered(MODEL_ID)
    assert await chain.models.spec_of(MODEL_ID) == SPEC
    assert await chain.models.layers_of(MODEL_ID) == SPEC.layers
    assert await chain.models.id_of(SPEC) == model_id(SPEC)


async def test_participant(chain: Chain) -> None:
    account, hot_key = await new_account(chain, work=WORK), Account.create().address
    nobody = Participant(0, 0, 0, False, Role.NONE, ZERO_ADDRESS, ZERO_ADDRESS, 0)
    assert await chain.stakes.participant_of(account.address) == nobody
    sender = chain.sender(account)
    await sender.send(chain.stakes.register(Role.WORKER, hot_key))
    await sender.send(chain.token.approve(chain.stakes.address, WORK))
    await sender.send(chain.stakes.stake(WORK))
    state = await chain.stakes.participant_of(account.address)
    assert state == replace(nobody, stake=WORK, role=Role.WORKER, hot_key=hot_key)
    assert isinstance(state.role, Role)
    assert await chain.stakes.is_active_worker(account.address)
    assert await chain.stakes.ever_hot_key_of(account.address, hot_key)
    assert await chain.stakes.withdrawable_at(account.address) == FOREVER
    assert await chain.stakes.participants(0, 10) == (account.address,)
    assert await chain.token.balance_of(chain.stakes.address) == WORK


async def test_reads_as_of_a_block(chain: Chain) -> None:
    account = await new_account(chain, work=5)
    before = await chain.rpc.block_number()
    await chain.sender(account).send(chain.token.transfer("0x" + "11" * 20, 2))
    assert await chain.token.balance_of(account.address, before) == 5
    assert await chain.token.balance_of(account.address) == 3


async def test_channel_claim_and_pending_claims(chain: Chain) -> None:
    """The domain, the packing of vouchers and the event's fields agree with the contract."""
    payer, worker, session = await new_account(chain, work=100), await new_account(chain, work=WORK), Account.create()
    assert await chain.channels.domain_separator() == chain.deployment.domain.separator()
    paying, working = chain.sender(payer), chain.sender(worker)
    await working.send(chain.stakes.register(Role.WORKER, Account.create().address))
    await paying.send(chain.token.approve(chain.channels.address, 100))
    receipt = await paying.send(chain.channels.fund(session.address, [Funding(worker.address, 60)]))
    (opened,) = (event for event in receipt.events if isinstance(event, ChannelFunded))
    assert (opened.payer, opened.session_key, opened.deposit) == (payer.address, session.address, 60)

    for total in (20, 50):
        voucher = Voucher(payer.address, worker.address, 0, total, 1, b"\x05" * 32)
        signature = sign(chain.deployment.domain, voucher, session)
        receipt = await working.send(chain.channels.claim(worker.address, [VoucherClaim.of(voucher, signature)]))
    (claimed,) = (event for event in receipt.events if isinstance(event, Claimed))
    assert (claimed.claim_index, claimed.amount, claimed.entries[-32:]) == (1, 30, b"\x05" * 32)
    assert await chain.channels.channel_of(payer.address, worker.address, session.address) == Channel(60, 50, 0, 0)
    pending = await find_pending_claims(chain, worker.address)
    assert {index: claim.amount for index, claim in pending.items()} == {0: 20, 1: 30}
    assert pending[1].commitment == claimed.commitment
    assert pending[1].block_number == claimed.origin.block_number
    account = await chain.channels.account_of(worker.address)
    assert (account.next, account.pending, account.earnings) == (2, 50, 0)
    assert await find_pending_claims(chain, payer.address) == {}


async def test_beacon(chain: Chain, anvil: AnvilProcess) -> None:
    sender = chain.sender(await new_account(chain))
    claim_block = await chain.rpc.block_number()
    candidate = await chain.beacon.first_candidate(claim_block)
    assert await chain.beacon.seed_for(claim_block) is None
    anvil.mine(3)
    await sender.send(chain.beacon.record_beacon(candidate))
    seed = await chain.beacon.seed_for(claim_block)
    assert seed == (await chain.rpc.block(candidate)).hash == await chain.beacon.seed_at(candidate)


async def test_revert_without_a_name_of_ours(chain: Chain) -> None:
    """Sending coin to a contract that takes none gives no data at all."""
    from efedllm.chain.binding import Call

    account = await new_account(chain)
    with pytest.raises(Reverted, match="the contract refused") as caught:
        await chain.sender(account).send(Call(chain.channels.address, b"", "coin", 1))
    assert caught.value.name == ""


async def test_token_errors_are_explained(chain: Chain) -> None:
    account = await new_account(chain, work=3)
    with pytest.raises(Reverted, match="has 3 base units of the token, 4 are needed"):
        await chain.sender(account).send(chain.token.transfer("0x" + "11" * 20, 4))


async def test_closed_connection_leaves_nothing_open(anvil: AnvilProcess) -> None:
    async with Rpc(anvil.url) as rpc:
        await rpc.chain_id()
    # An unclosed session would be reported as an unraisable error of this test.
    assert len([task for task in asyncio.all_tasks() if task is not asyncio.current_task()]) == 0
