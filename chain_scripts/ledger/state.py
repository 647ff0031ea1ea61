"""What the events say: who owns what, in base units, and the state of every channel, claim and participant."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from efedllm.chain.events import Origin
from efedllm.chain.model_registry import ModelSpec
from efedllm.chain.stake_registry import Role, Service
from efedllm.protocol.claims import Entry
from efedllm.protocol.values import ZERO_ADDRESS

from .difference import Difference
from .games import FaultKey, Games, game_name

CHANNELS_KINDS = ("channel", "pending", "earnings", "fees")
STAKE_KINDS = ("stake", "unbonding")
GAME_KINDS = ("bond", "demand fee", "pot", "owed")


class ChannelKey(NamedTuple):
    payer: str
    worker: str
    session_key: str

    def __str__(self) -> str:
        return f"channel {self.payer} -> {self.worker} (key {self.session_key})"


class ClaimKey(NamedTuple):
    worker: str
    number: int

    def __str__(self) -> str:
        return f"claim {self.number} of {self.worker}"


class Account(NamedTuple):
    """Where money lies. `kind`: wallet, or one of those below, by the contract that holds it."""

    kind: str
    owner: str = ""

    def __str__(self) -> str:
        return f"{self.kind} of {self.owner}" if self.owner else self.kind


@dataclass(frozen=True)
class Posting:
    """`amount` base units went from `source` to `target`: one line of the ledger."""

    origin: Origin
    event: str
    source: Account
    target: Account
    amount: int
    detail: str = ""


@dataclass
class ChannelState:
    """As in the contract: amounts of the current epoch; `closing_at` in unix seconds, 0 while open."""

    deposit: int = 0
    claimed: int = 0
    closing_at: int = 0
    epoch: int = 0


@dataclass(frozen=True)
class Part:
    """What a claim took from one channel, with the channel's epoch and deposit at that time."""

    channel: ChannelKey
    epoch: int
    deposit: int
    entry: Entry


@dataclass
class ClaimState:
    """A claim; `pending` of its `amount` is not released or forfeited yet, and `frozen` of that is under dispute."""

    origin: Origin
    amount: int
    pending: int
    commitment: bytes
    parts: tuple[Part, ...]
    frozen: int = 0


class HotKey(NamedTuple):
    """`since`: unix seconds from which it signs; 0 for the one that came with the registration."""

    address: str
    since: int


@dataclass
class ParticipantState:
    """`service`: what is offered now; `endpoint`: where the latest offer was or is; `keys` in order of their time."""

    role: Role = Role.NONE
    unbonding_since: int = 0
    jailed: bool = False
    keys: list[HotKey] = field(default_factory=list)
    service: Service | None = None
    endpoint: str = ""

    def hot_keys(self, now: int) -> frozenset[str]:
        """All that sign or signed by `now`, in unix seconds: one that is only announced does not count."""
        return frozenset(key.address for key in self.keys if key.since <= now)

    def hot_key(self, now: int) -> str:
        return next((key.address for key in reversed(self.keys) if key.since <= now), ZERO_ADDRESS)

    def next_hot_key(self, now: int) -> HotKey:
        """The one that is announced; zero if there is none."""
        latest = self.keys[-1] if self.keys else HotKey(ZERO_ADDRESS, 0)
        return latest if latest.since > now else HotKey(ZERO_ADDRESS, 0)


@dataclass
class Ledger:
    """Everything the events say. `balances` add up to zero by construction; wallets are the world outside."""

    balances: dict[Account, int] = field(default_factory=lambda: defaultdict(int))
    channels: dict[ChannelKey, ChannelState] = field(default_factory=lambda: defaultdict(ChannelState))
    channel_ids: dict[bytes, ChannelKey] = field(default_factory=dict)
    claims: dict[ClaimKey, ClaimState] = field(default_factory=dict)
    next_claim: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rings: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    """Number of the claim that holds each slot of a worker's ring, or held it last."""
    participants: dict[str, ParticipantState] = field(default_factory=lambda: defaultdict(ParticipantState))
    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Balance of each of our contracts by the token's own transfers."""
    models: dict[bytes, ModelSpec] = field(default_factory=dict)
    seeds: dict[int, bytes] = field(default_factory=dict)
    """Recorded seeds by the block whose hash they are."""
    games: Games = field(default_factory=Games)
    postings: list[Posting] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    """What is wrong in the events themselves."""
    events: int = 0

    def sum(self, *kinds: str) -> int:
        """Base units in all accounts of these kinds."""
        return sum(amount for account, amount in self.balances.items() if account.kind in kinds)

    def moved(self, *events: str) -> int:
        """Base units that postings of these events moved in all."""
        return sum(posting.amount for posting in self.postings if posting.event in events)

    def received(self, account: Account) -> int:
        """Base units that postings brought to an account in all."""
        return sum(posting.amount for posting in self.postings if posting.target == account)


def wallet(owner: str) -> Account:
    return Account("wallet", owner)


def channel_account(key: ChannelKey) -> Account:
    return Account("channel", "/".join(key))


def bond_account(game_id: int) -> Account:
    return Account("bond", game_name(game_id))


def fee_account(game_id: int) -> Account:
    """Of a demand, until it is answered."""
    return Account("demand fee", game_name(game_id))


def pot_account(fault: FaultKey) -> Account:
    return Account("pot", f"{fault.worker}/0x{fault.request_id.hex()}")


FEES = Account("fees")
