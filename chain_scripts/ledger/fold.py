"""Folds events into a ledger. Knows the rules of the contracts, so that an event that breaks one is named itself."""

from collections.abc import Callable, Iterable
from typing import Any

from efedllm.chain import events as on_chain
from efedllm.chain.events import Event
from efedllm.chain.stake_registry import Role
from efedllm.protocol.claims import Entry, channel_id, commitment, unpack_entries
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.model_spec import model_id

from .fold_games import GAME_HANDLERS
from .folding import BPS, Folding, Rules, place
from .state import (
    FEES,
    Account,
    ChannelKey,
    ChannelState,
    ClaimKey,
    ClaimState,
    HotKey,
    Ledger,
    Part,
    channel_account,
    wallet,
)

__all__ = ["RING_SLOTS", "Rules", "fold"]

RING_SLOTS = 64


def fold(events: Iterable[Event], rules: Rules) -> Ledger:
    """The ledger after `events`, which are in order."""
    folding = Folding(Ledger(), rules)
    before = (-1, -1)
    for event in events:
        at = event.origin.block_number, event.origin.log_index
        if at <= before:
            folding.want(place(event), "place", f"behind block {before[0]}, log {before[1]}", "there or before")
        before = at
        folding.ledger.events += 1
        handler = HANDLERS.get(type(event))
        if handler is not None:
            handler(folding, event)
    folding.check_transfers()
    folding.check_game()
    return folding.ledger


# channels


def _funded(f: Folding, event: on_chain.ChannelFunded) -> None:
    key = ChannelKey(event.payer, event.worker, event.session_key)
    where = f"{key}, {place(event)}"
    f.ledger.channel_ids[channel_id(*key)] = key
    state = f.ledger.channels[key]
    state.deposit += event.amount
    f.want(where, "deposit", state.deposit, event.deposit)
    f.want(where, "epoch", state.epoch, event.epoch)
    f.want(where, "closing_at", 0, state.closing_at)
    f.post(event, wallet(event.payer), channel_account(key), event.amount, f"epoch {event.epoch}")


def _close_requested(f: Folding, event: on_chain.CloseRequested) -> None:
    key = ChannelKey(event.payer, event.worker, event.session_key)
    state = f.ledger.channels[key]
    f.want(f"{key}, {place(event)}", "epoch", state.epoch, event.epoch)
    f.want(f"{key}, {place(event)}", "closing already", False, state.closing_at != 0)
    f.want(f"{key}, {place(event)}", "funded", True, state.deposit != 0)
    state.closing_at = event.closing_at


def _closed(f: Folding, event: on_chain.ChannelClosed) -> None:
    key = ChannelKey(event.payer, event.worker, event.session_key)
    state = f.ledger.channels[key]
    f.want(f"{key}, {place(event)}", "epoch", state.epoch, event.epoch)
    f.want(f"{key}, {place(event)}", "close requested", True, state.closing_at != 0)
    f.want(f"{key}, {place(event)}", "refund", state.deposit - state.claimed, event.refund)
    f.post(event, channel_account(key), wallet(event.payer), event.refund, f"epoch {event.epoch}")
    f.ledger.channels[key] = ChannelState(epoch=state.epoch + 1)


def _claimed(f: Folding, event: on_chain.Claimed) -> None:
    claim = ClaimKey(event.worker, event.claim_index)
    where = f"{claim}, {place(event)}"
    try:
        entries = unpack_entries(event.entries)
    except ProtocolError as error:
        f.want(where, "entries", "whole ones", str(error))
        entries = ()
    f.want(where, "commitment", commitment(entries), event.commitment)
    f.want(where, "amount", sum(entry.end - entry.start for entry in entries), event.amount)
    _check_slot(f, where, event)
    parts = [part for entry in entries if (part := _claimed_part(f, event, where, entry)) is not None]
    f.ledger.claims[claim] = ClaimState(event.origin, event.amount, event.amount, event.commitment, tuple(parts))
    f.ledger.next_claim[event.worker] = event.claim_index + 1
    f.ledger.rings[event.worker][event.claim_index % RING_SLOTS] = event.claim_index


def _check_slot(f: Folding, where: str, event: on_chain.Claimed) -> None:
    """A claim takes the first free slot of the ring: one with nothing pending."""
    ring = f.ledger.rings[event.worker]

    def pending_in(index: int) -> int | None:
        number = ring.get(index % RING_SLOTS)
        if number is None or not f.ledger.claims[ClaimKey(event.worker, number)].pending:
            return None
        return number

    if (number := pending_in(event.claim_index)) is not None:
        f.want(where, f"ring slot {event.claim_index % RING_SLOTS}", "free", f"in use by claim {number}")
        return
    first = f.ledger.next_claim[event.worker]
    wanted = next((index for index in range(first, first + RING_SLOTS) if pending_in(index) is None), first)
    f.want(where, "index", wanted, event.claim_index)


def _claimed_part(f: Folding, event: on_chain.Claimed, claim: str, entry: Entry) -> Part | None:
    key = f.ledger.channel_ids.get(entry.channel)
    if key is None or key.worker != event.worker:
        f.want(f"{claim}, channel id 0x{entry.channel.hex()}", "funded", True, False)
        return None
    state = f.ledger.channels[key]
    where = f"{claim}, {key}"
    f.want(where, "from", state.claimed, entry.start)
    if entry.end > state.deposit:
        f.want(where, "to", f"at most {state.deposit}", entry.end)
    if entry.end <= entry.start:
        f.want(where, "to", f"more than {entry.start}", entry.end)
    state.claimed = entry.end
    target = Account("pending", event.worker)
    f.post(event, channel_account(key), target, entry.end - entry.start, f"claim {event.claim_index}")
    return Part(key, state.epoch, state.deposit, entry)


def _released(f: Folding, event: on_chain.Released) -> None:
    claim = ClaimKey(event.worker, event.claim_index)
    where = f"{claim}, {place(event)}"
    state = f.ledger.claims.get(claim)
    f.want(where, "amount", state.pending - state.frozen if state else 0, event.amount)
    f.want(where, "fee", event.amount * f.rules.fee_bps // BPS, event.fee)
    if state is not None:
        state.pending -= event.amount
    pending, detail = Account("pending", event.worker), f"claim {event.claim_index}"
    f.post(event, pending, Account("earnings", event.worker), event.amount - event.fee, detail)
    if event.fee:
        f.post(event, pending, FEES, event.fee, detail)


def _earnings_withdrawn(f: Folding, event: on_chain.EarningsWithdrawn) -> None:
    account = Account("earnings", event.worker)
    f.want(f"{account}, {place(event)}", "amount", f.ledger.balances[account], event.amount)
    f.post(event, account, wallet(event.to), event.amount)


def _fees_withdrawn(f: Folding, event: on_chain.FeesWithdrawn) -> None:
    f.want(f"{FEES}, {place(event)}", "amount", f.ledger.balances[FEES], event.amount)
    f.post(event, FEES, wallet(event.to), event.amount)


def _frozen(f: Folding, event: on_chain.Frozen) -> None:
    claim = ClaimKey(event.worker, event.claim_index)
    state = f.ledger.claims.get(claim)
    free = state.pending - state.frozen if state else 0
    if event.amount > free:
        f.want(f"{claim}, {place(event)}", "amount", f"at most {free}", event.amount)
    if state is not None:
        state.frozen += event.amount
    f.hold(event, event.worker, event.claim_index, event.amount)


def _unfrozen(f: Folding, event: on_chain.Unfrozen) -> None:
    claim = ClaimKey(event.worker, event.claim_index)
    state = f.ledger.claims.get(claim)
    frozen = state.frozen if state else 0
    if event.amount > frozen:
        f.want(f"{claim}, {place(event)}", "amount", f"at most {frozen}", event.amount)
    if state is not None:
        state.frozen -= event.amount
    f.hold(event, event.worker, event.claim_index, -event.amount)


def _forfeited(f: Folding, event: on_chain.Forfeited) -> None:
    """What the token refuses to send becomes the receiver's earnings; the transfer that follows tells if it did."""
    claim = ClaimKey(event.worker, event.claim_index)
    state = f.ledger.claims.get(claim)
    free = state.pending - state.frozen if state else 0
    if event.amount > free:
        f.want(f"{claim}, {place(event)}", "amount", f"at most {free}", event.amount)
    if state is not None:
        state.pending -= event.amount
    target = Account("earnings", event.to)
    f.post(event, Account("pending", event.worker), target, event.amount, f"claim {event.claim_index}")
    f.expect_refund(event)
    f.forfeit(event, event.worker, event.claim_index, event.to, event.amount)


# stake


def _registered(f: Folding, event: on_chain.Registered) -> None:
    state = f.ledger.participants[event.participant]
    f.want(f"participant {event.participant}, {place(event)}", "role", Role.NONE, state.role)
    state.role = event.role
    _take_key(f, event, event.participant, HotKey(event.hot_key, 0))


def _take_key(f: Folding, event: Event, participant: str, key: HotKey) -> None:
    owner = f.key_owners.get(key.address, participant)
    taken = any(known.address == key.address for known in f.ledger.participants[owner].keys)
    f.key_owners[key.address] = participant
    f.want(f"participant {participant}, {place(event)}", f"hot key {key.address} taken", False, taken)
    f.ledger.participants[participant].keys.append(key)


def _staked(f: Folding, event: on_chain.Staked) -> None:
    account = Account("stake", event.participant)
    f.post(event, wallet(event.participant), account, event.amount)
    f.want(f"{account}, {place(event)}", "stake", f.ledger.balances[account], event.stake)


def _unbond_requested(f: Folding, event: on_chain.UnbondRequested) -> None:
    target = Account("unbonding", event.participant)
    f.post(event, Account("stake", event.participant), target, event.amount)
    f.want(f"{target}, {place(event)}", "unbonding", f.ledger.balances[target], event.unbonding)
    f.ledger.participants[event.participant].unbonding_since = event.since


def _unbond_cancelled(f: Folding, event: on_chain.UnbondCancelled) -> None:
    source, target = Account("unbonding", event.participant), Account("stake", event.participant)
    f.want(f"{source}, {place(event)}", "amount", f.ledger.balances[source], event.amount)
    f.post(event, source, target, event.amount)
    f.want(f"{target}, {place(event)}", "stake", f.ledger.balances[target], event.stake)
    f.ledger.participants[event.participant].unbonding_since = 0


def _stake_withdrawn(f: Folding, event: on_chain.StakeWithdrawn) -> None:
    source = Account("unbonding", event.participant)
    f.want(f"{source}, {place(event)}", "amount", f.ledger.balances[source], event.amount)
    f.post(event, source, wallet(event.to), event.amount)
    f.ledger.participants[event.participant].unbonding_since = 0


def _slashed(f: Folding, event: on_chain.Slashed) -> None:
    stake, unbonding = Account("stake", event.participant), Account("unbonding", event.participant)
    reachable = f.ledger.balances[stake] + f.ledger.balances[unbonding]
    f.want(f"{stake}, {place(event)}", "taken", min(event.requested, reachable), event.taken)
    f.expect_slash(event, reachable)
    from_stake = min(event.taken, f.ledger.balances[stake])
    f.post(event, stake, wallet(event.to), from_stake)
    f.post(event, unbonding, wallet(event.to), event.taken - from_stake)


def _jailed(f: Folding, event: on_chain.Jailed) -> None:
    f.ledger.participants[event.participant].jailed = True


def _hot_key_rotation(f: Folding, event: on_chain.HotKeyRotation) -> None:
    keys = f.ledger.participants[event.participant].keys
    if keys and keys[-1].since > event.effective_at - f.rules.hot_key_delay:
        keys.pop()  # it was announced and never signed
    _take_key(f, event, event.participant, HotKey(event.hot_key, event.effective_at))


def _service_updated(f: Folding, event: on_chain.ServiceUpdated) -> None:
    state, service = f.ledger.participants[event.worker], event.service
    where = f"participant {event.worker}, {place(event)}"
    f.want(where, "role", Role.WORKER, state.role)
    f.want(where, f"model 0x{service.model_id.hex()} registered", True, service.model_id in f.ledger.models)
    state.service, state.endpoint = service, service.endpoint


def _service_ended(f: Folding, event: on_chain.ServiceEnded) -> None:
    f.ledger.participants[event.worker].service = None


def _model_registered(f: Folding, event: on_chain.ModelRegistered) -> None:
    where = f"model 0x{event.model_id.hex()}, {place(event)}"
    f.want(where, "id", model_id(event.spec), event.model_id)
    f.want(where, "registered before", False, event.model_id in f.ledger.models)
    f.ledger.models[event.model_id] = event.spec


def _beacon_recorded(f: Folding, event: on_chain.BeaconRecorded) -> None:
    where = f"beacon of block {event.block_number}, {place(event)}"
    f.want(where, "recorded before", False, event.block_number in f.ledger.seeds)
    f.ledger.seeds[event.block_number] = event.seed


HANDLERS: dict[type[Event], Callable[[Folding, Any], None]] = {
    on_chain.ChannelFunded: _funded,
    on_chain.CloseRequested: _close_requested,
    on_chain.ChannelClosed: _closed,
    on_chain.Claimed: _claimed,
    on_chain.Released: _released,
    on_chain.EarningsWithdrawn: _earnings_withdrawn,
    on_chain.FeesWithdrawn: _fees_withdrawn,
    on_chain.Frozen: _frozen,
    on_chain.Unfrozen: _unfrozen,
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
    on_chain.ServiceEnded: _service_ended,
    on_chain.ModelRegistered: _model_registered,
    on_chain.BeaconRecorded: _beacon_recorded,
    on_chain.Transfer: Folding.transfer,
    **GAME_HANDLERS,
}
