"""A verifier killed at every moment: started again, it comes to the same verdicts and evidence as if undisturbed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from efedllm.chain.chain import Chain
from efedllm.chain.local import AnvilProcess
from tests.support.crashes import COMMIT, REPLACE, WRITE, in_memory, recorded, restored, some
from verifier.errors import StoreError
from verifier.recompute import Recomputer

from .market import Market, open_market
from .path import Cheat, flip_weight
from .test_service import OTHER, PROMPT, Desk, report_after


@pytest.fixture
async def market(chain: Chain, model: Path) -> AsyncIterator[Market]:
    async with open_market(chain, model, (0, 1, 2, 3)) as opened:
        yield opened


@pytest.fixture
def fast() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


def comparable(found: dict[str, object], folder: Path) -> tuple[dict[str, object], dict[str, bytes]]:
    """The report without its place on disk, and the evidence by name."""
    rest = {name: value for name, value in found.items() if name not in ("evidence", "text", "faults")}
    assert isinstance(found["faults"], list)
    rest["faults"] = [{**fault, "evidence": Path(fault["evidence"]).name} for fault in found["faults"]]
    files = {path.name: sha256(path.read_bytes()).digest() for path in (folder / "evidence").glob("*.msgpack")}
    return rest, files


@pytest.mark.parametrize("each", [1, pytest.param(50, marks=pytest.mark.long)])
async def test_a_run_ends_the_same_from_every_copy(
    market: Market, chain: Chain, model: Path, recomputer: Recomputer, fast: Path, anvil: AnvilProcess, each: int
) -> None:
    market.ask(PROMPT, 5, {1: Cheat(weights=flip_weight)})
    market.ask(OTHER, 3)
    for at in range(3):
        await market.claim(at)
    (data := fast / "data").mkdir()
    desk = Desk(chain, model, recomputer, data)
    with recorded(data, fast / "copies") as crashes:
        undisturbed = comparable(await report_after(desk, anvil), data)
    assert undisturbed[1], "a fault was planted"
    assert {COMMIT, WRITE, REPLACE} <= {point.kind for point in crashes.points}
    told = {str(one.verdict) for one in desk.told}
    for point in some(crashes.points, each):
        folder = restored(point, fast / "again" / str(point.number))
        again = replace(desk, folder=folder, told=[])
        assert comparable(await report_after(again, anvil), folder) == undisturbed, str(point)
        assert {str(one.verdict) for one in again.told} <= told


async def test_a_disk_that_refuses_stops_it_and_it_goes_on_afterwards(
    market: Market, chain: Chain, model: Path, recomputer: Recomputer, fast: Path, anvil: AnvilProcess
) -> None:
    market.ask(PROMPT, 5, {1: Cheat(weights=flip_weight)})
    for at in range(3):
        await market.claim(at)
    desk = Desk(chain, model, recomputer, fast)
    anvil.mine(6)
    async with desk.verifier() as verifier:
        database = verifier._parts.store._db
        database.rows("PRAGMA query_only = ON")
        with pytest.raises(StoreError, match=r"^cannot keep what was found in .*: free or repair the disk") as refused:
            for _ in range(3):
                await verifier.step()
        assert "\n" not in str(refused.value)
        assert desk.told == []
        database.rows("PRAGMA query_only = OFF")
        anvil.mine(3)
        await verifier.step()
        await verifier.step()
        assert verifier.report().exit_code == 3


async def test_evidence_without_room_is_no_verdict(
    market: Market, chain: Chain, model: Path, recomputer: Recomputer, fast: Path, anvil: AnvilProcess
) -> None:
    market.ask(PROMPT, 5, {1: Cheat(weights=flip_weight)})
    for at in range(3):
        await market.claim(at)
    desk = Desk(chain, model, recomputer, fast)
    (fast / "evidence").write_text("in the way")
    with pytest.raises(StoreError, match=r"^cannot write .*free or repair the disk"):
        await report_after(desk, anvil)
    (fast / "evidence").unlink()
    found = await report_after(desk, anvil)
    assert found["exit_code"] == 3
    assert len(list((fast / "evidence").glob("*.msgpack"))) == 1
