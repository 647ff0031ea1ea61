"""Holds the ledger against what the contracts say at one block."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from efedllm.chain.channels import Account as WorkerAccount
from efedllm.chain.channels import Channel, Claim
from efedllm.chain.stake_registry import Participant, Service

from .compare_games import GameSnapshot, compare_games
from .difference import Difference
from .fold import RING_SLOTS, Rules
from .state import CHANNELS_KINDS, FEES, STAKE_KINDS, Account, ChannelKey, ClaimKey, Ledger, channel_account

BEACON_STEP = 256
"""Blocks between the candidates for the seed of a claim."""
NO_SERVICE = Service(bytes(32), 0, 0, 0, 0, "")


@dataclass(frozen=True)
class Snapshot:
    """State of the contracts at `block`, mined at `timestamp`: of everything the ledger knows, and all that ever
    registered. A claim is None where its slot holds another one; `claim_seeds` are those that draw from claims, None
    where nothing is recorded yet."""

    block: int
    timestamp: int
    channels: Mapping[ChannelKey, Channel]
    accounts: Mapping[str, WorkerAccount]
    claims: Mapping[ClaimKey, Claim | None]
    participants: Mapping[str, Participant]
    services: Mapping[str, Service]
    models: Mapping[bytes, bool]
    seeds: Mapping[int, bytes]
    claim_seeds: Mapping[ClaimKey, bytes | None]
    fees: int
    balances: Mapping[str, int]
    game: GameSnapshot | None = None


def compare(ledger: Ledger, snapshot: Snapshot, rules: Rules) -> list[Difference]:
    """Every field in which the contracts differ from the ledger, what is wrong in the events themselves first."""
    return [
        *ledger.differences,
        *_channels(ledger, snapshot),
        *_accounts(ledger, snapshot),
        *_claims(ledger, snapshot),
        *_participants(ledger, snapshot),
        *_services(ledger, snapshot),
        *_seeds(ledger, snapshot, rules),
        *_tokens(ledger, snapshot, rules),
        *(compare_games(ledger, snapshot.game, rules) if snapshot.game else ()),
    ]


def surplus(ledger: Ledger, contract: str, kinds: tuple[str, ...]) -> int:
    """Tokens in a contract that nobody has a claim to: sent there without a deposit."""
    return ledger.tokens[contract] - ledger.sum(*kinds)


def _channels(ledger: Ledger, snapshot: Snapshot) -> Iterator[Difference]:
    for key, state in ledger.channels.items():
        yield from _fields(str(key), state, snapshot.channels[key], ("deposit", "claimed", "closing_at", "epoch"))
        available = ledger.balances[channel_account(key)]
        if available != state.deposit - state.claimed:
            yield Difference(str(key), "available", available, state.deposit - state.claimed)


def _accounts(ledger: Ledger, snapshot: Snapshot) -> Iterator[Difference]:
    for worker, found in snapshot.accounts.items():
        expected = {
            "next": ledger.next_claim.get(worker, 0),
            "pending": ledger.balances.get(Account("pending", worker), 0),
            "earnings": ledger.balances.get(Account("earnings", worker), 0),
        }
        for name, value in expected.items():
            if value != getattr(found, name):
                yield Difference(f"worker {worker}", name, value, getattr(found, name))


def _claims(ledger: Ledger, snapshot: Snapshot) -> Iterator[Difference]:
    for key, found in snapshot.claims.items():
        state = ledger.claims.get(key)
        if state is None:
            yield Difference(str(key), "made", False, True)
            continue
        if found is None:
            slot = f"ring slot {key.number % RING_SLOTS}"
            yield Difference(str(key), slot, f"claim {key.number}", "another claim")
            continue
        expected = {
            "amount": state.pending,
            "block_number": state.origin.block_number,
            "frozen": state.frozen,
            "commitment": state.commitment,
        }
        for name, value in expected.items():
            if value != getattr(found, name):
                yield Difference(str(key), name, value, getattr(found, name))
    by_worker: dict[str, int] = {}
    for key, state in ledger.claims.items():
        by_worker[key.worker] = by_worker.get(key.worker, 0) + state.pending
    for worker, pending in by_worker.items():
        if pending != ledger.balances[Account("pending", worker)]:
            yield Difference(f"worker {worker}", "sum of claims", ledger.balances[Account("pending", worker)], pending)


def _participants(ledger: Ledger, snapshot: Snapshot) -> Iterator[Difference]:
    for address in sorted(ledger.participants.keys() | snapshot.participants.keys()):
        where = f"participant {address}"
        state, found = ledger.participants.get(address), snapshot.participants.get(address)
        if state is None or found is None:
            yield Difference(where, "registered", state is not None, found is not None)
            continue
        expected = {
            "stake": ledger.balances.get(Account("stake", address), 0),
            "unbonding": ledger.balances.get(Account("unbonding", address), 0),
        }
        for name, value in expected.items():
            if value != getattr(found, name):
                yield Difference(where, name, value, getattr(found, name))
        yield from _fields(where, state, found, ("role", "jailed", "unbonding_since"))
        following = state.next_hot_key(snapshot.timestamp)
        keys = {
            "hot_key": state.hot_key(snapshot.timestamp),
            "next_hot_key": following.address,
            "next_hot_key_at": following.since,
        }
        for name, key in keys.items():
            if key != getattr(found, name):
                yield Difference(where, name, key, getattr(found, name))


def _services(ledger: Ledger, snapshot: Snapshot) -> Iterator[Difference]:
    for worker, found in snapshot.services.items():
        state = ledger.participants.get(worker)
        expected = (state and state.service) or NO_SERVICE
        names = tuple(item.name for item in fields(Service))
        yield from _fields(f"service of {worker}", expected, found, names)
    for model, is_registered in snapshot.models.items():
        if not is_registered:
            yield Difference(f"model 0x{model.hex()}", "registered", True, False)


def _seeds(ledger: Ledger, snapshot: Snapshot, rules: Rules) -> Iterator[Difference]:
    for block, seed in ledger.seeds.items():
        if seed != snapshot.seeds[block]:
            yield Difference(f"beacon of block {block}", "seed", seed, snapshot.seeds[block])
    by_remainder: dict[int, list[int]] = {}
    for block in sorted(ledger.seeds):
        by_remainder.setdefault(block % BEACON_STEP, []).append(block)
    for key, found in snapshot.claim_seeds.items():
        first = -(-(ledger.claims[key].origin.block_number + rules.beacon_delay) // rules.beacon_spacing)
        first *= rules.beacon_spacing
        recorded = by_remainder.get(first % BEACON_STEP, [])
        at = bisect_left(recorded, first)
        expected = ledger.seeds[recorded[at]] if at < len(recorded) else None
        if expected != found:
            yield Difference(str(key), "seed of its draws", expected, found)


def _tokens(ledger: Ledger, snapshot: Snapshot, rules: Rules) -> Iterator[Difference]:
    if ledger.balances[FEES] != snapshot.fees:
        yield Difference("protocol", "fees", ledger.balances[FEES], snapshot.fees)
    kinds = {rules.channels: ("Channels", CHANNELS_KINDS), rules.stake_registry: ("StakeRegistry", STAKE_KINDS)}
    for contract, (name, held) in kinds.items():
        where = f"{name} {contract}"
        if ledger.tokens[contract] != snapshot.balances[contract]:
            yield Difference(where, "token balance", ledger.tokens[contract], snapshot.balances[contract])
        owed = ledger.sum(*held)
        if snapshot.balances[contract] < owed:
            yield Difference(where, "token balance", f"at least the {owed} it owes", snapshot.balances[contract])


def _fields(where: str, expected: object, found: object, names: tuple[str, ...]) -> Iterator[Difference]:
    for name in names:
        if getattr(expected, name) != getattr(found, name):
            yield Difference(where, name, getattr(expected, name), getattr(found, name))
