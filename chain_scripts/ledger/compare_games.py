"""Holds what the game's events say against what the game says at one block."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from efedllm.chain.dispute_game import Fault
from efedllm.protocol.game import Game, Phase

from .difference import Difference
from .folding import Rules
from .games import FaultKey, PartKey, ShareKey, game_name
from .state import GAME_KINDS, Account, Ledger, bond_account, fee_account, pot_account

_FIELDS = (
    "worker", "challenger", "receipt_digest", "phase", "bond", "holds", "claim_index", "entry", "side",
    "height", "in_row", "path", "chunk",
)  # fmt: skip
_WHEN_KNOWN = ("body_root", "node")
_NO_FAULT, _NO_PART = Fault(0, 0, 0, 0), (0, 0, False)


@dataclass(frozen=True)
class GameSnapshot:
    """State of the game; of what is missing here it has nothing.

    `games`: None where another one took the place; `records`: open games and faults of a worker; `parts`: holders,
    frozen, refunded; `forced`: unix seconds by receipt digest; `owed`: base units by account; `times`: unix seconds of
    the blocks of moves that tell no deadline.
    """

    games: Mapping[int, Game | None]
    records: Mapping[str, tuple[int, int]]
    faults: Mapping[FaultKey, Fault]
    shares: Mapping[ShareKey, int]
    parts: Mapping[PartKey, tuple[int, int, bool]]
    forced: Mapping[bytes, int]
    owed: Mapping[str, int]
    times: Mapping[int, int]
    balance: int
    demand_fee: int

    def held(self) -> int:
        """Bonds, and fees of demands, of games that are open."""
        held = 0
        for game in self.games.values():
            if game is not None and game.phase not in (Phase.ANSWERED, Phase.WORKER_WON, Phase.CHALLENGER_WON):
                held += game.bond + (self.demand_fee if game.phase is Phase.DEMAND else 0)
        return held

    def pots(self) -> int:
        return sum(fault.pot for fault in self.faults.values())


def compare_games(ledger: Ledger, snapshot: GameSnapshot, rules: Rules) -> Iterator[Difference]:
    yield from _games(ledger, snapshot, rules)
    yield from _faults(ledger, snapshot, rules)
    yield from _others(ledger, snapshot)
    assert rules.game is not None
    address, where = rules.game.address, f"DisputeGame {rules.game.address}"
    if ledger.tokens[address] != snapshot.balance:
        yield Difference(where, "token balance", ledger.tokens[address], snapshot.balance)
    if snapshot.balance < (owed := ledger.sum(*GAME_KINDS)):
        yield Difference(where, "token balance", f"at least the {owed} it owes", snapshot.balance)


def _games(ledger: Ledger, snapshot: GameSnapshot, rules: Rules) -> Iterator[Difference]:
    games = ledger.games
    assert rules.game is not None
    for game_id, state in games.games.items():
        found, where = snapshot.games.get(game_id), game_name(game_id)
        if found is None or games.is_replaced(game_id):
            if (found is None) != games.is_replaced(game_id):
                yield Difference(where, "replaced by another", games.is_replaced(game_id), found is None)
            continue
        for name in _FIELDS:
            if getattr(state, name) != getattr(found, name):
                yield Difference(where, name, getattr(state, name), getattr(found, name))
        deadline = state.deadline
        if deadline is None:
            deadline = snapshot.times[state.moved_in] + rules.game.move_deadline
        if deadline != found.deadline:
            yield Difference(where, "deadline", deadline, found.deadline)
        for name in _WHEN_KNOWN:
            expected = getattr(state, name)
            if expected is not None and expected != getattr(found, name):
                yield Difference(where, name, expected, getattr(found, name))
        held = {bond_account(game_id): state.bond, fee_account(game_id): state.fee}
        for account, amount in held.items():
            balance = ledger.balances.get(account, 0)
            if balance != (expected := amount if state.is_open else 0):
                yield Difference(str(account), "balance", expected, balance)
    for worker, record in snapshot.records.items():
        expected_record = games.open.get(worker, 0), games.faults_of.get(worker, 0)
        for name, wanted, given in zip(("open games", "faults"), expected_record, record, strict=True):
            if wanted != given:
                yield Difference(f"worker {worker}", name, wanted, given)


def _faults(ledger: Ledger, snapshot: GameSnapshot, rules: Rules) -> Iterator[Difference]:
    assert rules.game is not None
    for key, state in ledger.games.faults.items():
        expected = {
            "proven_at": state.collectable_at - rules.game.longest_game,
            "collectable_at": state.collectable_at,
            "winners": state.winners,
            "pot": ledger.balances.get(pot_account(key), 0),
        }
        for name, value in expected.items():
            if value != (found := getattr(snapshot.faults.get(key, _NO_FAULT), name)):
                yield Difference(str(key), name, value, found)
    for share, count in ledger.games.shares.items():
        if count != (found := snapshot.shares.get(share, 0)):
            yield Difference(str(share), "shares", count, found)


def _others(ledger: Ledger, snapshot: GameSnapshot) -> Iterator[Difference]:
    for part, state in ledger.games.parts.items():
        expected, found = (state.holders, state.frozen, state.refunded), snapshot.parts.get(part, _NO_PART)
        for name, wanted, given in zip(("holders", "frozen", "refunded"), expected, found, strict=True):
            if wanted != given:
                yield Difference(str(part), name, wanted, given)
    for digest, until in ledger.games.forced.items():
        if until != (found_until := snapshot.forced.get(digest, 0)):
            yield Difference(f"receipt 0x{digest.hex()}", "force-drawn until", until, found_until)
    for owner, amount in snapshot.owed.items():
        account = Account("owed", owner)
        if amount != ledger.balances.get(account, 0):
            yield Difference(str(account), "amount", ledger.balances.get(account, 0), amount)
