"""The program as people start it: refusals, one pass, following for good, a kill in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.chain.chain import Chain
from efedllm.chain.keys import SCRYPT_LIGHT
from efedllm.chain.local import AnvilProcess
from tests.support.cli import PASSWORD, Person

from .market import VERIFIER_COLD, VERIFIER_HOT, Market, open_market
from .path import Cheat, cold, flip_weight

PROMPT = list(range(20))


@pytest.fixture
async def market(chain: Chain, model: Path) -> AsyncIterator[Market]:
    async with open_market(chain, model, (0, 1, 3)) as opened:
        yield opened


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Holds the keys of the market's verifier."""
    folder = tmp_path / "verifier"
    (folder / "keys").mkdir(parents=True)
    for role, key in (("cold", VERIFIER_COLD), ("hot", VERIFIER_HOT)):
        (folder / "keys" / f"{role}.json").write_text(json.dumps(_encrypted(key)))
    return folder


def _encrypted(key: LocalAccount) -> dict[str, Any]:
    content: dict[str, Any] = Account.encrypt(key.key, PASSWORD, kdf="scrypt", iterations=SCRYPT_LIGHT)
    return content


Start = Callable[..., Any]


@pytest.fixture
def start(anvil: AnvilProcess, deployment_file: Path, data_dir: Path, model: Path) -> Start:
    """`python -m verifier` with these options; killed if it is still there at the end."""

    @asynccontextmanager
    async def run(*options: str) -> AsyncIterator[Process]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "verifier", "--model", str(model), "--data-dir", str(data_dir), "--json"),
            *("--rpc", anvil.url, "--deployment", str(deployment_file), "--poll", "0.1", *options),
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, "EFEDLLM_PASSWORD": PASSWORD, "OMP_NUM_THREADS": "1"},
            limit=1 << 20,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    return run


async def once(start: Start) -> tuple[int, dict[str, Any]]:
    """Exit code and report of one pass."""
    async with start("--once", "--wait", "60") as process:
        out, err = await process.communicate()
        assert out, err.decode()
        report: dict[str, Any] = json.loads(out)
        return process.returncode, report


async def test_once_reports_and_exits_by_what_it_found(market: Market, start: Start, anvil: AnvilProcess) -> None:
    market.ask(PROMPT, 3)
    await market.claim(0)
    await market.claim(1)
    market.shops[0].silent = True
    anvil.mine(2)
    code, report = await once(start)
    assert (code, report["checked"], report["faults"]) == (4, 0, [])
    assert {one["worker"] for one in report["unavailable"]} == {cold(0).address}
    market.shops[0].silent = False
    market.ask(PROMPT, 20, {0: Cheat(weights=flip_weight)})
    await market.claim(0)
    anvil.mine(2)
    code, report = await once(start)
    assert code == 3
    (fault,) = report["faults"]
    assert (fault["worker"], fault["layers"]) == (cold(0).address, "0:1")
    assert await asyncio.to_thread(Path(fault["evidence"]).exists)


async def read_until(process: Process, event: str) -> dict[str, Any]:
    """The next event of that name."""
    assert process.stdout is not None
    while line := await process.stdout.readline():
        found: dict[str, Any] = json.loads(line)
        if found["event"] == event:
            return found
    raise AssertionError(f"ended without {event}")


async def test_follows_survives_a_kill_and_ends_in_order(market: Market, start: Start, anvil: AnvilProcess) -> None:
    async with start() as process:
        assert (await read_until(process, "watching"))["verifier"] == VERIFIER_COLD.address
        market.ask(PROMPT, 3)
        await market.claim(0)
        anvil.mine(2)
        assert (await read_until(process, "checked"))["outcome"] == "ok"
        process.kill()
    market.ask(PROMPT, 3, {1: Cheat(token=lambda _, token: (token + 1) % 300)})
    await market.claim(1)
    async with start() as process:
        await read_until(process, "watching")
        anvil.mine(2)
        fault = await read_until(process, "fault")
        assert (fault["worker"], fault["kind"], fault["position"]) == (cold(1).address, "token", len(PROMPT))
        process.send_signal(signal.SIGTERM)
        ended = await read_until(process, "ended")
        assert ended["checked"] in (2, 3)  # of a claim, the fault may be looked at first
        assert len(ended["faults"]) == 1
        _, err = await process.communicate()
        assert process.returncode == 0
        assert f"FAULT token: worker {cold(1).address} (layers 1:3)" in err.decode()
        assert PASSWORD not in err.decode() and "Traceback" not in err.decode()


# refusals


@pytest.fixture
def person(
    anvil: AnvilProcess,
    deployment_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Person:
    monkeypatch.setenv("EFEDLLM_PASSWORD", PASSWORD)
    return Person(tmp_path / "person", capsys, ["--rpc", anvil.url, "--deployment", str(deployment_file)]).with_keys()


def refusal(person: Person, model: Path, *options: str) -> str:
    result = person.on_chain("verifier", "--once", "--model", str(model), *options)
    assert (result.code, result.out, result.err.count("error:")) == (1, "", 1), result
    return result.err


def test_refuses_a_model_that_is_not_registered(person: Person, model: Path) -> None:
    assert "is not registered here: run `efedllm model register" in refusal(person, model)


def test_refuses_whoever_is_not_registered_as_a_verifier(person: Person, model: Path) -> None:
    assert person.on_chain("model", "register", str(model)).code == 0
    assert "run `efedllm stake AMOUNT --role verifier` first" in refusal(person, model)
    assert person.on_chain("stake", "10").code == 0
    assert "run `efedllm stake AMOUNT --role verifier` first" in refusal(person, model)


def test_refuses_wrong_keys_back_ends_and_weights(
    person: Person, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert person.on_chain("model", "register", str(model)).code == 0
    assert person.on_chain("stake", "10", "--role", "verifier").code == 0
    assert "unknown back end 'abacus'" in refusal(person, model, "--backend", "abacus")
    assert "cannot be read" in refusal(person, tmp_path)
    hot = person.data_dir / "keys" / "hot.json"
    kept = hot.read_text()
    hot.unlink()
    assert "no hot key" in refusal(person, model)
    hot.write_text(json.dumps(_encrypted(VERIFIER_HOT)))
    assert "is not the registered one" in refusal(person, model)
    hot.write_text(kept)
    monkeypatch.setenv("EFEDLLM_PASSWORD", "wrong")
    assert "wrong password" in refusal(person, model)
    monkeypatch.delenv("EFEDLLM_PASSWORD")
    assert "--password-file" in refusal(person, model)


def test_says_that_the_chain_or_the_deployment_is_missing(person: Person, model: Path, anvil: AnvilProcess) -> None:
    result = person.run("verifier", "--model", str(model), "--rpc", "http://127.0.0.1:1")
    assert (result.code, "cannot reach the chain" in result.err) == (1, True)
    result = person.run("verifier", "--model", str(model), "--rpc", anvil.url, "--deployment", "/nowhere.json")
    assert (result.code, "cannot read the deployment file" in result.err) == (1, True)
