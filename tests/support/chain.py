"""A real chain for tests: one Anvil and one deployment per file of tests, put back as they were after every test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.deployment import Deployment
from efedllm.chain.local import AnvilProcess
from efedllm.chain.transactions import UnlockedAccount
from efedllm.cli import main

ETHER = 10**18
WORK = 10**18  # base units per whole token of the local token


class SharedAnvil:
    """An Anvil with the contracts, for one file of tests; `deployment_file` is what `efedllm deploy --local` wrote."""

    def __init__(self, deployment_file: Path) -> None:
        self.deployment_file = deployment_file
        self.start()

    def start(self) -> None:
        self.process = AnvilProcess.start()
        self.deployment_file.unlink(missing_ok=True)
        where = ["--rpc", self.process.url, "--out", str(self.deployment_file)]
        assert main(["deploy", "--local", *where]) == 0

    def stop(self) -> None:
        self.process.stop()

    def is_whole(self) -> bool:
        """Whether every block is there: now and then Anvil has lost one after a revert."""
        head = int(self.process.rpc("eth_blockNumber"), 16)
        return all(self.process.rpc("eth_getBlockByNumber", hex(block), False) for block in range(head + 1))


@pytest.fixture(scope="module")
def shared_anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedAnvil]:
    """For the fixtures below: a test that used it directly would see what others left behind."""
    shared = SharedAnvil(tmp_path_factory.mktemp("deployment") / "deployment.json")
    yield shared
    shared.stop()


@pytest.fixture
def anvil(shared_anvil: SharedAnvil) -> Iterator[AnvilProcess]:
    """The file's Anvil: contracts deployed, a block per transaction; whatever the test does to it is undone."""
    if not shared_anvil.is_whole():
        shared_anvil.stop()
        shared_anvil.start()
    snapshot = shared_anvil.process.snapshot()
    yield shared_anvil.process
    shared_anvil.process.revert(snapshot)


@pytest.fixture
def deployment_file(shared_anvil: SharedAnvil, anvil: AnvilProcess) -> Path:
    """The file that `efedllm deploy --local` wrote about the contracts on `anvil`."""
    return shared_anvil.deployment_file


@pytest.fixture
def deployment(anvil: AnvilProcess, deployment_file: Path) -> Deployment:
    """The contracts on `anvil`."""
    return Deployment.read(deployment_file)


@pytest.fixture
async def chain(anvil: AnvilProcess, deployment: Deployment) -> AsyncIterator[Chain]:
    async with await Chain.connect(anvil.url, deployment) as connected:
        yield connected


async def new_account(chain: Chain, work: int = 0, eth_wei: int = ETHER) -> LocalAccount:
    """A fresh key with `work` base units of the token and `eth_wei` for gas."""
    account: LocalAccount = Account.from_key(secrets.token_bytes(32))
    await fund(chain, account.address, work, eth_wei)
    return account


async def fund(chain: Chain, address: str, work: int = 0, eth_wei: int = ETHER) -> None:
    """From Anvil's first account, which deployed and owns all tokens."""
    sender = chain.sender(UnlockedAccount((await chain.rpc.accounts())[0]))
    if eth_wei:
        await sender.send(Call(address, b"", "transfer of coin", eth_wei))
    if work:
        await sender.send(chain.token.transfer(address, work))
