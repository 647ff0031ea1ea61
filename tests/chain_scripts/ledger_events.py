"""A history of events as an honest chain would emit it, made by a small model of the contracts, and its final state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from chain_scripts.ledger.compare import NO_SERVICE, Snapshot
from chain_scripts.ledger.fold import Rules
from chain_scripts.ledger.state import ChannelKey, ClaimKey
from efedllm.chain import events as e
from efedllm.chain.channels import Account, Channel, Claim
from efedllm.chain.events import Event, Origin
from efedllm.chain.stake_registry import Participant, Role
from efedllm.protocol.claims import Entry, channel_id, commitment
from efedllm.protocol.values import ZERO_ADDRESS

from .ledger_game_events import Court


def address(name: str) -> str:
    from eth_utils.address import to_checksum_address

    return to_checksum_address(sha256(name.encode()).digest()[:20])


CHANNELS, STAKES, GAME = address("Channels"), address("StakeRegistry"), address("DisputeGame")
ALICE, BOB, KEY, POOL = address("alice"), address("bob"), address("session key"), address("pool")
WORKER, OTHER, VERIFIER = address("worker"), address("other worker"), address("verifier")
COURT = Court(GAME, STAKES, CHANNELS, POOL, WORKER, OTHER, VERIFIER, BOB, ALICE)
RULES = Rules(CHANNELS, STAKES, 500, hot_key_delay=100, game=COURT.rules)


@dataclass
class History:
    """`events` so far; each call of `then` is a transaction in a block of its own."""

    events: list[Event] = field(default_factory=list)
    block: int = 100

    def then(self, *made: tuple[type[Event], tuple[Any, ...]]) -> None:
        self.block += 1
        transaction = sha256(self.block.to_bytes(4)).digest()
        for at, (kind, values) in enumerate(made):
            self.events.append(kind(Origin(self.block, at, bytes(32), transaction, CHANNELS), *values))

    def fund(self, payer: str, worker: str, epoch: int, amount: int, deposit: int) -> None:
        funded = (e.ChannelFunded, (payer, worker, KEY, epoch, amount, deposit))
        self.then(funded, (e.Transfer, (payer, CHANNELS, amount)))

    def claim(self, worker: str, number: int, *parts: tuple[str, int, int]) -> None:
        entries = tuple(
            Entry(channel_id(payer, worker, KEY), start, end, sha256(f"{payer}{end}".encode()).digest())
            for payer, start, end in parts
        )
        packed = b"".join(entry.pack() for entry in entries)
        amount = sum(end - start for _, start, end in parts)
        self.then((e.Claimed, (worker, number, amount, commitment(entries), packed)))

    def stake(self, participant: str, amount: int, stake: int) -> None:
        self.then((e.Staked, (participant, amount, stake)), (e.Transfer, (participant, STAKES, amount)))


def honest_history() -> History:
    """Every event of the contracts at least once, slashing included."""
    h = History()
    for participant, role in ((WORKER, Role.WORKER), (OTHER, Role.WORKER), (VERIFIER, Role.VERIFIER)):
        h.then((e.Registered, (participant, role, address(f"hot key of {participant}"))))
        h.stake(participant, 1000, 1000)
    h.stake(WORKER, 500, 1500)
    h.fund(ALICE, WORKER, 0, 100, 100)
    h.fund(ALICE, WORKER, 0, 300, 400)
    h.fund(BOB, WORKER, 0, 200, 200)
    h.fund(ALICE, OTHER, 0, 50, 50)
    h.claim(WORKER, 0, (ALICE, 0, 120), (BOB, 0, 60))
    h.claim(WORKER, 1, (ALICE, 120, 220))
    h.claim(OTHER, 0, (ALICE, 0, 50))
    COURT.before(h)
    h.then((e.Released, (WORKER, 0, 180, 9)))
    h.then((e.EarningsWithdrawn, (WORKER, WORKER, 171)), (e.Transfer, (CHANNELS, WORKER, 171)))
    h.then((e.FeesWithdrawn, (VERIFIER, 9)), (e.Transfer, (CHANNELS, VERIFIER, 9)))
    h.then((e.CloseRequested, (ALICE, OTHER, KEY, 0, 5000)))
    h.then((e.ChannelClosed, (ALICE, OTHER, KEY, 0, 0)))
    h.fund(ALICE, OTHER, 1, 70, 70)
    h.claim(OTHER, 1, (ALICE, 0, 30))
    h.then((e.Released, (OTHER, 1, 30, 1)))
    h.then((e.CloseRequested, (BOB, WORKER, KEY, 0, 6000)))
    h.then((e.UnbondRequested, (OTHER, 400, 400, 7000)))
    h.then((e.UnbondCancelled, (OTHER, 400, 1000)))
    h.then((e.UnbondRequested, (VERIFIER, 300, 300, 7100)))
    h.then((e.StakeWithdrawn, (VERIFIER, VERIFIER, 300)), (e.Transfer, (STAKES, VERIFIER, 300)))
    h.then((e.UnbondRequested, (WORKER, 200, 200, 7200)))
    COURT.demands(h)
    COURT.fault(h)
    COURT.refunds(h)
    h.then((e.HotKeyRotation, (OTHER, address("another hot key"), 8000)))
    return h


def honest_snapshot(history: History) -> Snapshot:
    """What the contracts hold after `honest_history`."""
    claim_blocks = {
        (event.worker, event.claim_index): event for event in history.events if isinstance(event, e.Claimed)
    }
    pending = {ClaimKey(WORKER, 1): (50, 45), ClaimKey(OTHER, 0): (50, 0)}
    return Snapshot(
        block=history.block,
        timestamp=9000,
        channels={
            ChannelKey(ALICE, WORKER, KEY): Channel(400, 220, 0, 0),
            ChannelKey(BOB, WORKER, KEY): Channel(200, 60, 6000, 0),
            ChannelKey(ALICE, OTHER, KEY): Channel(70, 30, 0, 1),
        },
        accounts={
            WORKER: Account(2, 50, 0, 0),
            OTHER: Account(2, 50, 29, 0),
            BOB: Account(0, 0, 10, 0),
        },
        claims={
            key: Claim(amount, 0, claim_blocks[key].origin.block_number, frozen, claim_blocks[key].commitment)
            for key, (amount, frozen) in pending.items()
        },
        participants={
            WORKER: _participant(WORKER, 0, 100, 7200, Role.WORKER, jailed=True),
            OTHER: replace(_participant(OTHER, 1000, 0, 0, Role.WORKER), hot_key=address("another hot key")),
            VERIFIER: _participant(VERIFIER, 700, 0, 0, Role.VERIFIER),
        },
        services={WORKER: NO_SERVICE, OTHER: NO_SERVICE},
        models={},
        seeds={},
        claim_seeds={},
        fees=1,
        # deposits 720 - 171 - 9 - 40 paid out; stake 3500 - 300 - 1400
        balances={CHANNELS: 500, STAKES: 1800},
        game=COURT.snapshot(history.events),
    )


def without(history: History, which: Callable[[Event], bool]) -> list[Event]:
    """The history but for the first event that `which` names."""
    gone = next(event for event in history.events if which(event))
    return [event for event in history.events if event is not gone]


def _participant(who: str, stake: int, unbonding: int, since: int, role: Role, jailed: bool = False) -> Participant:
    return Participant(stake, unbonding, since, jailed, role, address(f"hot key of {who}"), ZERO_ADDRESS, 0)
