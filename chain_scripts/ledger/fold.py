"""Folds events into a ledger. Knows the rules of the contracts, so that an event that breaks one is named itself."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from efedllm.chain import events as on_chain
from efedllm.chain.events import Event
from efedllm.chain.stake_registry import Role
from efedllm.protocol.claims import Entry, channel_id, commitment, unpack_entries

from .difference import Difference
from .state import (
    FEES,
    Account,
    ChannelKey,
    ChannelState,
    ClaimKey,
    ClaimState,
    Ledger,
    Part,
    Posting,
    channel_account,
    wallet,
)

BPS = 10_000


@dataclass(frozen=True)
class Rules:
    """What the ledger depends on besides events: addresses of our contracts, and the protocol fee."""

    channels: str
    stake_registry: str
    fee_bps: int


def fold(events: Iterable[Event], rules: Rules) -> Ledger:
    """The ledger after `events`, which are in order."""
    folding = _Folding(Ledger(), rules)
    for event in events:
        folding.ledger.events += 1
        handler = HANDLERS.get(type(event))
        if handler is not None:
            handler(folding, event)
    return folding.ledger


@dataclass
class _Folding:
    ledger: Ledger
    rules: Rules
    unsent: dict[tuple[bytes, str, int], int] = field(default_factory=dict)
    """Forfeited amounts whose transfer was not seen, by (transaction, receiver, amount)."""

    def post(self, event: Event, source: Account, target: Account, amount: int, detail: str = "") -> None:
        self.ledger.balances[source] -= amount
        self.ledger.balances[target] += amount
        if source.kind != "wallet" and self.ledger.balances[source] < 0:
            self.want(f"{source}, {_place(event)}", "balance", "at least 0", self.ledger.balances[source])
        posting = Posting(event.origin, type(event).__name__, source, target, amount, detail)
        self.ledger.postings.append(posting)

    def want(self, account: object, name: str, expected: object, found: object) -> None:
        if expected != found:
            self.ledger.differences.append(Difference(str(account), name, expected, found))


def _place(event: Event) -> str:
    return f"{type(event).__name__} in block {event.origin.block_number}"


# channels


def _funded(f: _Folding, event: on_chain.ChannelFunded) -> None:
    key = ChannelKey(event.payer, event.worker, event.session_key)
    f.ledger.channel_ids[channel_id(*key)] = key
    state = f.ledger.channels[key]
    state.deposit += event.amount
    f.want(f"{key}, {_place(event)}", "deposit", state.deposit, event.deposit)
    f.want(f"{key}, {_place(event)}", "epoch", state.epoch, event.epoch)
    f.post(event, wallet(event.payer), channel_account(key), event.amount, f"epoch {event.epoch}")


def _close_requested(f: _Folding, event: on_chain.CloseRequested) -> None:
    key = ChannelKey(event.payer, event.worker, event.session_key)
    f.want(f"{key}, {_place(event)}", "epoch", f.ledger.channels[key].epoch, event.epoch)
    f.ledger.channels[key].closing_at = event.closing_at


def _closed(f: _Folding, event: on_chain.ChannelClosed) -> None:
    key = ChannelKey(event.payer, event.worker, event.session_key)
    state = f.ledger.channels[key]
    f.want(f"{key}, {_place(event)}", "epoch", state.epoch, event.epoch)
    f.want(f"{key}, {_place(event)}", "close requested", True, state.closing_at != 0)
    f.want(f"{key}, {_place(event)}", "refund", state.deposit - state.claimed, event.refund)
    f.post(event, channel_account(key), wallet(event.payer), event.refund, f"epoch {event.epoch}")
    f.ledger.channels[key] = ChannelState(epoch=state.epoch + 1)


def _claimed(f: _Folding, event: on_chain.Claimed) -> None:
    claim = ClaimKey(event.worker, event.claim_index)
    entries = unpack_entries(event.entries)
    f.want(claim, "commitment", commitment(entries), event.commitment)
    f.want(claim, "amount", sum(entry.end - entry.start for entry in entries), event.amount)
    if claim in f.ledger.claims or event.claim_index < f.ledger.next_claim[event.worker]:
        f.want(claim, "index", f"at least {f.ledger.next_claim[event.worker]}", event.claim_index)
    parts = [part for entry in entries if (part := _claimed_part(f, event, claim, entry)) is not None]
    f.ledger.claims[claim] = ClaimState(event.origin, event.amount, event.amount, event.commitment, tuple(parts))
    f.ledger.next_claim[event.worker] = event.claim_index + 1


def _claimed_part(f: _Folding, event: on_chain.Claimed, claim: ClaimKey, entry: Entry) -> Part | None:
    key = f.ledger.channel_ids.get(entry.channel)
    if key is None or key.worker != event.worker:
        f.want(f"{claim}, channel id 0x{entry.channel.hex()}", "funded", True, False)
        return None
    state = f.ledger.channels[key]
    where = f"{claim}, {key}"
    f.want(where, "from", state.claimed, entry.start)
    if entry.end > state.deposit:
        f.want(where, "to", f"at most {state.deposit}", entry.end)
    state.claimed = entry.end
    target = Account("pending", event.worker)
    f.post(event, channel_account(key), target, entry.end - entry.start, f"claim {event.claim_index}")
    return Part(key, state.epoch, state.deposit, entry)


def _released(f: _Folding, event: on_chain.Released) -> None:
    claim = ClaimKey(event.worker, event.claim_index)
    state = f.ledger.claims.get(claim)
    f.want(f"{claim}, {_place(event)}", "amount", state.pending if state else 0, event.amount)
    f.want(f"{claim}, {_place(event)}", "fee", event.amount * f.rules.fee_bps // BPS, event.fee)
    if state is not None:
        f.want(f"{claim}, {_place(event)}", "frozen", False, state.frozen)
        state.pending, state.frozen = 0, False
    pending, detail = Account("pending", event.worker), f"claim {event.claim_index}"
    f.post(event, pending, Account("earnings", event.worker), event.amount - event.fee, detail)
    if event.fee:
        f.post(event, pending, FEES, event.fee, detail)


def _earnings_withdrawn(f: _Folding, event: on_chain.EarningsWithdrawn) -> None:
    account = Account("earnings", event.worker)
    f.want(f"{account}, {_place(event)}", "amount", f.ledger.balances[account], event.amount)
    f.post(event, account, wallet(event.to), event.amount)


def _fees_withdrawn(f: _Folding, event: on_chain.FeesWithdrawn) -> None:
    f.want(f"{FEES}, {_place(event)}", "amount", f.ledger.balances[FEES], event.amount)
    f.post(event, FEES, wallet(event.to), event.amount)


def _frozen(f: _Folding, event: on_chain.Frozen) -> None:
    state = f.ledger.claims.get(ClaimKey(event.worker, event.claim_index))
    if state is not None:
        state.frozen = event.frozen


def _forfeited(f: _Folding, event: on_chain.Forfeited) -> None:
    """What the token refuses to send becomes the receiver's earnings; the transfer that follows tells if it did."""
    claim = ClaimKey(event.worker, event.claim_index)
    state = f.ledger.claims.get(claim)
    if state is None or event.amount > state.pending:
        f.want(f"{claim}, {_place(event)}", "amount", f"at most {state.pending if state else 0}", event.amount)
    if state is not None:
        state.pending -= event.amount
        state.frozen = state.frozen and state.pending > 0
    f.post(
        event,
        Account("pending", event.worker),
        Account("earnings", event.to),
        event.amount,
        f"claim {event.claim_index}",
    )
    sent = (event.origin.transaction_hash, event.to, event.amount)
    f.unsent[sent] = f.unsent.get(sent, 0) + 1


# stake


def _registered(f: _Folding, event: on_chain.Registered) -> None:
    state = f.ledger.participants[event.participant]
    f.want(f"participant {event.participant}, {_place(event)}", "role", Role.NONE, state.role)
    state.role = event.role
    state.hot_keys.append(event.hot_key)


def _staked(f: _Folding, event: on_chain.Staked) -> None:
    account = Account("stake", event.participant)
    f.post(event, wallet(event.participant), account, event.amount)
    f.want(f"{account}, {_place(event)}", "stake", f.ledger.balances[account], event.stake)


def _unbond_requested(f: _Folding, event: on_chain.UnbondRequested) -> None:
    target = Account("unbonding", event.participant)
    f.post(event, Account("stake", event.participant), target, event.amount)
    f.want(f"{target}, {_place(event)}", "unbonding", f.ledger.balances[target], event.unbonding)
    f.ledger.participants[event.participant].unbonding_since = event.since


def _unbond_cancelled(f: _Folding, event: on_chain.UnbondCancelled) -> None:
    source, target = Account("unbonding", event.participant), Account("stake", event.participant)
    f.want(f"{source}, {_place(event)}", "amount", f.ledger.balances[source], event.amount)
    f.post(event, source, target, event.amount)
    f.want(f"{target}, {_place(event)}", "stake", f.ledger.balances[target], event.stake)
    f.ledger.participants[event.participant].unbonding_since = 0


def _stake_withdrawn(f: _Folding, event: on_chain.StakeWithdrawn) -> None:
    source = Account("unbonding", event.participant)
    f.want(f"{source}, {_place(event)}", "amount", f.ledger.balances[source], event.amount)
    f.post(event, source, wallet(event.to), event.amount)
    f.ledger.participants[event.participant].unbonding_since = 0


def _slashed(f: _Folding, event: on_chain.Slashed) -> None:
    stake, unbonding = Account("stake", event.participant), Account("unbonding", event.participant)
    reachable = f.ledger.balances[stake] + f.ledger.balances[unbonding]
    f.want(f"{stake}, {_place(event)}", "taken", min(event.requested, reachable), event.taken)
    from_stake = min(event.taken, f.ledger.balances[stake])
    f.post(event, stake, wallet(event.to), from_stake)
    f.post(event, unbonding, wallet(event.to), event.taken - from_stake)


def _jailed(f: _Folding, event: on_chain.Jailed) -> None:
    f.ledger.participants[event.participant].jailed = True


def _hot_key_rotation(f: _Folding, event: on_chain.HotKeyRotation) -> None:
    state = f.ledger.participants[event.participant]
    state.hot_keys.append(event.hot_key)
    state.rotated = True


def _service_updated(f: _Folding, event: on_chain.ServiceUpdated) -> None:
    f.ledger.participants[event.worker].endpoint = event.service.endpoint


# the token


def _transfer(f: _Folding, event: on_chain.Transfer) -> None:
    for contract in (f.rules.channels, f.rules.stake_registry):
        if event.target == contract:
            f.ledger.tokens[contract] += event.amount
        if event.source == contract:
            f.ledger.tokens[contract] -= event.amount
            f.ledger.sent_out[contract] += event.amount
    sent = (event.origin.transaction_hash, event.target, event.amount)
    if event.source == f.rules.channels and f.unsent.get(sent, 0):
        f.unsent[sent] -= 1
        f.post(event, Account("earnings", event.target), wallet(event.target), event.amount)


HANDLERS: dict[type[Event], Callable[[_Folding, Any], None]] = {
    on_chain.ChannelFunded: _funded,
    on_chain.CloseRequested: _close_requested,
    on_chain.ChannelClosed: _closed,
    on_chain.Claimed: _claimed,
    on_chain.Released: _released,
    on_chain.EarningsWithdrawn: _earnings_withdrawn,
    on_chain.FeesWithdrawn: _fees_withdrawn,
    on_chain.Frozen: _frozen,
    on_chain.Forfeited: _forfeited,
    on_chain.Registered: _registered,
    on_chain.Staked: _staked,
    on_chain.UnbondRequested: _unbond_requested,
    on_chain.UnbondCancelled: _unbond_cancelled,
    on_chain.StakeWithdrawn: _stake_withdrawn,
    on_chain.Slashed: _slashed,
    on_chain.Jailed: _jailed,
    on_chain.HotKeyRotation: _hot_key_rotation,
    on_chain.ServiceUpdated: _service_updated,
    on_chain.Transfer: _transfer,
}
