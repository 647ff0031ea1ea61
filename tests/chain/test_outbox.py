"""What a key has under way survives its program; and no second program gets the key."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from hypothesis import given
from hypothesis import strategies as st

from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.errors import EarlierTransaction, KeyInUse, OutboxError
from efedllm.chain.fees import Fees
from efedllm.chain.local import AnvilProcess
from efedllm.chain.outbox import Outbox, Sent, Version
from efedllm.chain.rpc import Identity
from efedllm.chain.transactions import Sender
from efedllm.storage.state import state_dir
from tests.support.chain import new_account
from tests.support.rpc_proxy import RpcProxy

TO = "0x" + "11" * 20
CHAIN = Identity(31337, b"\x07" * 32)
SENT = Sent(3, "payment", TO, b"\x01\x02", 5, 21000, False, 9, (Version(b"\x08" * 32, Fees(20, 2)),))


def payment(wei: int) -> Call:
    return Call(TO, b"", "payment", wei)


# the file

hashes = st.binary(min_size=32, max_size=32)
versions = st.builds(Version, hashes, st.builds(Fees, st.integers(0), st.integers(0)))
sents = st.builds(
    Sent,
    nonce=st.integers(0, 2**64),
    label=st.text(max_size=30),
    to=st.none() | st.just(TO),
    data=st.binary(max_size=100),
    value=st.integers(0, 2**256 - 1),
    gas=st.integers(0, 10**8),
    is_legacy=st.booleans(),
    first_block=st.integers(0, 2**64),
    versions=st.lists(versions, max_size=3).map(tuple),
    seen=st.booleans(),
)


@given(st.lists(sents, max_size=4, unique_by=lambda sent: sent.nonce))
def test_what_is_put_is_found_again(found: list[Sent]) -> None:
    folder, address = state_dir(), "0x" + secrets.token_hex(20)
    outbox = Outbox.open(folder, CHAIN, address)
    for sent in found:
        outbox.put(sent)
    outbox.close()
    again = Outbox.open(folder, CHAIN, address)
    assert list(again.sent) == sorted(found, key=lambda sent: sent.nonce)
    again.drop([sent.nonce for sent in found])
    again.close()
    assert Outbox.open(folder, CHAIN, address).sent == ()


def test_chain_that_was_restarted_has_nothing_under_way(tmp_path: Path) -> None:
    outbox = Outbox.open(tmp_path, CHAIN, TO)
    outbox.put(SENT)
    outbox.close()
    other = Outbox.open(tmp_path, replace(CHAIN, genesis=b"\x08" * 32), TO)
    assert other.sent == ()
    other.close()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": 1}', '{"version": 1, "genesis": "0x", "sent": []}'])
def test_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    outbox = Outbox.open(tmp_path, CHAIN, TO)
    outbox.put(SENT)
    outbox.close()
    outbox.path.write_text(content)
    with pytest.raises(OutboxError, match="is damaged: delete it when"):
        Outbox.open(tmp_path, CHAIN, TO)


async def test_nothing_is_sent_that_cannot_be_noted(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: what is sent could be sent twice after a crash."""
    sender = chain.sender(await new_account(chain))

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("efedllm.chain.outbox.replace_file", full)
        with pytest.raises(OutboxError, match="No space left on device"):
            await sender.send(payment(1))
    assert await chain.rpc.transaction_count(sender.address) == 0
    await sender.send(payment(1))
    assert await chain.rpc.balance(TO) == 1


async def test_state_directory_that_cannot_be_made(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    account = await new_account(chain)
    sender = Sender(chain.rpc, 31337, account, {}, environ={"EFEDLLM_STATE_DIR": str(tmp_path / "file")})
    with pytest.raises(OutboxError, match="cannot lock the key"):
        await sender.send(payment(1))


# processes


class Program:
    """The paying program as a process of its own."""

    def __init__(self, url: str, key_file: Path, wei: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.paying_program", url, str(key_file), str(wei)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, errors


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start_one(url: str, key_file: Path, wei: int = 7) -> Program:
        started.append(Program(url, key_file, wei))
        return started[-1]

    yield start_one
    for program in started:
        if program.process.poll() is None:
            program.kill()
        program.process.communicate()


@pytest.fixture
def by_hand(anvil: AnvilProcess) -> Iterator[AnvilProcess]:
    """Blocks come when the test makes them."""
    yield anvil
    anvil.rpc("evm_setAutomine", True)


async def account_in(chain: Chain, path: Path) -> LocalAccount:
    account = await new_account(chain)
    path.write_bytes(bytes(account.key))  # noqa: ASYNC240 - a test has the time
    return account


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.01)


def waiting(anvil: AnvilProcess) -> int:
    return int(anvil.rpc("txpool_status")["pending"], 16)


async def test_second_process_is_refused(
    chain: Chain, by_hand: AnvilProcess, tmp_path: Path, start: Callable[..., Program]
) -> None:
    account = await account_in(chain, tmp_path / "key")
    by_hand.rpc("evm_setAutomine", False)
    program = start(by_hand.url, tmp_path / "key")
    assert program.line() == "ready"
    other = Sender(chain.rpc, 31337, account, {})
    with pytest.raises(
        KeyInUse, match=rf"another program \(process {program.process.pid}\) sends with the key of"
    ) as caught:
        await other.send(payment(1))
    assert caught.value.pid == program.process.pid
    assert "\n" not in str(caught.value)
    await until(lambda: waiting(by_hand) == 1)
    by_hand.mine()
    assert program.line().startswith("mined")
    assert program.end() == (0, "")
    by_hand.rpc("evm_setAutomine", True)
    by_hand.mine(2)
    with other:
        await other.send(payment(1))
    assert await chain.rpc.balance(TO) == 8


@pytest.mark.parametrize("mined_before_restart", [True, False])
async def test_killed_before_it_saw_the_result(
    chain: Chain, by_hand: AnvilProcess, tmp_path: Path, start: Callable[..., Program], mined_before_restart: bool
) -> None:
    """It neither pays twice nor forgets that it paid."""
    account = await account_in(chain, tmp_path / "key")
    by_hand.rpc("evm_setAutomine", False)
    program = start(by_hand.url, tmp_path / "key")
    await until(lambda: waiting(by_hand) == 1)
    program.kill()
    if mined_before_restart:
        by_hand.mine()
    with Sender(chain.rpc, 31337, account, {}) as sender:
        if not mined_before_restart:
            sending = asyncio.create_task(sender.send(payment(7)))
            await asyncio.sleep(0.2)
            assert not sending.done()
            by_hand.mine()
        else:
            sending = asyncio.create_task(sender.send(payment(7)))
        with pytest.raises(EarlierTransaction, match="payment of 0x"):
            await sending
        assert await chain.rpc.balance(TO) == 7
        by_hand.rpc("evm_setAutomine", True)
        await sender.send(payment(7))
    assert await chain.rpc.balance(TO) == 14


async def test_killed_after_an_endpoint_lost_the_transaction(
    chain: Chain, anvil: AnvilProcess, tmp_path: Path, start: Callable[..., Program]
) -> None:
    """No node has it any more: only the outbox knows, and sends it again."""
    account = await account_in(chain, tmp_path / "key")
    with RpcProxy(anvil.url) as proxy:
        proxy.drop_transactions()
        program = start(proxy.url, tmp_path / "key")
        await until(lambda: proxy.count("eth_sendRawTransaction") > 0)
        program.kill()
    with Sender(chain.rpc, 31337, account, {}) as sender:
        assert await sender.settle()
        assert await chain.rpc.balance(TO) == 7
        assert not await sender.settle()


async def test_killed_before_anything_left(
    chain: Chain, anvil: AnvilProcess, tmp_path: Path, start: Callable[..., Program]
) -> None:
    """Noted and not sent: the transaction is completed, and whoever decided on it is told."""
    account = await account_in(chain, tmp_path / "key")
    with RpcProxy(anvil.url) as proxy:
        proxy.hang("eth_sendRawTransaction")
        program = start(proxy.url, tmp_path / "key")
        await until(lambda: proxy.count("eth_sendRawTransaction") > 0)
        program.kill()
    with Sender(chain.rpc, 31337, account, {}) as sender, pytest.raises(EarlierTransaction):
        await sender.send(payment(7))
    assert await chain.rpc.balance(TO) == 7


def test_key_is_free_after_the_end_of_its_program(tmp_path: Path) -> None:
    address = Account.create().address
    outbox = Outbox.open(tmp_path, CHAIN, address)
    shared = Outbox.open(tmp_path, CHAIN, address)
    assert shared is outbox
    outbox.close()
    assert Outbox.open(tmp_path, CHAIN, address) is shared
    shared.close()
    shared.close()
    assert Outbox.open(tmp_path, CHAIN, address) is not shared
