"""The ledger while events are folded into it: postings, broken rules, and tokens transaction by transaction."""

from collections import defaultdict
from dataclasses import dataclass, field

from efedllm.chain import events as on_chain
from efedllm.chain import game_events
from efedllm.chain.events import Event

from .difference import Difference
from .games import FaultKey
from .state import GAME_KINDS, STAKE_KINDS, Account, Ledger, Posting, wallet

BPS = 10_000


@dataclass(frozen=True)
class GameRules:
    """What the game fixed when it was created, and its address. `reward_pool`: None where its share is burned."""

    address: str
    first_slash: int
    first_slash_bps: int
    challenger_share_bps: int
    pool_share_bps: int
    reward_pool: str | None
    base_bond: int
    force_fee: int
    demand_fee: int
    move_deadline: int
    longest_game: int


@dataclass(frozen=True)
class Rules:
    """What the ledger depends on besides events: addresses of our contracts, the protocol fee, the delay of a key
    rotation in seconds, which blocks may give a claim its seed, and those of the game, if there is one."""

    channels: str
    stake_registry: str
    fee_bps: int
    hot_key_delay: int = 0
    beacon_delay: int = 1
    beacon_spacing: int = 1
    game: GameRules | None = None

    @property
    def names(self) -> dict[str, str]:
        """Contracts that hold money, by address."""
        game = {self.game.address: "DisputeGame"} if self.game else {}
        return {self.channels: "Channels", self.stake_registry: "StakeRegistry"} | game

    def holder(self, kind: str) -> str:
        """Address of the contract in which the money of such accounts is."""
        if kind in STAKE_KINDS:
            return self.stake_registry
        if kind in GAME_KINDS:
            assert self.game is not None
            return self.game.address
        return self.channels


@dataclass
class Flow:
    """Tokens in one direction between the world and one of our contracts, in one transaction."""

    posted: int = 0
    transferred: int = 0
    may_fail: bool = False
    """What the token refuses to send of a slash stays in the contract."""


@dataclass
class Folding:
    ledger: Ledger
    rules: Rules
    unsent: dict[tuple[bytes, str, int], int] = field(default_factory=dict)
    """Forfeited amounts whose transfer was not seen, by (transaction, receiver, amount)."""
    key_owners: dict[str, str] = field(default_factory=dict)
    unpaid: dict[tuple[bytes, str, int], int] = field(default_factory=lambda: defaultdict(int))
    """What the game had to send, whose transfer was not seen, by (transaction, receiver, amount)."""
    verdicts: dict[FaultKey, game_events.Proven] = field(default_factory=dict)
    """Faults for which nobody was slashed yet."""
    slash: tuple[bytes, int] | None = None
    """Transaction and amount of a slash that arrived at the game and is not divided yet."""
    slashed: tuple[bytes, int] | None = None
    """The same of one whose transfer was not seen."""
    held: dict[tuple[bytes, str, int], int] = field(default_factory=lambda: defaultdict(int))
    """What Channels froze less what the game says, by (transaction, worker, claim)."""
    forfeits: dict[tuple[bytes, str, int, str], int] = field(default_factory=lambda: defaultdict(int))
    """What Channels forfeited less what the game refunded, by (transaction, worker, claim, receiver)."""
    flows: dict[tuple[int, bytes, str, str], Flow] = field(default_factory=lambda: defaultdict(Flow))
    """By block, transaction, contract, and "took" or "sent"."""

    def post(self, event: Event, source: Account, target: Account, amount: int, detail: str = "") -> None:
        if not amount:
            return
        self.ledger.balances[source] -= amount
        self.ledger.balances[target] += amount
        if source.kind != "wallet" and self.ledger.balances[source] < 0:
            self.want(f"{source}, {place(event)}", "balance", "at least 0", self.ledger.balances[source])
        posting = Posting(event.origin, type(event).__name__, source, target, amount, detail)
        self.ledger.postings.append(posting)
        if "wallet" in (source.kind, target.kind):
            is_taken = source.kind == "wallet"
            flow = self._flow(event, self.rules.holder(target.kind if is_taken else source.kind), is_taken)
            flow.posted += amount
            flow.may_fail |= isinstance(event, on_chain.Slashed)

    def want(self, account: object, name: str, expected: object, found: object) -> None:
        if expected != found:
            self.ledger.differences.append(Difference(str(account), name, expected, found))

    def expect_refund(self, event: on_chain.Forfeited) -> None:
        sent = (event.origin.transaction_hash, event.to, event.amount)
        self.unsent[sent] = self.unsent.get(sent, 0) + 1

    def pay(self, event: Event, to: str, *parts: tuple[Account, int]) -> None:
        """The game sends `to` the sum of amounts from these accounts, or goes on owing it."""
        for account, amount in parts:
            self.post(event, account, Account("owed", to), amount)
        if total := sum(amount for _, amount in parts):
            self.unpaid[event.origin.transaction_hash, to, total] += 1

    def leave_unpaid(self, event: game_events.Owed) -> bool:
        """The token refused what had to be sent; whether it had to be."""
        sent = (event.origin.transaction_hash, event.account, event.amount)
        if not self.unpaid[sent]:
            return False
        self.unpaid[sent] -= 1
        return True

    def hold(self, event: Event, worker: str, number: int, amount: int) -> None:
        """`amount` more of a claim is frozen by what Channels says, or less by what the game says."""
        self.held[event.origin.transaction_hash, worker, number] += amount

    def forfeit(self, event: Event, worker: str, number: int, to: str, amount: int) -> None:
        self.forfeits[event.origin.transaction_hash, worker, number, to] += amount

    def expect_slash(self, event: on_chain.Slashed, reachable: int) -> None:
        """By the game: the first fault takes a part, every other one all."""
        game = self.rules.game
        if game is None:
            return
        where = f"stake of {event.participant}, {place(event)}"
        verdict = next(
            (one for one in self.verdicts.values() if one.worker == event.participant and _together(one, event)), None
        )
        if verdict is None:
            self.want(where, "a fault that was proven just now", True, False)
            return
        first = max(game.first_slash, reachable * game.first_slash_bps // BPS)
        self.want(where, "requested", first if verdict.number == 1 else 2**256 - 1, event.requested)
        self.want(where, "to", game.address, event.to)
        self.slashed = event.origin.transaction_hash, event.taken

    def arrived(self, event: game_events.Divided) -> int:
        """How much of the slash for this fault came to the game: nothing, where the token refused."""
        found, self.slash, self.slashed = self.slash, None, None
        return found[1] if found and found[0] == event.origin.transaction_hash else 0

    def transfer(self, event: on_chain.Transfer) -> None:
        for contract in self.rules.names:
            if event.target == contract:
                self.ledger.tokens[contract] += event.amount
                self._flow(event, contract, True).transferred += event.amount
            if event.source == contract:
                self.ledger.tokens[contract] -= event.amount
                self._flow(event, contract, False).transferred += event.amount
        sent = (event.origin.transaction_hash, event.target, event.amount)
        if event.source == self.rules.channels and self.unsent.get(sent, 0):
            self.unsent[sent] -= 1
            self.post(event, Account("earnings", event.target), wallet(event.target), event.amount)
        game = self.rules.game
        if game is None:
            return
        if event.source == game.address and self.unpaid[sent]:
            self.unpaid[sent] -= 1
            self.post(event, Account("owed", event.target), wallet(event.target), event.amount)
        is_slash = self.slashed == (event.origin.transaction_hash, event.amount)
        if is_slash and (event.source, event.target) == (self.rules.stake_registry, game.address):
            self.slash = self.slashed

    def check_transfers(self) -> None:
        """Tokens moved as the events say, in every transaction; a gift is nobody's business."""
        names = self.rules.names
        for (block, transaction, contract, direction), flow in self.flows.items():
            if direction == "took" and flow.transferred >= flow.posted:
                continue
            if direction == "sent" and flow.may_fail and flow.transferred <= flow.posted:
                continue
            where = f"transaction 0x{transaction.hex()} in block {block}"
            self.want(where, f"tokens that {names[contract]} {direction}", flow.posted, flow.transferred)

    def check_game(self) -> None:
        """What the game says of the other contracts is what they say, in every transaction; nothing is left open."""
        if self.rules.game is None:
            return
        for (transaction, worker, number), amount in self.held.items():
            where = f"claim {number} of {worker}, transaction 0x{transaction.hex()}"
            self.want(where, "frozen more than the game says", 0, amount)
        for (transaction, worker, number, to), amount in self.forfeits.items():
            where = f"claim {number} of {worker}, transaction 0x{transaction.hex()}"
            self.want(where, f"forfeited to {to} more than the game refunded", 0, amount)
        for (transaction, to, amount), count in self.unpaid.items():
            where = f"transaction 0x{transaction.hex()}"
            self.want(where, f"payments of {amount} from the game to {to} neither sent nor owed", 0, count)
        for key in self.verdicts:
            self.want(key, "slashed for", True, False)

    def _flow(self, event: Event, contract: str, is_taken: bool) -> Flow:
        origin = event.origin
        return self.flows[origin.block_number, origin.transaction_hash, contract, "took" if is_taken else "sent"]


def place(event: Event) -> str:
    """Where to look an event up."""
    return f"{type(event).__name__} in block {event.origin.block_number}, log {event.origin.log_index}"


def _together(one: Event, other: Event) -> bool:
    return one.origin.transaction_hash == other.origin.transaction_hash
