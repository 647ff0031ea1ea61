"""The ledger while events are folded into it: postings, broken rules, and tokens transaction by transaction."""

from collections import defaultdict
from dataclasses import dataclass, field

from efedllm.chain import events as on_chain
from efedllm.chain.events import Event

from .difference import Difference
from .state import Account, Ledger, Posting, wallet


@dataclass(frozen=True)
class Rules:
    """What the ledger depends on besides events: addresses of our contracts, the protocol fee, the delay of a key
    rotation in seconds, and which blocks may give a claim its seed."""

    channels: str
    stake_registry: str
    fee_bps: int
    hot_key_delay: int = 0
    beacon_delay: int = 1
    beacon_spacing: int = 1


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
    flows: dict[tuple[int, bytes, str, str], Flow] = field(default_factory=lambda: defaultdict(Flow))
    """By block, transaction, contract, and "took" or "sent"."""

    def post(self, event: Event, source: Account, target: Account, amount: int, detail: str = "") -> None:
        self.ledger.balances[source] -= amount
        self.ledger.balances[target] += amount
        if source.kind != "wallet" and self.ledger.balances[source] < 0:
            self.want(f"{source}, {place(event)}", "balance", "at least 0", self.ledger.balances[source])
        posting = Posting(event.origin, type(event).__name__, source, target, amount, detail)
        self.ledger.postings.append(posting)
        if "wallet" in (source.kind, target.kind):
            is_taken = source.kind == "wallet"
            kind = target.kind if is_taken else source.kind
            contract = self.rules.stake_registry if kind in ("stake", "unbonding") else self.rules.channels
            flow = self._flow(event, contract, is_taken)
            flow.posted += amount
            flow.may_fail |= isinstance(event, on_chain.Slashed)

    def want(self, account: object, name: str, expected: object, found: object) -> None:
        if expected != found:
            self.ledger.differences.append(Difference(str(account), name, expected, found))

    def expect_refund(self, event: on_chain.Forfeited) -> None:
        sent = (event.origin.transaction_hash, event.to, event.amount)
        self.unsent[sent] = self.unsent.get(sent, 0) + 1

    def transfer(self, event: on_chain.Transfer) -> None:
        for contract in (self.rules.channels, self.rules.stake_registry):
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

    def check_transfers(self) -> None:
        """Tokens moved as the events say, in every transaction; a gift is nobody's business."""
        names = {self.rules.channels: "Channels", self.rules.stake_registry: "StakeRegistry"}
        for (block, transaction, contract, direction), flow in self.flows.items():
            if direction == "took" and flow.transferred >= flow.posted:
                continue
            if direction == "sent" and flow.may_fail and flow.transferred <= flow.posted:
                continue
            where = f"transaction 0x{transaction.hex()} in block {block}"
            self.want(where, f"tokens that {names[contract]} {direction}", flow.posted, flow.transferred)

    def _flow(self, event: Event, contract: str, is_taken: bool) -> Flow:
        origin = event.origin
        return self.flows[origin.block_number, origin.transaction_hash, contract, "took" if is_taken else "sent"]


def place(event: Event) -> str:
    """Where to look an event up."""
    return f"{type(event).__name__} in block {event.origin.block_number}, log {event.origin.log_index}"
