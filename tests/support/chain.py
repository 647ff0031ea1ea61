"""A real chain for tests: one Anvil and one deployment per session, put back as they were after every test."""

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


@pytest.fixture(scope="session")
def anvil_of_session() -> Iterator[AnvilProcess]:
    """For the fixtures below: a test that used it directly would see what others left behind."""
    with AnvilProcess.start() as anvil:
        yield anvil


@pytest.fixture(scope="session")
def deployment_file(anvil_of_session: AnvilProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that `efedllm deploy --local` writes."""
    path = tmp_path_factory.mktemp("deployment") / "deployment.json"
    assert main(["deploy", "--local", "--rpc", anvil_of_session.url, "--out", str(path)]) == 0
    return path


@pytest.fixture
def anvil(anvil_of_session: AnvilProcess, deployment_file: Path) -> Iterator[AnvilProcess]:
    """The session's Anvil: contracts deployed, a block per transaction; whatever the test does to it is undone."""
    snapshot = anvil_of_session.snapshot()
    yield anvil_of_session
    anvil_of_session.revert(snapshot)


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
