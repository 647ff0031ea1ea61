"""Upkeep of channels: the decision as a table and by property, and the doing of it with workers on sockets."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.client.api import Spending
from efedllm.client.errors import FundingError, WorkerFailed
from efedllm.client.network import ChannelState, Top
from efedllm.client.upkeep import DAY_SECONDS, Policy, Standing, Upkeep, plan_upkeep
from tests.client.memory import client_on
from tests.client.test_recovery import books, clientless
from tests.client.test_session import PROMPT, TOKENS, fee, read
from tests.support.fake_worker import Lies

NOW = 1_000_000_000
FRESH = Standing("0xaa", 1000, 0, 100, 0, 0, NOW - 60, True)
IDLE, GONE = NOW - 30 * DAY_SECONDS, NOW - DAY_SECONDS
FILL = Policy(low_water=500)


@pytest.mark.parametrize(
    ("channel", "policy", "expected"),
    [
        (FRESH, Policy(), Upkeep()),
        (replace(FRESH, used_at=IDLE), Policy(), Upkeep(close=["0xaa"])),
        (replace(FRESH, used_at=IDLE + 1), Policy(), Upkeep()),
        (replace(FRESH, used_at=NOW + 9), Policy(idle_seconds=0), Upkeep(close=["0xaa"])),
        (replace(FRESH, used_at=IDLE, reserved=5), Policy(), Upkeep()),
        (replace(FRESH, used_at=IDLE, signed=1000), Policy(), Upkeep()),
        (replace(FRESH, used_at=IDLE, claimed=1000), Policy(), Upkeep()),
        (replace(FRESH, used_at=GONE, is_active=False), Policy(), Upkeep(close=["0xaa"])),
        (replace(FRESH, is_active=False), Policy(), Upkeep()),
        (replace(FRESH, closing_at=NOW), Policy(), Upkeep(finish=["0xaa"])),
        (replace(FRESH, closing_at=NOW + 1, used_at=IDLE), FILL, Upkeep()),
        (replace(FRESH, signed=500), FILL, Upkeep()),
        (replace(FRESH, signed=501), FILL, Upkeep([Top("0xaa", 1000)])),
        (replace(FRESH, signed=400, reserved=101), FILL, Upkeep([Top("0xaa", 1000)])),
        (replace(FRESH, signed=900), replace(FILL, deposit=50), Upkeep([Top("0xaa", 400)])),
        (replace(FRESH, signed=900), replace(FILL, deposit=700), Upkeep([Top("0xaa", 700)])),
        (replace(FRESH, signed=900, is_active=False), FILL, Upkeep()),
        (replace(FRESH, signed=900), replace(FILL, low_water=2000), Upkeep(short=4000)),
    ],
)
def test_one_channel(channel: Standing, policy: Policy, expected: Upkeep) -> None:
    assert plan_upkeep([channel], policy, 3000, NOW) == expected


standings = st.builds(
    Standing,
    worker=st.uuids().map(str),
    deposit=st.integers(1, 1000),
    claimed=st.integers(0, 500),
    signed=st.integers(0, 1000),
    reserved=st.sampled_from((0, 0, 10)),
    closing_at=st.sampled_from((0, 0, NOW, NOW + 5)),
    used_at=st.sampled_from((NOW, IDLE, GONE, 0)),
    is_active=st.booleans(),
)


@given(st.lists(standings, max_size=12), st.integers(0, 5000))
def test_never_beyond_what_can_be_spent_and_nothing_twice(channels: list[Standing], can_spend: int) -> None:
    plan = plan_upkeep(channels, FILL, can_spend, NOW)
    assert sum(top.amount for top in plan.tops) <= can_spend
    touched = [*(top.worker for top in plan.tops), *plan.close, *plan.finish]
    assert len(touched) == len(set(touched))
    by_worker = {channel.worker: channel for channel in channels}
    assert all(by_worker[worker].reserved == 0 for worker in plan.close)
    assert all(by_worker[top.worker].is_active for top in plan.tops if not by_worker[top.worker].reserved)
    assert plan_upkeep(channels, FILL, 10**9, NOW).short == 0


# done


async def test_a_voucher_that_was_not_credited_is_delivered_without_another_request(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        m.workers[1].lies = Lies(swallow_payment=2)
        async with client_on(m.network, tmp_path / "now", signer) as client:
            with pytest.raises(WorkerFailed):
                await read(client.generate(PROMPT, max_tokens=20))
            lost = client._payments.channel(m.workers[1].address).signed - m.workers[1].paid
            assert lost > 0
            m.workers[1].lies = Lies()
            done = await client.tend()
            assert done.delivered[m.workers[1].address] == lost
            assert done.problems == []
            books(m, client)
            assert (await client.tend()).delivered == {}


async def test_another_program_delivers_it_as_well(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        m.workers[0].lies = Lies(swallow_payment=2)
        async with client_on(m.network, tmp_path / "now", signer) as client:
            with pytest.raises(WorkerFailed):
                await read(client.generate(PROMPT, max_tokens=20))
        m.workers[0].lies = Lies()
        async with client_on(m.network, tmp_path / "now", signer, upkeep_seconds=0.05) as client:
            channels = [client._payments.channel(worker.address) for worker in m.workers]
            while any(worker.paid != one.signed for worker, one in zip(m.workers, channels, strict=True)):  # noqa: ASYNC110 (of another task)
                await asyncio.sleep(0.01)
            books(m, client)


async def test_a_worker_that_does_not_answer_is_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with clientless(tmp_path) as (m, signer):
        async with client_on(m.network, tmp_path / "now", signer) as client:
            await read(client.generate(PROMPT, max_tokens=20))
        m.network.offered = [replace(offer, endpoint="http://127.0.0.1:9") for offer in m.network.offered]
        async with client_on(m.network, tmp_path / "now", signer) as client:
            for _ in range(2):
                problems = (await client.tend()).problems
                assert len(problems) == 2
                assert all("does not answer" in problem and "\n" not in problem for problem in problems)
        assert sum("does not answer" in record.getMessage() for record in caplog.records) == 2


async def test_idle_channels_are_closed_and_their_money_is_in_the_budget_again(tmp_path: Path) -> None:
    spending = _budget(5000, deposit=2500)
    async with (
        clientless(tmp_path) as (m, signer),
        client_on(m.network, tmp_path / "now", signer, spending=spending) as client,
    ):
        await read(client.generate(PROMPT, max_tokens=20))
        assert [top.amount for tops in m.network.fundings for top in tops] == [2500, 2500]
        m.network.time += 31 * DAY_SECONDS
        done = await client.tend()
        assert sorted(done.closing) == sorted(worker.address for worker in m.workers)
        with pytest.raises(WorkerFailed, match="the channel with it is closing"):
            await read(client.generate(PROMPT, max_tokens=20))
        assert (await client.tend()).closed == []
        m.network.time += 100
        for worker in m.workers:  # which claimed in time
            key = (worker.address, signer.address)
            m.network.channels[key] = replace(m.network.channels[key], claimed=worker.paid)
        done = await client.tend()
        assert sorted(done.closed) == sorted(worker.address for worker in m.workers)
        assert done.refund == 5000 - 2 * fee(150, 20)
        for worker in m.workers:
            worker.epoch, worker.memory.book = 1, None
            worker.memory.vouchers.clear()
        m.network.fundings, spent = [], 2 * fee(150, 20)
        m.network.came_back = -spent
        await read(client.generate(PROMPT, max_tokens=20))
        assert sum(top.amount for tops in m.network.fundings for top in tops) <= 5000 - spent


async def test_a_channel_just_seen_is_not_idle(tmp_path: Path) -> None:
    """It was opened by a command long ago, perhaps; this program sees it first now."""
    async with clientless(tmp_path) as (m, signer):
        m.network.channels[m.workers[0].address, signer.address] = ChannelState(1000, 0, False, 0)
        async with client_on(m.network, tmp_path / "now", signer) as client:
            assert (await client.tend()).closing == []
            m.network.time += 31 * DAY_SECONDS
            assert (await client.tend()).closing == [m.workers[0].address]


async def test_channels_in_use_are_filled_until_the_budget_is_used_up(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        spending = replace(_budget(9000, deposit=2000), low_water=1800)
        async with client_on(m.network, tmp_path / "now", signer, spending=spending) as client:
            await read(client.generate(PROMPT, max_tokens=20))
            done = await client.tend()
            assert [top.amount for top in done.topped_up] == [2000, 2000]
            m.network.offered = m.network.offered[:1]
            for state in [m.network.channels[m.workers[0].address, signer.address]]:
                m.network.channels[m.workers[0].address, signer.address] = replace(state, deposit=700)
            (problem,) = (await client.tend()).problems[-1:]
            assert "need 2000 base units more than the balance or budget allows" in problem


def _budget(budget: int, deposit: int) -> Spending:
    return Spending(deposit=deposit, budget=budget)


async def test_a_budget_holds_over_programs(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        async with client_on(m.network, tmp_path / "now", signer, spending=_budget(1400, 700)) as client:
            assert await read(client.generate(PROMPT, max_tokens=2)) == TOKENS[:2]
        async with client_on(m.network, tmp_path / "now", signer, spending=_budget(1400, 700)) as client:
            with pytest.raises(FundingError, match=r"the budget of 1400 base units has 0 left, .* raise it, or close"):
                await read(client.generate(PROMPT, max_tokens=20))
        assert sum(top.amount for tops in m.network.fundings for top in tops) == 1400


async def test_money_on_its_way_is_waited_for_and_not_sent_twice(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        for worker in m.workers:
            m.network.channels[worker.address, signer.address] = ChannelState(0, 0, False, 0, unconfirmed=5000)
        async with client_on(m.network, tmp_path / "now", signer) as client:
            await read(client.generate(PROMPT, max_tokens=20))
        assert m.network.fundings == []
