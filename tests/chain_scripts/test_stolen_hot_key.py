"""Who steals a worker's hot key and nothing else: every function of every contract is tried with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.chain.abi import CONTRACTS, interface
from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding, VoucherClaim
from efedllm.chain.errors import Reverted
from efedllm.chain.local import AnvilProcess
from efedllm.chain.stake_registry import Role, Service
from efedllm.protocol import eip712
from efedllm.protocol.objects import Voucher
from efedllm.protocol.values import ZERO_ADDRESS
from tests.support.chain import WORK, fund, new_account
from tests.support.registry import MODEL_ID, SPEC

NOT_A_SIGNATURE = (27, bytes(32), bytes(32))


@dataclass
class Scene:
    """A staked worker that serves, with earnings, a pending claim and vouchers in hand; and who stole its hot key."""

    chain: Chain
    cold: LocalAccount
    thief: LocalAccount
    payer: LocalAccount
    session: LocalAccount

    async def state(self) -> dict[str, Any]:
        """Everything that is the worker's or its client's, and what the thief has."""
        chain, cold = self.chain, self.cold.address
        return {
            "participant": await chain.stakes.participant_of(cold),
            "service": await chain.stakes.service_of(cold),
            "account": replace(await chain.channels.account_of(cold), last_claim_at=0),
            "channel": await chain.channels.channel_of(self.payer.address, cold, self.session.address),
            "tokens": await chain.token.balance_of(cold),
            "tokens of the client": await chain.token.balance_of(self.payer.address),
            "tokens of the thief": await chain.token.balance_of(self.thief.address),
            "earnings of the thief": (await chain.channels.account_of(self.thief.address)).earnings,
            "stake of the thief": (await chain.stakes.participant_of(self.thief.address)).stake,
        }

    def voucher(self, total: int) -> bytes:
        voucher = Voucher(self.payer.address, self.cold.address, 0, total, 1, bytes(32))
        signature = eip712.sign(self.chain.deployment.domain, voucher, self.session)
        return VoucherClaim.of(voucher, signature).pack()


@pytest.fixture
async def scene(chain: Chain, anvil: AnvilProcess) -> Scene:
    cold, payer = await new_account(chain, 1000 * WORK), await new_account(chain, WORK)
    thief, session = await new_account(chain), Account.create()
    made = Scene(chain, cold, thief, payer, session)
    worker, client = chain.sender(cold), chain.sender(payer)
    await worker.send(chain.models.register(SPEC, "model"))
    await worker.send(chain.stakes.register(Role.WORKER, thief.address))
    await worker.send(chain.token.approve(chain.stakes.address, 1000 * WORK))
    await worker.send(chain.stakes.stake(1000 * WORK))
    await worker.send(chain.stakes.update_service(Service(MODEL_ID, 0, 8, 1, 2, "http://127.0.0.1:1")))
    await client.send(chain.token.approve(chain.channels.address, WORK))
    await client.send(chain.channels.fund(session.address, [Funding(cold.address, 10_000)]))
    for total in (100, 300):
        call = Call(chain.channels.address, _data("Channels", "claim", cold.address, made.voucher(total)), "claim")
        await worker.send(call)
    anvil.increase_time(chain.deployment.parameters.challenge_window_seconds + 1)
    await worker.send(chain.channels.release(cold.address, 0))
    await fund(chain, thief.address)
    return made


def _data(contract: str, function: str, *arguments: object) -> bytes:
    return interface(contract).encode_call(function, *arguments)


Attempts = Sequence[tuple[object, ...]]


def attempts(scene: Scene, block: int) -> dict[str, Attempts]:
    """What a thief would try: the worker's own arguments, and its own advantage."""
    cold, thief, payer, session = (one.address for one in (scene.cold, scene.thief, scene.payer, scene.session))
    service = Service(MODEL_ID, 0, 8, 10**6, 10**6, "http://127.0.0.1:666")
    channels, fresh = scene.chain.channels.address, Account.create().address
    return {
        "Beacon.recordBeacon": [(block,)],
        "Channels.claim": [(cold, scene.voucher(700)), (thief, scene.voucher(700))],
        "Channels.finishClose": [(session, [cold]), (thief, [cold])],
        "Channels.forfeit": [(cold, 1, 200, thief)],
        "Channels.freeze": [(cold, 1, 1)],
        "Channels.fund": [(session, [Funding(cold, 1)]), (thief, [Funding(thief, 1)])],
        "Channels.fundChannel": [(session, cold, 1), (thief, thief, 1)],
        "Channels.release": [(cold, 1), (cold, 0), (thief, 0)],
        "Channels.requestClose": [(session, [cold]), (thief, [cold])],
        "Channels.unfreeze": [(cold, 1, 1)],
        "Channels.withdrawEarnings": [(thief,), (cold,)],
        "Channels.withdrawFees": [()],
        "ModelRegistry.register": [(replace(SPEC, context=256), "model")],
        "StakeRegistry.cancelUnbond": [()],
        "StakeRegistry.endService": [()],
        "StakeRegistry.jail": [(cold,)],
        "StakeRegistry.register": [(Role.WORKER, fresh), (Role.WORKER, thief), (Role.VERIFIER, cold)],
        "StakeRegistry.requestUnbond": [(1,), (1000 * WORK,)],
        "StakeRegistry.rotateHotKey": [(fresh,)],
        "StakeRegistry.slash": [(cold, 1, thief)],
        "StakeRegistry.stake": [(1,)],
        "StakeRegistry.updateService": [(service,)],
        "StakeRegistry.withdrawStake": [(thief,)],
        "WorkToken.approve": [(thief, 1), (channels, 1)],
        "WorkToken.permit": [(cold, thief, 1, 2**40, *NOT_A_SIGNATURE)],
        "WorkToken.transfer": [(thief, 1), (thief, 0)],
        "WorkToken.transferFrom": [(cold, thief, 1), (payer, thief, 1), (channels, thief, 1)],
    }


GOES_THROUGH = {"Channels.claim", "Channels.release", "Beacon.recordBeacon", "ModelRegistry.register",
                "StakeRegistry.register", "WorkToken.approve", "WorkToken.transfer"}  # fmt: skip
"""`claim` for the worker. The others anybody may call, or they concern the thief's own, empty account."""


def test_every_function_is_tried(scene: Scene) -> None:
    assert set(attempts(scene, 1)) == {
        f"{contract}.{item['name']}"
        for contract in CONTRACTS
        for item in json.loads((resources.files("efedllm.chain") / "artifacts" / f"{contract}.json").read_text())["abi"]
        if item["type"] == "function" and item["stateMutability"] not in ("view", "pure")
    }


async def test_a_stolen_hot_key_moves_nothing_but_a_claim(scene: Scene, anvil: AnvilProcess) -> None:
    chain, sent = scene.chain, set()
    before = await scene.state()
    assert before["account"].pending == 200 and before["account"].earnings == 100
    names = {name: address for address, name in chain.deployment.contracts.names().items()}
    for name, tried in attempts(scene, await chain.rpc.block_number() - 1).items():
        contract, function = name.split(".")
        for arguments in tried:
            snapshot = anvil.snapshot()
            anvil.increase_time(chain.deployment.parameters.challenge_window_seconds + 1)
            call = Call(names[contract], _data(contract, function, *arguments), name)
            try:
                await _sender(chain, scene.thief).send(call)
            except Reverted:
                assert await scene.state() == before, name
            else:
                sent.add(name)
                EXPECTED.get(name, unchanged)(before, await scene.state())
            anvil.revert(snapshot)
    assert sent == GOES_THROUGH


def _sender(chain: Chain, account: LocalAccount) -> Any:
    """A sender that does not remember what was undone."""
    return type(chain.sender(account))(
        chain.rpc, chain.deployment.chain_id, account, chain.deployment.contracts.names()
    )


def unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert after == before


def claimed(before: dict[str, Any], after: dict[str, Any]) -> None:
    """From the client's deposit to the worker's own pending money."""
    account = before["account"]
    expected = before | {
        "account": replace(account, next=account.next + 1, pending=account.pending + 400),
        "channel": replace(before["channel"], claimed=700),
    }
    assert after == expected


def released(before: dict[str, Any], after: dict[str, Any]) -> None:
    """To the worker's own earnings."""
    account = before["account"]
    assert after == before | {"account": replace(account, pending=0, earnings=account.earnings + 200)}


EXPECTED: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "Channels.claim": claimed,
    "Channels.release": released,
}


async def test_after_the_rotation_a_stolen_key_does_not_even_claim(scene: Scene, anvil: AnvilProcess) -> None:
    chain, cold = scene.chain, scene.cold.address
    new = await new_account(chain)
    owner = chain.sender(scene.cold)
    await owner.send(chain.stakes.rotate_hot_key(new.address))
    claim = Call(chain.channels.address, _data("Channels", "claim", cold, scene.voucher(700)), "claim")
    with pytest.raises(Reverted, match="NotTheWorker"):
        await chain.sender(new).send(claim)  # announced only
    assert await chain.stakes.hot_key_of(cold) == scene.thief.address
    assert not await chain.stakes.ever_hot_key_of(cold, new.address)
    anvil.increase_time(chain.deployment.parameters.hot_key_delay_seconds + 1)
    assert await chain.stakes.hot_key_of(cold) == new.address
    with pytest.raises(Reverted, match="NotTheWorker"):
        await chain.sender(scene.thief).send(claim)
    await chain.sender(new).send(claim)  # for work that was receipted with the old key
    assert await chain.stakes.ever_hot_key_of(cold, scene.thief.address), "what it signed stays provable"
    assert await chain.stakes.ever_hot_key_of(cold, new.address)
    assert not await chain.stakes.ever_hot_key_of(cold, ZERO_ADDRESS)
