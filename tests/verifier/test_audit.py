"""`efedllm audit` on a real chain with real claims: green when all is right, and naming whatever is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak

from chain_scripts.audit import run_audit
from chain_scripts.ledger import collect
from efedllm.chain.chain import Chain
from efedllm.chain.local import AnvilProcess
from efedllm.cli import main
from efedllm.client.records import Reader

from .market import DEPOSIT, VERIFIER_COLD, VERIFIER_HOT, Market, open_market
from .path import PAYER, SESSION, cold, hot

PROMPT = list(range(20))

Audit = Callable[..., Any]


@pytest.fixture
async def market(chain: Chain, model: Path) -> AsyncIterator[Market]:
    """Two workers; three requests, paid in vouchers of which each worker claimed two."""
    async with open_market(chain, model, (0, 1, 3)) as opened:
        for at in range(2):
            opened.ask(PROMPT, 3)
            opened.ask(PROMPT, 20)
            if at == 0:
                await opened.claim(0)
                await opened.claim(1)
        opened.ask(PROMPT[:5], 2)
        await opened.claim(0)
        await opened.claim(1)
        yield opened


@pytest.fixture
def audit(
    anvil: AnvilProcess, deployment_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Any]:
    """Runs the command beside the test, whose own loop serves the workers; returns exit code and output."""

    async def run(*options: str) -> tuple[int, str]:
        capsys.readouterr()
        where = ["--rpc", anvil.url, "--deployment", str(deployment_file), "--data-dir", str(tmp_path)]
        code = await asyncio.to_thread(main, ["audit", *where, *options])
        captured = capsys.readouterr()
        assert captured.err == ""
        return code, captured.out

    return run


async def as_json(audit: Audit, *options: str) -> tuple[int, dict[str, Any]]:
    code, out = await audit("--json", *options)
    found: dict[str, Any] = json.loads(out)
    return code, found


async def test_audit_of_an_honest_network_is_green(
    market: Market, audit: Audit, anvil: AnvilProcess, chain: Chain, tmp_path: Path
) -> None:
    window = chain.deployment.parameters.challenge_window_seconds
    anvil.increase_time(window + 1)
    first = chain.sender(cold(0))
    await first.send(chain.channels.release(cold(0).address, 0))
    await first.send(chain.channels.withdraw_earnings(cold(0).address))
    await first.send(chain.stakes.request_unbond(7))
    payer = chain.sender(PAYER)
    await payer.send(chain.channels.request_close(SESSION.address, [cold(1).address]))
    anvil.increase_time(chain.deployment.parameters.withdrawal_delay_seconds + 1)
    await payer.send(chain.channels.finish_close(SESSION.address, [cold(1).address]))
    code, found = await as_json(audit, "--csv", str(tmp_path / "ledger.csv"))
    assert (code, found["ok"], found["differences"], found["unavailable"]) == (0, True, [], [])
    assert (found["claims"], found["channels"]) == (4, 2)
    assert found["vouchers"] == {"checked": 4, "unavailable_claims": 0}
    assert found["receipts"] == {
        "paid": 10, "checked": 10, "unavailable": 0, "records_checked": 0, "records_unavailable": 0
    }  # fmt: skip
    total = sum(shop.book.total for shop in market.shops)
    moved = {name: int(amount) for name, amount in found["moved"].items()}
    assert (moved["deposited"], moved["claimed"]) == (2 * DEPOSIT, total)
    assert moved["refunded"] == DEPOSIT - market.shops[1].book.total
    balances = {name: int(sides["contracts"]) for name, sides in found["balances"].items()}
    assert balances["channels_tokens"] == 2 * DEPOSIT - moved["refunded"] - moved["earnings_withdrawn"]
    assert (tmp_path / "ledger.csv").read_text().count("\nClaimed".replace("\n", ",")) == 4
    code, text = await audit()
    assert code == 0
    assert "the ledger adds up" in text and "10 receipts checked against their roots" in text
    assert "DIFFER" not in text


async def test_audit_reads_records_for_who_may(market: Market, chain: Chain) -> None:
    done = await run_audit(chain, Reader(VERIFIER_COLD.address, VERIFIER_HOT))
    assert (done.differences, done.collected.records, done.collected.unavailable_records) == ((), 10, 0)
    market.alter(1, lambda record: replace(record, generated=[1, *record.generated[1:]]))
    done = await run_audit(chain, Reader(VERIFIER_COLD.address, VERIFIER_HOT))
    assert {one.field for one in done.differences} == {"content"}
    assert all(cold(1).address in one.account for one in done.differences)
    done = await run_audit(chain, Reader(PAYER.address, hot(0)))
    assert (done.differences, done.collected.records, done.collected.unavailable_records) == ((), 0, 10)


async def test_audit_with_several_processes_finds_the_same(
    market: Market, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "LARGE", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    done = await run_audit(chain, Reader(VERIFIER_COLD.address, VERIFIER_HOT))
    assert (done.differences, done.collected.receipts, done.collected.records) == ((), 10, 10)
    market.alter(0, lambda record: replace(record, generated=[1, *record.generated[1:]]))
    done = await run_audit(chain, Reader(VERIFIER_COLD.address, VERIFIER_HOT))
    assert {one.field for one in done.differences} == {"content"}


async def test_audit_counts_a_silent_workers_receipts_as_unavailable(market: Market, audit: Audit) -> None:
    market.shops[1].silent = True
    code, found = await as_json(audit)
    assert (code, found["differences"]) == (0, [])
    assert (found["receipts"]["paid"], found["receipts"]["checked"], found["receipts"]["unavailable"]) == (10, 5, 5)
    (silent,) = found["unavailable"]
    assert cold(1).address in silent["what"] and "503" in silent["reason"]
    _, text = await audit()
    assert "5 receipts checked against their roots, 5 unavailable" in text


async def test_audit_names_an_altered_receipt(market: Market, audit: Audit) -> None:
    books = market.shops[0].books
    for root, leaves in books.items():
        books[root] = [replace(leaves[0], receipt_digest=bytes(32)), *leaves[1:]]
    code, found = await as_json(audit)
    assert code == 1
    assert [one["field"].split()[0] for one in found["differences"]] == ["receiptsRoot"]
    assert all(cold(0).address in one["account"] for one in found["differences"])
    code, text = await audit()
    assert code == 1 and "receiptsRoot" in text and "DIFFERENCE" in text


async def test_audit_names_a_wrong_channel_balance(
    market: Market, audit: Audit, anvil: AnvilProcess, chain: Chain
) -> None:
    words = (
        bytes.fromhex(address[2:]).rjust(32, b"\0") for address in (PAYER.address, cold(0).address, SESSION.address)
    )
    slot = "0x" + keccak(b"".join(words)).hex()
    channels = chain.channels.address
    packed = int(anvil.rpc("eth_getStorageAt", channels, slot, "latest"), 16)
    anvil.rpc("anvil_setStorageAt", channels, slot, f"0x{packed - 1:064x}")
    anvil.mine()
    code, found = await as_json(audit)
    claimed = market.shops[0].book.total
    assert code == 1
    assert found["differences"] == [
        {
            "account": f"channel {PAYER.address} -> {cold(0).address} (key {SESSION.address})",
            "field": "claimed",
            "expected": str(claimed),
            "found": str(claimed - 1),
        }
    ]


async def test_audit_allows_a_gift_and_says_whose_it_is_not(market: Market, audit: Audit, chain: Chain) -> None:
    await chain.sender(PAYER).send(chain.token.transfer(chain.channels.address, 5))
    code, text = await audit()
    assert code == 0 and "0.000000000000000005 WORK in Channels is owed to nobody" in text


async def test_audit_of_a_fresh_deployment_is_green(chain: Chain, audit: Audit) -> None:
    code, found = await as_json(audit)
    assert (code, found["claims"], found["receipts"]["paid"]) == (0, 0, 0)


async def test_audit_says_where_the_ledger_cannot_be_written(
    chain: Chain, anvil: AnvilProcess, deployment_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = ["--rpc", anvil.url, "--deployment", str(deployment_file), "--csv", str(tmp_path / "no" / "such" / "place")]
    assert await asyncio.to_thread(main, ["audit", *where]) == 1
    assert capsys.readouterr().err.startswith("error: cannot write ")
