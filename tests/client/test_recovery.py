"""Backups put back, on either side, with real clients and workers on sockets."""

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.client.api import Client
from efedllm.client.errors import OldCopy, StoreError, Violation, WorkerFailed
from efedllm.client.network import ChannelState
from efedllm.client.trust import FIRST_AVOIDED_SECONDS
from efedllm.protocol import eip712
from efedllm.protocol.messages import Failure
from efedllm.protocol.vouchers import Leaf
from efedllm.storage.state import state_dir
from tests.client.memory import DOMAIN, TIMEOUTS, client_on
from tests.client.test_session import PROMPT, TOKENS, Market, market, read
from tests.support.fake_worker import Lies

LAYERS = [0, 2, 5]


@asynccontextmanager
async def clientless(tmp_path: Path) -> AsyncIterator[tuple[Market, LocalAccount]]:
    """A market whose client has left, and the session key for others."""
    signer = Account.create()
    async with market(tmp_path / "unused", LAYERS) as m:
        m.path.session_key = signer.address
        yield m, signer


async def ask(m: Market, data: Path, signer: LocalAccount, count: int = 1) -> None:
    async with client_on(m.network, data, signer) as client:
        for _ in range(count):
            assert await read(client.generate(PROMPT, max_tokens=20)) == TOKENS[:20]


def totals(m: Market) -> list[int]:
    return [worker.paid for worker in m.workers]


def books(m: Market, client: Client) -> None:
    """Equal on both sides."""
    for worker in m.workers:
        assert worker.memory.book is not None
        assert worker.memory.book.leaves == client._payments.channel(worker.address)._book.leaves


async def test_an_older_copy_takes_over_what_the_workers_show(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with clientless(tmp_path) as (m, signer):
        await ask(m, tmp_path / "now", signer)
        shutil.copytree(tmp_path / "now", tmp_path / "backup")
        await ask(m, tmp_path / "now", signer, 2)
        before = totals(m)
        async with client_on(m.network, tmp_path / "backup", signer) as client:
            await read(client.generate(PROMPT, max_tokens=20))
            books(m, client)
        assert totals(m) == [total * 4 // 3 for total in before]
        assert "this data directory was an older copy" in caplog.text
        await ask(m, tmp_path / "backup", signer)  # and the copy is complete from now on


async def test_a_new_data_directory_with_the_old_session_key_does_so_too(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        await ask(m, tmp_path / "now", signer, 2)
        async with client_on(m.network, tmp_path / "empty", signer) as client:
            await read(client.generate(PROMPT, max_tokens=20))
            books(m, client)


@pytest.mark.parametrize(
    ("lies", "refusal"),
    [
        (Lies(held=lambda _: None), r"older copy: \d+ base units were signed .* it knows of \d+, .* channel close"),
        (Lies(has_desk=False), r"older copy: \d+ base units were signed"),
        (Lies(held=lambda held: held and (replace(held[0], total=9999), held[1])), "it shows a voucher signed by"),
        (
            Lies(held=lambda held: held and (replace(held[0], epoch=9), held[1])),
            "it shows a voucher of another channel",
        ),
        (Lies(held=lambda held: held and (held[0], b"\x01" * 65)), "it shows a voucher"),
        (Lies(leaves=lambda leaves: leaves[:-1]), "the leaves it shows are not those under"),
        (Lies(leaves=lambda _: [Leaf(bytes(32), bytes(32), 0, 5)]), "the leaves it shows are not those under"),
    ],
)
async def test_an_older_copy_signs_nothing_for_a_worker_that_hides(tmp_path: Path, lies: Lies, refusal: str) -> None:
    """Though it names just the total that the old copy knows of."""
    async with clientless(tmp_path) as (m, signer):
        await ask(m, tmp_path / "now", signer)
        shutil.copytree(tmp_path / "now", tmp_path / "backup")
        (known, _), _ = totals(m), None
        await ask(m, tmp_path / "now", signer)
        m.workers[0].lies = replace(lies, opened=lambda opened: replace(opened, total=known))
        payments = m.workers[0].memory.payments
        async with client_on(m.network, tmp_path / "backup", signer) as client:
            with pytest.raises((OldCopy, Violation), match=refusal) as refused:
                await read(client.generate(PROMPT, max_tokens=20))
            assert "\n" not in str(refused.value)
            assert m.workers[0].memory.payments == payments
            m.workers[0].lies = Lies()
            await read(client.generate(PROMPT, max_tokens=20))  # as soon as it is honest
            books(m, client)


async def test_without_a_witness_what_was_claimed_is_known_to_be_signed(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        await ask(m, tmp_path / "now", signer)
        shutil.copytree(tmp_path / "now", tmp_path / "backup")
        (known, _) = totals(m)
        await ask(m, tmp_path / "now", signer)
        shutil.rmtree(state_dir())
        for worker in m.workers:
            key = (worker.address, signer.address)
            m.network.channels[key] = replace(m.network.channels[key], claimed=worker.paid)
        m.workers[0].lies = Lies(held=lambda _: None, opened=lambda opened: replace(opened, total=known))
        async with client_on(m.network, tmp_path / "backup", signer) as client:
            with pytest.raises(OldCopy):
                await read(client.generate(PROMPT, max_tokens=20))


async def test_after_closing_the_old_copy_begins_anew(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        await ask(m, tmp_path / "now", signer)
        for worker in m.workers:
            m.network.channels[worker.address, signer.address] = ChannelState(0, 0, False, 1)
            worker.epoch, worker.memory.book = 1, None
            worker.memory.vouchers.clear()
        async with client_on(m.network, tmp_path / "empty", signer) as client:
            await read(client.generate(PROMPT, max_tokens=20))
            books(m, client)


async def test_a_worker_that_put_back_a_backup_is_given_what_it_lost(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        await ask(m, tmp_path / "now", signer)
        old = m.workers[1].memory.copy()
        await ask(m, tmp_path / "now", signer, 2)
        before = totals(m)
        m.workers[1].memory = old
        async with client_on(m.network, tmp_path / "now", signer) as client:
            await read(client.generate(PROMPT, max_tokens=20))
            books(m, client)
        assert totals(m) == [total * 4 // 3 for total in before]


async def test_a_worker_that_lost_everything(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        await ask(m, tmp_path / "now", signer, 2)
        before, m.workers[0].memory = totals(m), type(m.workers[0].memory)()
        async with client_on(m.network, tmp_path / "now", signer) as client:
            await read(client.generate(PROMPT, max_tokens=20))
            books(m, client)
        assert totals(m) == [total * 3 // 2 for total in before]


async def test_a_worker_that_does_not_take_back_what_it_lost_is_left(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        await ask(m, tmp_path / "now", signer)
        m.workers[0].memory.book = None
        m.workers[0].lies = Lies(credited=lambda total: total - 1)
        async with client_on(m.network, tmp_path / "now", signer) as client:
            with pytest.raises(WorkerFailed, match=r"it credits .* base units for vouchers of"):
                await read(client.generate(PROMPT, max_tokens=20))


async def test_both_lost_the_same_vouchers(tmp_path: Path) -> None:
    """Nobody can show them any more: nothing is signed in this epoch."""
    async with clientless(tmp_path) as (m, signer):
        await ask(m, tmp_path / "now", signer)
        shutil.copytree(tmp_path / "now", tmp_path / "backup")
        old = [worker.memory.copy() for worker in m.workers]
        await ask(m, tmp_path / "now", signer)
        for worker, memory in zip(m.workers, old, strict=True):
            worker.memory = memory
        async with client_on(m.network, tmp_path / "backup", signer) as client:
            with pytest.raises(OldCopy, match="channel close"):
                await read(client.generate(PROMPT, max_tokens=20))


async def test_a_worker_that_hides_is_avoided_where_there_is_another(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer), market(tmp_path / "unused too", [0, 5]) as other:
        other.path.session_key = signer.address
        m.workers[0].lies = Lies(opened=lambda opened: replace(opened, total=777))
        (dearer,) = other.network.offered
        m.network.offered.append(replace(dearer, prompt_price=7, token_price=20))
        other.workers[0].hop = replace(other.workers[0].hop, promptPrice=7, tokenPrice=20)
        m.network.hot_keys |= other.network.hot_keys
        async with client_on(m.network, tmp_path / "now", signer) as client:
            generation = client.generate(PROMPT, max_tokens=20)
            assert await read(generation) == TOKENS[:20]
            assert [share.worker for share in generation.shares] == [other.workers[0].address]


async def test_a_worker_that_was_caught_is_avoided_where_there_is_another(tmp_path: Path) -> None:
    """Also by later programs; a path that it alone covers is taken all the same."""
    async with clientless(tmp_path) as (m, signer), market(tmp_path / "unused too", [0, 5]) as other:
        other.path.session_key = signer.address
        (dearer,) = other.network.offered
        m.network.hot_keys |= other.network.hot_keys
        alone, both = list(m.network.offered), [*m.network.offered, replace(dearer, prompt_price=7, token_price=20)]
        other.workers[0].hop = replace(other.workers[0].hop, promptPrice=7, tokenPrice=20)
        m.workers[1].lies = Lies(receipt=lambda receipt: replace(receipt, fee=receipt.fee + 1))
        m.network.offered = both
        async with client_on(m.network, tmp_path / "now", signer) as client:
            with pytest.raises(Violation):
                await read(client.generate(PROMPT, max_tokens=20))
        m.workers[1].lies = Lies()
        async with client_on(m.network, tmp_path / "now", signer) as client:
            for offered, chosen in ((both, other.workers), (alone, m.workers)):
                m.network.offered = offered
                generation = client.generate(PROMPT, max_tokens=20)
                await read(generation)
                assert [share.worker for share in generation.shares] == [worker.address for worker in chosen]


async def test_a_worker_that_broke_off_is_avoided_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by later programs; longer each time; and where there is no other path, it is asked all the same."""
    async with clientless(tmp_path) as (m, signer), market(tmp_path / "unused too", [0, 5]) as other:
        other.path.session_key = signer.address
        (dearer,) = other.network.offered
        m.network.hot_keys |= other.network.hot_keys
        alone, both = list(m.network.offered), [*m.network.offered, replace(dearer, prompt_price=7, token_price=20)]
        other.workers[0].hop = replace(other.workers[0].hop, promptPrice=7, tokenPrice=20)
        m.network.offered = both
        ahead = 0
        monkeypatch.setattr("efedllm.client.api._now", lambda: int(time.time()) + ahead)

        async def chosen() -> list[str]:
            async with client_on(m.network, tmp_path / "now", signer) as client:
                generation = client.generate(PROMPT, max_tokens=20)
                await read(generation)
                return [share.worker for share in generation.shares]

        ours, theirs = [worker.address for worker in m.workers], [other.workers[0].address]
        for seconds in (FIRST_AVOIDED_SECONDS, 2 * FIRST_AVOIDED_SECONDS):
            m.workers[1].lies = Lies(hang_up_after=4)
            with pytest.raises(WorkerFailed):
                await chosen()
            m.workers[1].lies = Lies()
            ahead = seconds - 30
            assert await chosen() == theirs
            m.network.offered = alone
            assert await chosen() == ours
            m.network.offered = both
            ahead = seconds + 30
            assert await chosen() == ours


async def test_who_refuses_did_not_break_off(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        m.workers[1].lies = Lies(opened=lambda o: Failure(o.request_id, "request", "not today"))
        async with client_on(m.network, tmp_path / "now", signer) as client:
            with pytest.raises(WorkerFailed, match="not today"):
                await read(client.generate(PROMPT, max_tokens=20))
            assert [client._store.breaks(worker.address).count for worker in m.workers] == [0, 0]


async def test_where_no_token_comes_anybody_may_be_why(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        m.workers[1].lies = Lies(token=lambda _: [], receipt=lambda r: None if r.generated else r)
        m.workers[0].lies = Lies(receipt=lambda r: None if r.generated else r)
        async with client_on(m.network, tmp_path / "now", signer, replace(TIMEOUTS, stall=0.5, receipt=60)) as client:
            with pytest.raises(WorkerFailed, match="no token came"):
                await read(client.generate(PROMPT, max_tokens=20))
            assert [client._store.breaks(worker.address).count for worker in m.workers] == [1, 1]


async def test_a_voucher_that_was_kept_but_not_credited_counts_once(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer):
        m.workers[1].lies = Lies(keep_payment=2)
        async with client_on(m.network, tmp_path / "now", signer) as client:
            with pytest.raises(WorkerFailed):
                await read(client.generate(PROMPT, max_tokens=20))
            m.workers[1].lies = Lies()
            await read(client.generate(PROMPT, max_tokens=20))
            books(m, client)


async def test_a_request_ends_with_no_voucher_under_way(tmp_path: Path) -> None:
    """The last worker hangs up on its last voucher, while the first one takes its time to credit its own: both channels
    are free for the next request, and no book is in doubt that need not be."""
    async with clientless(tmp_path) as (m, signer), client_on(m.network, tmp_path / "now", signer) as client:
        await read(client.generate(PROMPT, max_tokens=20))
        m.workers[1].lies = Lies(hang_up_after=len(m.workers[1].memory.receipts))
        m.workers[0].lies = Lies(credit_seconds=0.3)
        with pytest.raises(WorkerFailed):
            await read(client.generate(PROMPT, max_tokens=20))
        assert not any(client._payments.channel(worker.address).lock.locked() for worker in m.workers)
        assert client._payments.channel(m.workers[0].address).signed == m.workers[0].paid
        for worker in m.workers:
            worker.lies = Lies()
        await read(client.generate(PROMPT, max_tokens=20))
        books(m, client)


async def test_two_copies_are_not_used_at_once(tmp_path: Path) -> None:
    async with clientless(tmp_path) as (m, signer), client_on(m.network, tmp_path / "now", signer):
        with pytest.raises(StoreError, match=r"another program \(process \d+\) uses"):
            async with client_on(m.network, tmp_path / "copy", signer):
                pass


async def test_vouchers_are_signed_by_the_session_key(tmp_path: Path) -> None:
    """As the fake desk tells them: what these tests rest on."""
    async with clientless(tmp_path) as (m, signer):
        await ask(m, tmp_path / "now", signer)
        (voucher, signature), leaves = m.workers[0].memory.vouchers[-1]
        assert eip712.recover(DOMAIN, voucher, signature) == signer.address
        assert leaves[-1].after == voucher.total == m.workers[0].paid
