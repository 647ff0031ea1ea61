"""The ledger from events: an honest history adds up; whatever is planted in a copy of it is found and named."""

from __future__ import annotations

import csv
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from chain_scripts.ledger.compare import Snapshot, compare, surplus
from chain_scripts.ledger.fold import Rules, fold
from chain_scripts.ledger.games import BURNED, game_name
from chain_scripts.ledger.report import write_csv
from chain_scripts.ledger.state import GAME_KINDS, ChannelKey, ClaimKey
from efedllm.chain import events as e
from efedllm.chain import game_events as g
from efedllm.chain.events import Event
from efedllm.chain.stake_registry import Role
from efedllm.protocol.game import Game, Phase, Side

from .ledger_events import (
    ALICE,
    BOB,
    CHANNELS,
    GAME,
    KEY,
    OTHER,
    POOL,
    RULES,
    STAKES,
    VERIFIER,
    WORKER,
    History,
    honest_history,
    honest_snapshot,
    without,
)
from .ledger_game_events import MOST, Made, word


def found(events: list[Event], snapshot: Snapshot, rules: Rules = RULES) -> list[str]:
    return [str(difference) for difference in compare(fold(events, rules), snapshot, rules)]


def test_fold_of_an_honest_history_equals_the_contracts() -> None:
    history = honest_history()
    ledger = fold(history.events, RULES)
    assert compare(ledger, honest_snapshot(history), RULES) == []
    assert sum(ledger.balances.values()) == 0
    assert surplus(ledger, CHANNELS, ("channel", "pending", "earnings", "fees")) == 0
    assert surplus(ledger, STAKES, ("stake", "unbonding")) == 0
    assert {type(event) for event in history.events} >= {
        kind for kinds in e.KINDS.values() for kind in kinds
    } - {e.ModelRegistered, e.ServiceUpdated, e.ServiceEnded, e.BeaconRecorded}  # fmt: skip


@pytest.mark.parametrize("at", range(len(honest_history().events)))
def test_compare_finds_every_missing_event(at: int) -> None:
    history = honest_history()
    events = history.events[:at] + history.events[at + 1 :]
    assert found(events, honest_snapshot(history)), f"nobody misses {history.events[at]}"


@pytest.mark.parametrize("at", range(len(honest_history().events)))
def test_fold_names_every_event_that_is_told_twice(at: int) -> None:
    history = honest_history()
    events = history.events[: at + 1] + history.events[at:]
    event = history.events[at]
    where = f"{type(event).__name__} in block {event.origin.block_number}, log {event.origin.log_index}: place"
    assert any(line.startswith(where) for line in found(events, honest_snapshot(history)))


@pytest.mark.parametrize(
    "at",
    [at for at, event in enumerate(honest_history().events) if not isinstance(event, e.Jailed | e.HotKeyRotation)],
)
def test_fold_finds_every_event_that_happens_twice(at: int) -> None:
    """A copy in the same block. To jail who is jailed, to announce a key again is allowed."""
    history = honest_history()
    again = replace(history.events[at], origin=replace(history.events[at].origin, log_index=10))
    events = [*history.events[: at + 1], again, *history.events[at + 1 :]]
    events.sort(key=lambda event: event.origin)
    assert found(events, honest_snapshot(history))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"channels": {"deposit": 401}}, f"channel {ALICE} -> {WORKER} (key {KEY}): deposit is 401, should be 400"),
        ({"channels": {"claimed": 221}}, "claimed is 221, should be 220"),
        ({"channels": {"closing_at": 1}}, "closing_at is 1, should be 0"),
        ({"channels": {"epoch": 1}}, "epoch is 1, should be 0"),
        ({"accounts": {"pending": 51}}, f"worker {WORKER}: pending is 51, should be 50"),
        ({"accounts": {"earnings": 1}}, f"worker {WORKER}: earnings is 1, should be 0"),
        ({"accounts": {"next": 3}}, f"worker {WORKER}: next is 3, should be 2"),
        ({"claims": {"amount": 49}}, f"claim 1 of {WORKER}: amount is 49, should be 50"),
        ({"claims": {"frozen": 44}}, f"claim 1 of {WORKER}: frozen is 44, should be 45"),
        ({"claims": {"commitment": bytes(32)}}, f"claim 1 of {WORKER}: commitment is 0x{'00' * 32}"),
        ({"claims": {"block_number": 1}}, f"claim 1 of {WORKER}: block_number is 1"),
        ({"participants": {"stake": 1}}, f"participant {WORKER}: stake is 1, should be 0"),
        ({"participants": {"unbonding": 0}}, f"participant {WORKER}: unbonding is 0, should be 100"),
        ({"participants": {"unbonding_since": 1}}, f"participant {WORKER}: unbonding_since is 1, should be 7200"),
        ({"participants": {"jailed": False}}, f"participant {WORKER}: jailed is False, should be True"),
        ({"participants": {"role": Role.VERIFIER}}, f"participant {WORKER}: role is 2, should be 1"),
        ({"participants": {"hot_key": ALICE}}, f"participant {WORKER}: hot_key is {ALICE}"),
    ],
)
def test_compare_names_a_wrong_field_of_the_contracts(change: dict[str, dict[str, Any]], named: str) -> None:
    history = honest_history()
    snapshot = honest_snapshot(history)
    ((table, values),) = change.items()
    entries = dict(getattr(snapshot, table))
    key = next(iter(entries))
    entries[key] = replace(entries[key], **values)
    (difference,) = found(history.events, replace(snapshot, **{table: entries}))
    assert named in difference


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"fees": 2}, "protocol: fees is 2, should be 1"),
        ({"balances": {CHANNELS: 501, STAKES: 1800}}, f"Channels {CHANNELS}: token balance is 501, should be 500"),
        ({"balances": {CHANNELS: 500, STAKES: 1799}}, f"StakeRegistry {STAKES}: token balance is 1799, should be 1800"),
        ({"participants": {}}, "registered is False, should be True"),
    ],
)
def test_compare_names_a_wrong_sum_of_the_contracts(change: dict[str, Any], named: str) -> None:
    history = honest_history()
    assert any(named in line for line in found(history.events, replace(honest_snapshot(history), **change)))


@pytest.mark.parametrize(
    ("kind", "changes", "named"),
    [
        (e.ChannelFunded, {"amount": 99}, "deposit is 100, should be 99"),
        (e.ChannelFunded, {"epoch": 7}, "epoch is 7, should be 0"),
        (e.ChannelClosed, {"refund": 5}, "refund is 5, should be 0"),
        (e.Claimed, {"amount": 181}, "amount is 181, should be 180"),
        (e.Claimed, {"commitment": bytes(32)}, "commitment is 0x00"),
        (e.Claimed, {"worker": VERIFIER}, f"claim 0 of {VERIFIER}, Claimed in block 112, log 0, channel id 0x"),
        (e.Released, {"fee": 8}, f"claim 0 of {WORKER}, Released in block"),
        (e.Released, {"amount": 179}, "amount is 179, should be 180"),
        (e.EarningsWithdrawn, {"amount": 170}, "amount is 170, should be 171"),
        (e.FeesWithdrawn, {"amount": 10}, "amount is 10, should be 9"),
        (e.Forfeited, {"amount": 1000}, "amount is 1000, should be at most 55"),
        (e.Staked, {"amount": 1001}, "stake is 1000, should be 1001"),
        (e.Slashed, {"taken": 1401}, "taken is 1401, should be 1400"),
        (e.StakeWithdrawn, {"amount": 299}, "amount is 299, should be 300"),
    ],
)
def test_fold_names_an_event_that_breaks_a_rule(kind: type[Event], changes: dict[str, Any], named: str) -> None:
    history = honest_history()
    at = next(at for at, event in enumerate(history.events) if isinstance(event, kind))
    events = [*history.events]
    events[at] = replace(events[at], **changes)
    lines = found(events, honest_snapshot(history))
    assert any(named in line for line in lines), lines


GAME_RULES = [
    (g.Opened, {"bond": 11}, "bond is 11, should be 10"),
    (g.Opened, {"game_id": 1}, "id is game 0x00"),
    (g.Opened, {"game_id": 1}, "Ended in block"),
    (g.Opened, {"frozen": 44}, "frozen more than the game says is 1, should be 0"),
    (g.Opened, {"request_id": word("another")}, "shares"),
    (g.TracePosted, {"body_root": bytes(32)}, "node is 0x"),
    (g.SideChosen, {"phase": Phase.LEAF}, "phase is LEAF, should be REVEAL"),
    (g.Picked, {"phase": Phase.REVEAL}, "phase is REVEAL, should be LEAF"),
    (g.Picked, {"path": 6}, "path is 5, should be 6"),
    (g.Ended, {"to_worker": 9}, "to_worker is 9, should be 10"),
    (g.Ended, {"burned": 9}, "burned is 9, should be 10"),
    (g.Ended, {"unfrozen": 0}, "unfrozen is 0, should be 15"),
    (g.Ended, {"outcome": Phase.CHALLENGER_WON}, "in a phase to be ended as CHALLENGER_WON is False, should be True"),
    (g.Ended, {"worker": OTHER}, f"worker is {OTHER}, should be {WORKER}"),
    (g.Ended, {"challenger": ALICE}, f"challenger is {ALICE}, should be {BOB}"),
    (g.ForceDrawn, {"fee": 2}, "fee is 2, should be 3"),
    (g.ForceDrawn, {"open_until": 8501}, "force-drawn until is 8500, should be 8501"),
    (g.Demanded, {"fee": 6}, "fee is 6, should be 5"),
    (g.Answered, {"fee": 4}, "fee is 4, should be 5"),
    (g.Answered, {"bond": 9}, "bond is 9, should be 10"),
    (g.Proven, {"number": 2}, "number is 2, should be 1"),
    (g.Proven, {"number": 2}, f"requested is 1400, should be {MOST}"),
    (g.Proven, {"collectable_at": 9000}, "proven_at is 9000, should be 8900"),
    (e.Slashed, {"requested": 1401}, "requested is 1401, should be 1400"),
    (e.Slashed, {"to": ALICE}, f"to is {ALICE}, should be {GAME}"),
    (g.Divided, {"amount": 1399}, "amount is 1399, should be 1400"),
    (g.Divided, {"pot": 561}, "pot is 561, should be 560"),
    (g.Divided, {"pool": 139}, "pool is 139, should be 140"),
    (g.Divided, {"burned": 701}, "burned is 701, should be 700"),
    (g.Won, {"game_id": 1}, "is False, should be True"),
    (g.Won, {"challenger": ALICE}, f"shares of {ALICE} in the fault of {WORKER}"),
    (g.Collected, {"amount": 281}, "amount is 281, should be 280"),
    (g.Collected, {"challenger": ALICE}, "shares is 0, should be some"),
    (g.Refunded, {"amount": 41}, f"forfeited to {ALICE} more than the game refunded is -1, should be 0"),
    (g.Refunded, {"unfrozen": 1}, "unfrozen is 1, should be 0"),
    (g.Refunded, {"request_id": word("another")}, "request proven wrong is False, should be True"),
    (g.Owed, {"amount": 4}, "amount is 4, should be what was to be sent"),
    (g.OwedPaid, {"amount": 139}, "amount is 139, should be 140"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "changes", "named"), GAME_RULES)
def test_fold_names_an_event_of_the_game_that_breaks_a_rule(
    kind: type[Event], changes: dict[str, Any], named: str
) -> None:
    test_fold_names_an_event_that_breaks_a_rule(kind, changes, named)


def second_fault(slashed: int, arrives: bool) -> History:
    """What follows a statement of the same worker, whose stake is 100 by then."""
    history, fault = honest_history(), (WORKER, word("another"))
    pot, pool = (40, 10) if arrives else (0, 0)
    moved: list[Made] = [(e.Transfer, (STAKES, GAME, slashed))] if arrives else []
    paid: list[Made] = [(e.Transfer, (GAME, POOL, 10)), (e.Transfer, (GAME, BURNED, 50))] if arrives else []
    history.then(
        (g.Proven, (*fault, 2, 9500)),
        (e.Slashed, (WORKER, MOST, slashed, GAME)),
        *moved,
        (g.Divided, (*fault, slashed if arrives else 0, pot, pool, slashed - pot - pool if arrives else 0)),
        *paid,
        (g.Won, (*fault, ALICE, 0)),
    )
    return history


@pytest.mark.parametrize("arrives", [True, False])
def test_fold_knows_a_second_fault_that_takes_all(arrives: bool) -> None:
    """Also where the token refuses to send the slash: then nothing is divided."""
    ledger = fold(second_fault(100, arrives).events, RULES)
    assert ledger.differences == []
    assert ledger.sum("unbonding", "stake") == 1800 - 100
    assert ledger.sum("pot") == 280 + (40 if arrives else 0)
    assert ledger.tokens[STAKES] == 1800 - (100 if arrives else 0)
    assert surplus(ledger, GAME, GAME_KINDS) == 0


def test_fold_names_a_slash_without_a_fault() -> None:
    history = honest_history()
    history.then((e.Slashed, (OTHER, 5, 5, GAME)), (e.Transfer, (STAKES, GAME, 5)))
    lines = [str(one) for one in fold(history.events, RULES).differences]
    assert any("a fault that was proven just now is False, should be True" in line for line in lines)


def test_fold_names_what_is_frozen_or_forfeited_without_the_game() -> None:
    history = honest_history()
    history.then((e.Frozen, (WORKER, 1, 2)))
    history.then((e.Forfeited, (WORKER, 1, 1, BOB)))
    lines = [str(one) for one in fold(history.events, RULES).differences]
    assert any("frozen more than the game says is 2, should be 0" in line for line in lines)
    assert any(f"forfeited to {BOB} more than the game refunded is 1, should be 0" in line for line in lines)


def test_fold_names_a_payment_that_the_game_did_not_make() -> None:
    history = honest_history()
    events = without(history, lambda event: isinstance(event, e.Transfer) and event.target == BURNED)
    lines = [str(one) for one in fold(events, RULES).differences]
    assert any(f"payments of 10 from the game to {BURNED} neither sent nor owed is 1" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"balance": 317}, f"DisputeGame {GAME}: token balance is 317, should be 318"),
        ({"records": {WORKER: (1, 1)}}, f"worker {WORKER}: open games is 1, should be 0"),
        ({"records": {WORKER: (0, 2)}}, f"worker {WORKER}: faults is 2, should be 1"),
        ({"forced": {word("forced"): 1, word("forced too"): 8600}}, "force-drawn until is 1, should be 8500"),
        ({"owed": {OTHER: 4}}, f"owed of {OTHER}: amount is 4, should be 3"),
    ],
)
def test_compare_names_a_wrong_value_of_the_game(change: dict[str, Any], named: str) -> None:
    history = honest_history()
    snapshot = honest_snapshot(history)
    assert snapshot.game is not None
    wrong = replace(snapshot, game=replace(snapshot.game, **change))
    assert any(named in line for line in found(history.events, wrong))


OTHER_VALUES: dict[str, Any] = {
    "worker": ALICE, "challenger": ALICE, "receipt_digest": bytes(32), "phase": Phase.PROOF, "side": Side.INPUT,
    "deadline": 1, "bond": 1, "holds": True, "claim_index": 9, "entry": 9, "body_root": bytes(32), "node": bytes(32),
    "height": 9, "in_row": True, "path": 9, "chunk": 9,
}  # fmt: skip


@pytest.mark.parametrize("name", [item.name for item in fields(Game)])
def test_compare_names_a_wrong_field_of_a_game(name: str) -> None:
    history = honest_history()
    snapshot = honest_snapshot(history)
    assert snapshot.game is not None
    games = dict(snapshot.game.games)
    at, game = next((at, game) for at, game in games.items() if game is not None and game.phase is Phase.LEAF)
    wrong = replace(game, **{name: OTHER_VALUES[name]})
    changed = replace(snapshot, game=replace(snapshot.game, games=games | {at: wrong}))
    (difference,) = found(history.events, changed)
    assert difference.startswith(f"{game_name(at)}: {name} is ")


def test_a_deployment_without_a_game_adds_up() -> None:
    ledger = fold([], Rules(CHANNELS, STAKES, 0))
    assert (ledger.differences, ledger.games.games) == ([], {})


def test_fold_names_a_double_claim() -> None:
    """The same part of a channel, claimed twice under another number."""
    history = honest_history()
    history.claim(WORKER, 2, (ALICE, 120, 220))
    lines = [str(one) for one in fold(history.events, RULES).differences]
    assert any(f"claim 2 of {WORKER}" in line and "from is 120, should be 220" in line for line in lines)


def test_fold_names_a_claim_beyond_the_deposit() -> None:
    history = honest_history()
    history.claim(WORKER, 2, (ALICE, 220, 401))
    lines = [str(one) for one in fold(history.events, RULES).differences]
    assert any("to is 401, should be at most 400" in line for line in lines)


def test_fold_names_a_release_of_a_frozen_claim() -> None:
    history = honest_history()
    history.then((e.Released, (WORKER, 1, 50, 2)))
    assert any("amount is 50, should be 5" in str(one) for one in fold(history.events, RULES).differences)


@pytest.mark.parametrize(("kind", "free"), [(e.Frozen, 5), (e.Unfrozen, 45), (e.Forfeited, 5)])
def test_fold_names_what_is_more_than_there_is(kind: type[e.Event], free: int) -> None:
    history = honest_history()
    history.then((kind, (WORKER, 1, free + 1, *((ALICE,) if kind is e.Forfeited else ()))))
    lines = [str(one) for one in fold(history.events, RULES).differences]
    assert any(f"amount is {free + 1}, should be at most {free}" in line for line in lines)


def test_compare_names_a_wrong_protocol_fee() -> None:
    history = honest_history()
    lines = found(history.events, honest_snapshot(history), replace(RULES, fee_bps=600))
    assert any("fee is 9, should be 10" in line for line in lines)


def test_compare_names_tokens_that_left_without_a_reason() -> None:
    history = honest_history()
    history.then((e.Transfer, (CHANNELS, BOB, 7)))
    snapshot = replace(honest_snapshot(history), balances={CHANNELS: 493, STAKES: 1800})
    lines = found(history.events, snapshot)
    assert any("tokens that Channels sent is 7, should be 0" in line for line in lines)
    assert any("token balance is 493, should be at least the 500 it owes" in line for line in lines)


def test_compare_allows_tokens_that_were_only_sent_there() -> None:
    history = honest_history()
    history.then((e.Transfer, (BOB, CHANNELS, 7)))
    snapshot = replace(honest_snapshot(history), balances={CHANNELS: 507, STAKES: 1800})
    assert found(history.events, snapshot) == []
    assert surplus(fold(history.events, RULES), CHANNELS, ("channel", "pending", "earnings", "fees")) == 7


def test_compare_names_the_account_of_a_missing_event() -> None:
    history = honest_history()

    def second_deposit(event: Event) -> bool:
        return isinstance(event, e.ChannelFunded) and event.amount == 300

    lines = found(without(history, second_deposit), honest_snapshot(history))
    assert any(line.startswith(f"channel {ALICE} -> {WORKER}") and "deposit is 400" in line for line in lines)


def test_csv_holds_every_movement_and_balances(tmp_path: Path) -> None:
    history = honest_history()
    ledger = fold(history.events, RULES)
    write_csv(ledger, tmp_path / "ledger.csv")
    with (tmp_path / "ledger.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(ledger.postings)
    sums: dict[str, int] = {}
    for row in rows:
        sums[row["from"]] = sums.get(row["from"], 0) - int(row["amount"])
        sums[row["to"]] = sums.get(row["to"], 0) + int(row["amount"])
    assert sums["earnings of " + OTHER] == 29
    assert sums["pending of " + WORKER] == 50
    assert sum(sums.values()) == 0
    assert rows[0]["event"] == "Staked" and rows[0]["block"] == "102"


def test_names_are_readable() -> None:
    assert str(ClaimKey(WORKER, 4)) == f"claim 4 of {WORKER}"
    assert str(ChannelKey(ALICE, WORKER, KEY)).startswith(f"channel {ALICE} -> {WORKER}")
    assert History().events == []
