"""Reading events: typed, paged, resumable, confirmed, nothing skipped."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise

import pytest
from eth_account import Account

from efedllm.chain.abi import interface
from efedllm.chain.chain import Chain
from efedllm.chain.errors import ChainError, ChainUnreachable, Reorganised
from efedllm.chain.event_reader import Cursor, EventReader, Page
from efedllm.chain.events import KINDS, Event, Origin, ServiceUpdated, Staked, Transfer
from efedllm.chain.local import AnvilProcess
from efedllm.chain.rpc import Block, BlockId, Log, Rpc
from efedllm.chain.stake_registry import Role, Service
from tests.support.chain import fund, new_account
from tests.support.registry import MODEL_ID, SPEC


async def stake_often(chain: Chain, times: int) -> str:
    """A worker that stakes 1, 2, ... base units, each in a block of its own."""
    account = await new_account(chain, work=1000)
    sender = chain.sender(account)
    await sender.send(chain.stakes.register(Role.WORKER, Account.create().address))
    await sender.send(chain.token.approve(chain.stakes.address, 1000))
    for amount in range(1, times + 1):
        await sender.send(chain.stakes.stake(amount))
    return account.address


def reader(
    chain: Chain, source: Rpc | None = None, confirmations: int = 0, page_blocks: int = 2_000, near_blocks: int = 2
) -> EventReader:
    contracts = {"StakeRegistry": chain.stakes.address}
    first = chain.deployment.deploy_block
    return EventReader(source or chain.rpc, contracts, first, confirmations, page_blocks, near_blocks)


async def pages(reader: EventReader, cursor: Cursor | None = None, last: int | None = None) -> list[Page]:
    return [page async for page in reader.read(cursor, last)]


def amounts(found: list[Page]) -> list[int]:
    return [event.amount for page in found for event in page.events if isinstance(event, Staked)]


def test_every_field_is_named_like_the_contracts(subtests: pytest.Subtests) -> None:
    """Values are taken by position, so a field in the wrong place would be a wrong value."""
    for contract, kinds in KINDS.items():
        by_name = {signature.name: signature for signature in interface(contract).events.values()}
        for kind in kinds:
            with subtests.test(event=kind.__name__):
                solidity = [re.sub("([A-Z])", r"_\1", item["name"]).lower() for item in by_name[kind.__name__].inputs]
                if kind is Transfer:
                    assert solidity == ["from", "to", "value"]
                else:
                    assert [item.name for item in fields(kind)][1:] == solidity


def test_no_event_of_ours_is_forgotten() -> None:
    for contract in ("ModelRegistry", "StakeRegistry", "Channels", "Beacon"):
        emitted = {signature.name for signature in interface(contract).events.values()}
        assert emitted - {"EIP712DomainChanged"} == {kind.__name__ for kind in KINDS[contract]}


async def test_struct_in_an_event(chain: Chain) -> None:
    account = await new_account(chain, work=10)
    sender = chain.sender(account)
    await sender.send(chain.models.register(SPEC, "ünïcode"))
    await sender.send(chain.stakes.register(Role.WORKER, Account.create().address))
    service = Service(MODEL_ID, 2, 5, 3, 1 << 100, "https://example.org:1234/é")
    await sender.send(chain.stakes.update_service(service))
    events = [event for page in await pages(chain.events()) for event in page.events]
    assert [event.service for event in events if isinstance(event, ServiceUpdated)] == [service]
    assert await chain.stakes.service_of(account.address) == service
    assert await chain.models.spec_of(MODEL_ID) == SPEC


@pytest.mark.parametrize("page_blocks", [1, 2, 3, 7, 1000])
async def test_pages_hold_every_event_once(chain: Chain, page_blocks: int) -> None:
    await stake_often(chain, 6)
    found = await pages(reader(chain, page_blocks=page_blocks))
    assert amounts(found) == [1, 2, 3, 4, 5, 6]
    head = await chain.rpc.block()
    assert found[-1].cursor == Cursor(head.number, head.hash)
    ends = [chain.deployment.deploy_block - 1] + [page.cursor.block for page in found]
    assert all(0 < after - before <= page_blocks for before, after in pairwise(ends))


async def test_resumes_at_any_block(chain: Chain) -> None:
    await stake_often(chain, 4)
    for stop in range(chain.deployment.deploy_block, await chain.rpc.block_number() + 1):
        before = await pages(reader(chain, page_blocks=2), last=stop)
        after = await pages(reader(chain, page_blocks=2), before[-1].cursor)
        assert amounts(before) + amounts(after) == [1, 2, 3, 4]


async def test_only_confirmed_blocks(chain: Chain, anvil: AnvilProcess) -> None:
    await stake_often(chain, 3)
    assert amounts(await pages(reader(chain, confirmations=2))) == [1]
    anvil.mine(2)
    assert amounts(await pages(reader(chain, confirmations=2))) == [1, 2, 3]


async def test_nothing_to_read(chain: Chain) -> None:
    found = await pages(reader(chain))
    assert await pages(reader(chain), found[-1].cursor) == []
    assert await pages(reader(chain, confirmations=10_000)) == []


async def test_token_is_read_on_request_only(chain: Chain) -> None:
    await fund(chain, "0x" + "11" * 20, work=5)
    assert not any(isinstance(event, Transfer) for page in await pages(chain.events()) for event in page.events)
    transfers = [event for page in await pages(chain.events("WorkToken")) for event in page.events]
    assert isinstance(transfers[-1], Transfer)
    assert transfers[-1].amount == 5


class StingyRpc(Rpc):
    """A node that refuses answers with more than `most` logs, as public ones do."""

    most = 2
    refused = 0

    async def logs(self, addresses: Sequence[str], first: int, last: int) -> list[Log]:
        found = await super().logs(addresses, first, last)
        if len(found) > self.most:
            self.refused += 1
            raise ChainError("query returned more than 2 results")
        return found


async def test_too_large_pages_are_halved(chain: Chain, anvil: AnvilProcess) -> None:
    await stake_often(chain, 9)
    async with StingyRpc(anvil.url) as rpc:
        assert amounts(await pages(reader(chain, rpc, near_blocks=0))) == list(range(1, 10))
        assert rpc.refused > 0


async def test_refusal_of_a_single_block_is_an_error(chain: Chain, anvil: AnvilProcess) -> None:
    await stake_often(chain, 1)
    async with StingyRpc(anvil.url) as rpc:
        rpc.most = -1
        with pytest.raises(ChainError, match="more than 2 results"):
            await pages(reader(chain, rpc, near_blocks=0))


async def test_reorganisation_is_noticed(chain: Chain, anvil: AnvilProcess) -> None:
    snapshot = anvil.snapshot()
    await stake_often(chain, 2)
    cursor = (await pages(reader(chain)))[-1].cursor
    anvil.revert(snapshot)
    await stake_often(chain, 5)
    with pytest.raises(Reorganised) as caught:
        await pages(reader(chain), cursor)
    assert caught.value.block == cursor.block


class ChangingRpc(Rpc):
    """A chain that is reorganised while its logs are read, once."""

    anvil: AnvilProcess
    snapshot = ""

    async def logs(self, addresses: Sequence[str], first: int, last: int) -> list[Log]:
        found = await super().logs(addresses, first, last)
        if self.snapshot:
            self.anvil.revert(self.snapshot)
            self.snapshot = ""
            self.anvil.mine(50)
        return found


async def test_page_is_never_a_mixture_of_two_chains(chain: Chain, anvil: AnvilProcess) -> None:
    snapshot = anvil.snapshot()
    await stake_often(chain, 3)
    async with ChangingRpc(anvil.url) as rpc:
        rpc.anvil, rpc.snapshot = anvil, snapshot
        found = await pages(reader(chain, rpc, near_blocks=0))
    assert amounts(found) == []
    assert found[-1].cursor.hash == (await chain.rpc.block(found[-1].cursor.block)).hash


async def test_follow_delivers_blocks_as_they_come(chain: Chain) -> None:
    seen: list[int] = []

    async def watch() -> None:
        async for page in reader(chain).follow(poll_seconds=0.01):
            seen.extend(amounts([page]))
            if len(seen) == 5:
                return

    watching = asyncio.create_task(watch())
    await stake_often(chain, 5)
    await watching
    assert seen == [1, 2, 3, 4, 5]


class FlakyRpc(Rpc):
    """A node that cannot be reached for a while, at every step of reading a page."""

    calls = 0

    def _maybe_fail(self) -> None:
        self.calls += 1
        if self.calls in (1, 2, 4, 7, 11, 16, 22, 23):
            raise ChainUnreachable(self.url, "down")

    async def block(self, block: BlockId = "latest") -> Block:
        self._maybe_fail()
        return await super().block(block)

    async def logs(self, addresses: Sequence[str], first: int, last: int) -> list[Log]:
        self._maybe_fail()
        return await super().logs(addresses, first, last)

    async def logs_of(self, addresses: Sequence[str], block: Block) -> list[Log]:
        self._maybe_fail()
        return await super().logs_of(addresses, block)


async def test_follow_waits_for_a_chain_that_is_down(chain: Chain, anvil: AnvilProcess) -> None:
    await stake_often(chain, 3)
    seen: list[Event] = []
    async with FlakyRpc(anvil.url) as rpc:
        async with asyncio.timeout(60):
            async for page in reader(chain, rpc, page_blocks=1).follow(poll_seconds=0):
                seen.extend(event for event in page.events if isinstance(event, Staked))
                if len(seen) == 3:
                    break
        assert rpc.calls > 23
    assert len({event.origin for event in seen}) == 3


async def test_read_tells_that_the_chain_is_down(chain: Chain, anvil: AnvilProcess) -> None:
    async with FlakyRpc(anvil.url) as rpc:
        with pytest.raises(ChainUnreachable):
            await pages(reader(chain, rpc))


def test_origins_sort_by_place_in_the_chain() -> None:
    first = Origin(5, 9, b"z", b"z", "z")
    assert sorted([Origin(6, 0, b"a", b"a", "a"), Origin(5, 10, b"a", b"a", "a"), first])[0] == first
