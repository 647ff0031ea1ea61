"""Folds the game's events: who moves when, what a fault takes, and where every bond, fee and slash goes."""

from collections.abc import Callable
from typing import Any

from efedllm.chain import game_events as on_chain
from efedllm.chain.origin import Event
from efedllm.protocol.game import Phase, Side

from .folding import Folding, GameRules, place
from .games import BURNED, FaultKey, FaultState, GameState, PartKey, ShareKey, game_id_of, game_name, place_of
from .state import Account, bond_account, fee_account, pot_account, wallet

BPS = 10_000
CHALLENGERS_TURN = frozenset({Phase.SIDE, Phase.PICK, Phase.PROOF})


# before a game


def _force_drawn(f: Folding, event: on_chain.ForceDrawn) -> None:
    where = f"receipt 0x{event.receipt_digest.hex()}, {place(event)}"
    f.want(where, "fee", _rules(f).force_fee, event.fee)
    f.want(where, "force-drawn before", False, event.receipt_digest in f.ledger.games.forced)
    f.ledger.games.forced[event.receipt_digest] = event.open_until
    f.pay(event, event.worker, (wallet(event.by), event.fee))


def _demanded(f: Folding, event: on_chain.Demanded) -> None:
    f.want(f"{game_name(event.game_id)}, {place(event)}", "fee", _rules(f).demand_fee, event.fee)
    _begin(f, event, Phase.DEMAND, event.fee, event.chunk)
    f.post(event, wallet(event.challenger), fee_account(event.game_id), event.fee)


def _answered(f: Folding, event: on_chain.Answered) -> None:
    game = _moved(f, event, Phase.DEMAND, Phase.ANSWERED)
    if game is None:
        return
    where = f"{game_name(event.game_id)}, {place(event)}"
    f.want(where, "bond", game.bond, event.bond)
    f.want(where, "fee", game.fee, event.fee)
    game.deadline = event.open_until
    f.ledger.games.open[game.worker] -= 1
    f.pay(event, game.challenger, (bond_account(event.game_id), event.bond))
    f.pay(event, game.worker, (fee_account(event.game_id), event.fee))


# a game


def _opened(f: Folding, event: on_chain.Opened) -> None:
    _begin(f, event, Phase.TRACE)


def _begin(f: Folding, event: on_chain.Opened | on_chain.Demanded, phase: Phase, fee: int = 0, chunk: int = 0) -> None:
    games, where = f.ledger.games, f"{game_name(event.game_id)}, {place(event)}"
    places = games.places[event.worker]
    number, generation = places.next()
    f.want(where, "id", game_name(game_id_of(event.worker, generation, number)), game_name(event.game_id))
    own_generation, own_place = place_of(event.game_id)
    places.take(own_place, own_generation)
    f.want(where, "bond", (games.open[event.worker] + 1) * _rules(f).base_bond, event.bond)
    games.open[event.worker] += 1
    fault = FaultKey(event.worker, event.request_id)
    f.want(where, "request proven wrong before", False, fault in games.faults)
    game = GameState(
        worker=event.worker,
        challenger=event.challenger,
        request_id=event.request_id,
        receipt_digest=event.receipt_digest,
        phase=phase,
        deadline=event.deadline,
        bond=event.bond,
        holds=event.holds,
        claim_index=event.claim_index,
        entry=event.entry,
        fee=fee,
        chunk=chunk,
    )
    games.games[event.game_id] = game
    if event.holds:
        part = games.parts[game.part]
        if part.holders:
            f.want(where, "frozen besides what another game holds", 0, event.frozen)
        part.holders += 1
        part.frozen += event.frozen
    f.hold(event, event.worker, event.claim_index, -event.frozen)
    f.post(event, wallet(event.challenger), bond_account(event.game_id), event.bond)


def _trace_posted(f: Folding, event: on_chain.TracePosted) -> None:
    if game := _moved(f, event, Phase.TRACE, Phase.SIDE):
        game.body_root, game.deadline = event.body_root, event.deadline


def _side_chosen(f: Folding, event: on_chain.SideChosen) -> None:
    if game := _moved(f, event, Phase.SIDE, event.phase):
        game.side, game.node, game.height, game.deadline = event.side, event.node, event.height, event.deadline
        if event.side is Side.BODY:
            f.want(f"{game_name(event.game_id)}, {place(event)}", "node", game.body_root, event.node)


def _revealed(f: Folding, event: on_chain.Revealed) -> None:
    if game := _moved(f, event, Phase.REVEAL, Phase.PICK):
        game.deadline = None


def _picked(f: Folding, event: on_chain.Picked) -> None:
    if game := _moved(f, event, Phase.PICK, event.phase):
        game.node, game.path, game.height = event.node, event.path, event.height
        game.in_row, game.deadline = event.in_row, None


def _leaf_revealed(f: Folding, event: on_chain.LeafRevealed) -> None:
    if game := _moved(f, event, Phase.LEAF, Phase.PROOF):
        game.deadline = event.deadline


def _ended(f: Folding, event: on_chain.Ended) -> None:
    games, where = f.ledger.games, f"{game_name(event.game_id)}, {place(event)}"
    game = games.games.get(event.game_id)
    if game is None:
        f.want(where, "opened", True, False)
        return
    f.want(where, "worker", game.worker, event.worker)
    f.want(where, "challenger", game.challenger, event.challenger)
    bond = game.bond if game.is_open else 0
    if event.outcome is Phase.WORKER_WON:
        shares = 0, bond // 2, bond - bond // 2
        phases = CHALLENGERS_TURN | {Phase.ANSWERED}
    else:
        shares = bond + (game.fee if game.phase is Phase.DEMAND else 0), 0, 0
        # By a missed deadline, by a proof, or since something lies where nothing is.
        phases = frozenset({Phase.TRACE, Phase.REVEAL, Phase.LEAF, Phase.DEMAND, Phase.PROOF, Phase.LOST})
    f.want(where, f"in a phase to be ended as {event.outcome.name}", True, game.phase in phases)
    for name, expected in zip(("to_challenger", "to_worker", "burned"), shares, strict=True):
        f.want(where, name, expected, getattr(event, name))
    f.want(where, "unfrozen", _let_go(f, game, event), event.unfrozen)
    f.hold(event, game.worker, game.claim_index, event.unfrozen)
    if game.is_open:
        games.open[game.worker] -= 1
    fee = game.fee if game.phase is Phase.DEMAND else 0
    game.phase = event.outcome
    games.places[game.worker].free.append(place_of(event.game_id)[1])
    bond_of, fee_of = bond_account(event.game_id), fee_account(event.game_id)
    f.pay(event, game.challenger, (bond_of, event.to_challenger - fee), (fee_of, fee))
    f.pay(event, game.worker, (bond_of, event.to_worker))
    f.pay(event, BURNED, (bond_of, event.burned))


def _let_go(f: Folding, game: GameState, event: on_chain.Ended) -> int:
    """What this end takes from what is frozen: all, where it was the last game that held it. A won game holds on."""
    if not game.holds or event.outcome is not Phase.WORKER_WON:
        return 0
    part = f.ledger.games.parts[game.part]
    part.holders -= 1
    if part.holders:
        return 0
    frozen, part.frozen = part.frozen, 0
    return frozen


def _moved(f: Folding, event: Any, before: Phase, after: Phase) -> GameState | None:
    """The game of a move that is made in phase `before`."""
    where = f"{game_name(event.game_id)}, {place(event)}"
    game = f.ledger.games.games.get(event.game_id)
    if game is None:
        f.want(where, "opened", True, False)
        return None
    f.want(where, "phase", before.name, game.phase.name)
    game.phase, game.moved_in = after, event.origin.block_number
    return game


# faults


def _proven(f: Folding, event: on_chain.Proven) -> None:
    games, key = f.ledger.games, FaultKey(event.worker, event.request_id)
    where = f"{key}, {place(event)}"
    f.want(where, "proven before", False, key in games.faults)
    games.faults_of[event.worker] += 1
    f.want(where, "number", games.faults_of[event.worker], event.number)
    games.faults.setdefault(key, FaultState(event.collectable_at))
    f.verdicts[key] = event


def _won(f: Folding, event: on_chain.Won) -> None:
    games, key = f.ledger.games, FaultKey(event.worker, event.request_id)
    where = f"{ShareKey(key, event.challenger)}, {place(event)}"
    fault = games.faults.get(key)
    if fault is None:
        f.want(where, "proven", True, False)
        return
    fault.winners += 1
    games.shares[ShareKey(key, event.challenger)] += 1
    if not event.game_id:
        return
    game = games.games.get(event.game_id)
    expected = (event.worker, event.request_id, event.challenger, Phase.CHALLENGER_WON.name)
    found = game and (game.worker, game.request_id, game.challenger, game.phase.name)
    f.want(where, f"won by {game_name(event.game_id)}", True, expected == found)
    if game is not None:
        f.want(where, f"counted {game_name(event.game_id)} before", False, game.is_counted)
        game.is_counted = True


def _divided(f: Folding, event: on_chain.Divided) -> None:
    rules, key = _rules(f), FaultKey(event.worker, event.request_id)
    where = f"{key}, {place(event)}"
    if f.verdicts.pop(key, None) is None:
        f.want(where, "proven just now", True, False)
    f.want(where, "amount", f.arrived(event), event.amount)
    f.want(where, "pot", event.amount * rules.challenger_share_bps // BPS, event.pot)
    pool = event.amount * rules.pool_share_bps // BPS if rules.reward_pool is not None else 0
    f.want(where, "pool", pool, event.pool)
    f.want(where, "burned", event.amount - event.pot - event.pool, event.burned)
    arrived = wallet(rules.address)
    f.post(event, arrived, pot_account(key), event.pot)
    f.pay(event, rules.reward_pool or BURNED, (arrived, event.pool))
    f.pay(event, BURNED, (arrived, event.burned))


def _collected(f: Folding, event: on_chain.Collected) -> None:
    games, key = f.ledger.games, FaultKey(event.worker, event.request_id)
    share = ShareKey(key, event.challenger)
    where = f"{share}, {place(event)}"
    fault, shares = games.faults.get(key), games.shares.pop(share, 0)
    if fault is None or not shares:
        f.want(where, "shares", "some", shares)
        return
    games.shares[share] = 0
    expected = f.ledger.balances[pot_account(key)] * shares // max(1, fault.winners)
    f.want(where, "amount", expected, event.amount)
    fault.winners -= shares
    f.pay(event, event.challenger, (pot_account(key), event.amount))


def _refunded(f: Folding, event: on_chain.Refunded) -> None:
    games = f.ledger.games
    key = PartKey(event.worker, event.claim_index, event.entry, event.receipt_digest)
    where = f"{key}, {place(event)}"
    f.want(where, "request proven wrong", True, FaultKey(event.worker, event.request_id) in games.faults)
    part = games.parts[key]
    f.want(where, "refunded before", False, part.refunded)
    f.want(where, "unfrozen", part.frozen, event.unfrozen)
    part.refunded, part.frozen = True, 0
    f.hold(event, event.worker, event.claim_index, event.unfrozen)
    f.forfeit(event, event.worker, event.claim_index, event.payer, -event.amount)


def _owed(f: Folding, event: on_chain.Owed) -> None:
    if not f.leave_unpaid(event):
        f.want(f"{Account('owed', event.account)}, {place(event)}", "amount", "what was to be sent", event.amount)


def _owed_paid(f: Folding, event: on_chain.OwedPaid) -> None:
    account = Account("owed", event.account)
    f.want(f"{account}, {place(event)}", "amount", f.ledger.balances[account], event.amount)
    f.post(event, account, wallet(event.account), event.amount)


def _rules(f: Folding) -> GameRules:
    assert f.rules.game is not None, "its events are read where there is one"
    return f.rules.game


GAME_HANDLERS: dict[type[Event], Callable[[Folding, Any], None]] = {
    on_chain.ForceDrawn: _force_drawn,
    on_chain.Demanded: _demanded,
    on_chain.Answered: _answered,
    on_chain.Opened: _opened,
    on_chain.TracePosted: _trace_posted,
    on_chain.SideChosen: _side_chosen,
    on_chain.Revealed: _revealed,
    on_chain.Picked: _picked,
    on_chain.LeafRevealed: _leaf_revealed,
    on_chain.Ended: _ended,
    on_chain.Proven: _proven,
    on_chain.Won: _won,
    on_chain.Divided: _divided,
    on_chain.Collected: _collected,
    on_chain.Refunded: _refunded,
    on_chain.Owed: _owed,
    on_chain.OwedPaid: _owed_paid,
}
