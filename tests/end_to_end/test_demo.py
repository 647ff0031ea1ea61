"""`make demo` from beginning to end: what it says is what the chain says, and nobody but the cheat is worse off."""

import io
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from chain_scripts import demo
from chain_scripts.local_network import FLOAT, PASSWORD, STAKE
from chain_scripts.processes import Processes
from efedllm.chain.amounts import parse_amount
from efedllm.chain.chain import Chain
from efedllm.chain.events import Jailed, Slashed
from efedllm.chain.game_events import Collected, Ended, Opened, Proven, Refunded
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.local import rpc
from efedllm.chain.origin import Event
from efedllm.chain.participants import find_offers
from efedllm.protocol.game import Phase

pytestmark = pytest.mark.timeout(900)
DECIMALS = 18
FUNDED = parse_amount("10000", DECIMALS)


@dataclass(frozen=True)
class Played:
    """What a demo printed; its programs are still running."""

    text: str
    folder: Path
    processes: Processes
    rpc: str

    def key(self, name: str, role: KeyRole) -> str:
        return KeyStore(self.folder / name).find(role).address


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder, written = tmp_path_factory.mktemp("demo"), io.StringIO()
    environment = {
        PASSWORD: secrets.token_hex(16),
        "EFEDLLM_DEPLOYMENT": str(folder / "deployment.json"),
        "OMP_NUM_THREADS": "1",
    }
    with Processes(folder, environment) as processes:
        demo.demonstrate(Console(file=written, soft_wrap=True), processes, folder, keep=False)
        yield Played(written.getvalue(), folder, processes, processes.environment["EFEDLLM_RPC"])


async def events_of(chain: Chain) -> list[Event]:
    return [event async for page in chain.events().read() for event in page.events]


async def test_only_the_cheat_is_slashed_jailed_and_routed_around(ended: Played) -> None:
    cheater = ended.key("cheater", KeyRole.COLD)
    async with await Chain.connect(ended.rpc, ended.folder / "deployment.json") as chain:
        found = await events_of(chain)
        assert {event.participant for event in found if isinstance(event, Jailed | Slashed)} == {cheater}
        assert {event.worker for event in found if isinstance(event, Opened | Proven)} == {cheater}
        assert [event.outcome for event in found if isinstance(event, Ended)] == [Phase.CHALLENGER_WON]
        state = await chain.stakes.participant_of(cheater)
        assert state.jailed
        assert state.stake == 0
        offers = {offer.worker for offer in await find_offers(chain)}
        assert offers == {ended.key(name, KeyRole.COLD) for name in demo.RANGES}
        for worker in offers:
            assert (await chain.stakes.participant_of(worker)).stake == parse_amount(STAKE, DECIMALS)


async def test_the_client_is_refunded_and_the_verifier_paid(ended: Played) -> None:
    async with await Chain.connect(ended.rpc, ended.folder / "deployment.json") as chain:
        found = await events_of(chain)
        (refund,) = [event for event in found if isinstance(event, Refunded)]
        (collected,) = [event for event in found if isinstance(event, Collected)]
        assert refund.payer == ended.key("client", KeyRole.COLD)
        assert refund.amount > 0
        assert (await chain.channels.account_of(refund.worker)).pending == 0
        verifier = ended.key("verifier", KeyRole.HOT)
        share = parse_amount(STAKE, DECIMALS) * chain.deployment.parameters.challenger_share_bps // 10_000
        assert collected.challenger == verifier
        assert collected.amount == share
        assert await chain.token.balance_of(verifier) == parse_amount(FLOAT, DECIMALS) + share
        # The others of its path are paid for that job all the same.
        for name in demo.RANGES:
            worker = ended.key(name, KeyRole.COLD)
            account = await chain.channels.account_of(worker)
            assert (account.pending, account.earnings) == (0, 0)
            assert await chain.token.balance_of(worker) > FUNDED - parse_amount(STAKE, DECIMALS)


def test_the_ledger_adds_up(ended: Played) -> None:
    audit = ended.processes.run("audit")
    assert audit["ok"]
    assert audit["vouchers"] == {"checked": 9, "unavailable_claims": 0}


def test_every_transaction_that_is_shown_is_in_the_chain_with_its_gas(ended: Played) -> None:
    shown = re.findall(r"([0-9,]+) gas  (0x[0-9a-f]{64})", ended.text)
    assert len(shown) == len({transaction for _, transaction in shown}) > 10
    for gas, transaction in shown:
        mined = rpc(ended.rpc, "eth_getTransactionReceipt", transaction)
        assert mined["status"] == "0x1"
        assert f"{int(mined['gasUsed'], 16):,}" == gas
