"""Who offers what, and what nobody offers."""

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.chain.chain import Chain
from efedllm.chain.participants import Offer, find_offers, find_participants, uncovered
from efedllm.chain.stake_registry import Role, Service
from tests.support.chain import new_account
from tests.support.registry import MODEL_ID, SPEC


async def join(chain: Chain, role: Role, stake: int, service: Service | None = None) -> LocalAccount:
    account = await new_account(chain, work=stake)
    sender = chain.sender(account)
    await sender.send(chain.stakes.register(role, Account.create().address))
    if stake:
        await sender.send(chain.token.approve(chain.stakes.address, stake))
        await sender.send(chain.stakes.stake(stake))
    if service is not None:
        await sender.send(chain.stakes.update_service(service))
    return account


async def test_find_offers(chain: Chain) -> None:
    await chain.sender(await new_account(chain)).send(chain.models.register(SPEC, "model"))
    service = Service(MODEL_ID, 0, 4, 1, 2, "http://127.0.0.1:1")
    assert await find_offers(chain) == ()
    active = await join(chain, Role.WORKER, 5, service)
    unstaked = await join(chain, Role.WORKER, 0, service)
    silent = await join(chain, Role.WORKER, 5)
    verifier = await join(chain, Role.VERIFIER, 5)
    leaving = await join(chain, Role.WORKER, 5, service)
    await chain.sender(leaving).send(chain.stakes.request_unbond(1))
    finished = await join(chain, Role.WORKER, 5, service)
    await chain.sender(finished).send(chain.stakes.end_service())

    participants = await find_participants(chain)
    everybody = [active, unstaked, silent, verifier, leaving, finished]
    assert list(participants) == [account.address for account in everybody]
    hot_key = participants[active.address].hot_key
    assert await find_offers(chain) == (Offer(active.address, hot_key, MODEL_ID, service.endpoint, 0, 4, 1, 2, 5),)
    assert await find_offers(chain, MODEL_ID) == await find_offers(chain)
    assert await find_offers(chain, b"\x00" * 32) == ()
    assert await find_offers(chain, block=chain.deployment.deploy_block + 6) == ()


@pytest.mark.parametrize(
    ("ranges", "gaps"),
    [
        ([], [(0, 8)]),
        ([(0, 8)], []),
        ([(0, 4), (4, 8)], []),
        ([(4, 8), (0, 5)], []),
        ([(2, 3), (5, 7)], [(0, 2), (3, 5), (7, 8)]),
        ([(0, 6), (1, 2), (7, 8)], [(6, 7)]),
    ],
)
def test_uncovered(ranges: list[tuple[int, int]], gaps: list[tuple[int, int]]) -> None:
    offers = [Offer("", "", MODEL_ID, "", start, end, 1, 1, 1) for start, end in ranges]
    assert uncovered(offers, 8) == gaps
