"""What can be wrong between events and contracts, one fault each, and how the audit has to name it."""

from __future__ import annotations

from efedllm.chain import events as e
from efedllm.chain import game_events as g
from tests.support.chain import WORK

from .game_faults import GAME_FAULTS
from .ledger_market import ANNOUNCED, COLD, DEPOSIT, NEW_HOT, PAYERS, SESSIONS, STRANGER
from .planting import Fault, World, alter, drop, read, repeat, swap, twice

WORKERS, PAYER, SESSION = [account.address for account in COLD], PAYERS[0].address, SESSIONS[0].address
CHANNEL = f"channel {PAYER} -> {WORKERS[0]} (key {SESSION})"


def channels_balance(world: World) -> None:
    read("WorkToken", "balanceOf", 0, -1, world.deployment.contracts.channels)(world)


def stakes_balance(world: World) -> None:
    read("WorkToken", "balanceOf", 0, -1, world.deployment.contracts.stake_registry)(world)


OF_CHANNEL = (PAYER, WORKERS[0], SESSION)
BALANCES = {
    "token balance of Channels": Fault(channels_balance, ("Channels 0x", "token balance is ")),
    "token balance of StakeRegistry": Fault(stakes_balance, ("StakeRegistry 0x", "token balance is ")),
    "deposit": Fault(
        read("Channels", "channelOf", 0, 7, *OF_CHANNEL, field=0),
        (CHANNEL, "deposit is 1500000007, should be 1500000000"),
    ),
    "claimed": Fault(read("Channels", "channelOf", 0, 7, *OF_CHANNEL, field=1), (CHANNEL, "claimed is ", "should be ")),
    "closing time": Fault(
        read("Channels", "channelOf", 0, 7, *OF_CHANNEL, field=2), (CHANNEL, "closing_at is 7, should be 0")
    ),
    "epoch": Fault(read("Channels", "channelOf", 0, 1, *OF_CHANNEL, field=3), (CHANNEL, "epoch is 1, should be 0")),
    "next claim": Fault(
        read("Channels", "accountOf", 0, 1, WORKERS[1]), (f"worker {WORKERS[1]}: next is 68, should be 67",)
    ),
    "pending": Fault(read("Channels", "accountOf", 1, 5, WORKERS[1]), (f"worker {WORKERS[1]}: pending is ",)),
    "earnings": Fault(read("Channels", "accountOf", 2, 5, WORKERS[0]), (f"worker {WORKERS[0]}: earnings is ",)),
    "earnings of a payer": Fault(
        read("Channels", "accountOf", 2, 5, PAYER), (f"worker {PAYER}: earnings is 5, should be 0",)
    ),
    "fees": Fault(read("Channels", "fees", 0, 5), ("protocol: fees is ",)),
    "pending claim": Fault(
        read("Channels", "claimOf", 0, 5, WORKERS[1], 1, field=0), (f"claim 1 of {WORKERS[1]}: amount is ",)
    ),
    "released claim": Fault(
        read("Channels", "claimOf", 0, 5, WORKERS[0], 0, field=0),
        (f"claim 0 of {WORKERS[0]}: amount is 5, should be 0",),
    ),
    "frozen claim": Fault(
        read("Channels", "claimOf", 0, -1, WORKERS[2], 1, field=3),
        (f"claim 1 of {WORKERS[2]}: frozen is ",),
    ),
    "commitment": Fault(
        read("Channels", "claimOf", 0, bytes(32), WORKERS[0], 1, field=4),
        (f"claim 1 of {WORKERS[0]}: commitment is 0x{bytes(32).hex()}",),
    ),
    "stake": Fault(
        read("StakeRegistry", "participantOf", 0, 5, WORKERS[0], field=0), (f"participant {WORKERS[0]}: stake is ",)
    ),
    "unbonding": Fault(
        read("StakeRegistry", "participantOf", 0, 5, WORKERS[2], field=1), (f"participant {WORKERS[2]}: unbonding is ",)
    ),
    "unbonding time": Fault(
        read("StakeRegistry", "participantOf", 0, 5, WORKERS[2], field=2),
        (f"participant {WORKERS[2]}: unbonding_since is ",),
    ),
    "jail": Fault(
        read("StakeRegistry", "participantOf", 0, False, WORKERS[2], field=3),
        (f"participant {WORKERS[2]}: jailed is False, should be True",),
    ),
    "role": Fault(
        read("StakeRegistry", "participantOf", 0, 1, WORKERS[2], field=4),
        (f"participant {WORKERS[2]}: role is 2, should be 1",),
    ),
    "hot key": Fault(
        read("StakeRegistry", "participantOf", 0, STRANGER.address, WORKERS[0], field=5),
        (f"participant {WORKERS[0]}: hot_key is {STRANGER.address}, should be 0x",),
    ),
    "service": Fault(
        read("StakeRegistry", "serviceOf", 0, 5, WORKERS[0], field=4),
        (f"service of {WORKERS[0]}: token_price is 12, should be 7",),
    ),
    "seed": Fault(read("Beacon", "seedAt", 0, bytes(32)), ("beacon of block ", "seed is 0x00")),
    "seed of a claim": Fault(read("Beacon", "seedFor", 1, bytes(32)), ("claim ", "seed of its draws is 0x00")),
}

MISSING = {
    "ModelRegistered": Fault(
        drop(e.ModelRegistered), (f"participant {WORKERS[0]}, ServiceUpdated", "registered is False, should be True")
    ),
    "Registered": Fault(drop(e.Registered, participant=WORKERS[1]), (f"participant {WORKERS[1]}", "role is ")),
    "Staked": Fault(
        drop(e.Staked, participant=WORKERS[1]), (f"participant {WORKERS[1]}: stake is {1000 * WORK}, should be 0",)
    ),
    "UnbondRequested": Fault(
        drop(e.UnbondRequested, participant=WORKERS[2]), (f"participant {WORKERS[2]}: unbonding", "should be ")
    ),
    "UnbondCancelled": Fault(
        drop(e.UnbondCancelled), (f"participant {WORKERS[0]}: unbonding is 0, should be {3 * WORK}",)
    ),
    "StakeWithdrawn": Fault(
        drop(e.StakeWithdrawn), ("transaction 0x", f"tokens that StakeRegistry sent is {4 * WORK}, should be 0")
    ),
    "HotKeyRotation": Fault(
        drop(e.HotKeyRotation, hot_key=NEW_HOT.address),
        (f"{WORKERS[0]}", "signature is ", f"by {NEW_HOT.address}, should be by a hot key of {WORKERS[0]}"),
        ("--records",),
    ),
    "latest HotKeyRotation": Fault(
        drop(e.HotKeyRotation, hot_key=ANNOUNCED.address),
        (f"participant {WORKERS[0]}: hot_key is {ANNOUNCED.address}",),
    ),
    "ServiceUpdated": Fault(drop(e.ServiceUpdated, worker=WORKERS[0]), (f"service of {WORKERS[0]}: endpoint is http",)),
    "ServiceEnded": Fault(drop(e.ServiceEnded), (f"service of {WORKERS[2]}: endpoint is , should be http",)),
    "Slashed": Fault(drop(e.Slashed), (f"participant {WORKERS[2]}: stake is 0, should be ",)),
    "Jailed": Fault(drop(e.Jailed), (f"participant {WORKERS[2]}: jailed is True, should be False",)),
    "ChannelFunded": Fault(
        drop(e.ChannelFunded, payer=PAYER, amount=DEPOSIT // 2),
        (CHANNEL, "deposit is 1500000000, should be 1000000000"),
    ),
    "first ChannelFunded": Fault(
        drop(e.ChannelFunded, payer=PAYER, worker=WORKERS[0]),
        (CHANNEL, "ChannelFunded in block", "deposit is 1500000000, should be 500000000"),
    ),
    "CloseRequested": Fault(
        drop(e.CloseRequested, payer=PAYERS[2].address),
        (f"channel {PAYERS[2].address}", "ChannelClosed in block", "close requested is False, should be True"),
    ),
    "latest CloseRequested": Fault(
        drop(e.CloseRequested, payer=PAYERS[1].address),
        (f"channel {PAYERS[1].address}", "closing_at is ", "should be 0"),
    ),
    "ChannelClosed": Fault(drop(e.ChannelClosed), (f"channel {PAYERS[2].address}", "epoch is 1, should be 0")),
    "Claimed": Fault(
        drop(e.Claimed, worker=WORKERS[0], claim_index=0),
        (f"claim 1 of {WORKERS[0]}, Claimed in block", CHANNEL, "from is ", "should be 0"),
    ),
    "Released": Fault(
        drop(e.Released, worker=WORKERS[0], claim_index=1), (f"claim 1 of {WORKERS[0]}: amount is 0, should be ",)
    ),
    "EarningsWithdrawn": Fault(drop(e.EarningsWithdrawn), (f"worker {WORKERS[0]}: earnings is 0, should be ",)),
    "FeesWithdrawn": Fault(drop(e.FeesWithdrawn), ("transaction 0x", "tokens that Channels sent is ", "should be 0")),
    "Frozen": Fault(
        drop(e.Frozen, claim_index=0), (f"claim 0 of {WORKERS[2]}, Unfrozen in block", "amount is ", "at most 0")
    ),
    "Unfrozen": Fault(drop(e.Unfrozen, claim_index=2), (f"claim 2 of {WORKERS[2]}: frozen is 0, should be ",)),
    "Forfeited": Fault(drop(e.Forfeited), (f"claim 0 of {WORKERS[2]}: amount is ",)),
    "BeaconRecorded": Fault(drop(e.BeaconRecorded), ("claim ", "seed of its draws is 0x", "should be None")),
    "Transfer": Fault(
        drop(e.Transfer, source=PAYER), ("transaction 0x", "tokens that Channels took is 0, should be 3000000000")
    ),
}

UNSEEN = {g.Owed, g.OwedPaid}
"""Payments that the token refuses: ours refuses none. Made-up histories have them (test_audit_ledger.py)."""
REPEATED = [
    kind
    for kinds in e.KINDS.values()
    for kind in kinds
    if kind not in (e.Jailed, e.HotKeyRotation, e.ServiceUpdated, e.ServiceEnded, e.Forfeited, e.Transfer)
    and kind not in UNSEEN
]
"""Those that cannot happen twice without a trace; the others may be sent again and change nothing."""

ALTERED = {
    "funded less": Fault(
        alter(e.ChannelFunded, {"amount": -1}, payer=PAYER),
        (f"channel {PAYER}", "ChannelFunded in block", "deposit is 1000000000, should be 999999999"),
    ),
    "refunded more": Fault(
        alter(e.ChannelClosed, {"refund": 1}),
        (f"channel {PAYERS[2].address}", "ChannelClosed in block", "refund is ", "should be "),
    ),
    "claimed more": Fault(
        alter(e.Claimed, {"amount": 1}, worker=WORKERS[1], claim_index=1),
        (f"claim 1 of {WORKERS[1]}, Claimed in block", "amount is "),
    ),
    "other commitment": Fault(
        alter(e.Claimed, {"commitment": bytes(32)}, worker=WORKERS[1], claim_index=1),
        (f"claim 1 of {WORKERS[1]}, Claimed in block", "commitment is 0x0000"),
    ),
    "cut entries": Fault(
        alter(e.Claimed, {"entries": bytes(75)}, worker=WORKERS[1], claim_index=1),
        (f"claim 1 of {WORKERS[1]}, Claimed in block", "entries is a claim entry has 76 bytes, not 75"),
    ),
    "claim of a slot in use": Fault(
        alter(e.Claimed, {"claim_index": -1}, worker=WORKERS[1], claim_index=66),
        (f"claim 65 of {WORKERS[1]}, Claimed in block", "ring slot 1 is in use by claim 1, should be free"),
    ),
    "claim number left out": Fault(
        alter(e.Claimed, {"claim_index": 1}, worker=WORKERS[1], claim_index=64),
        (f"claim 65 of {WORKERS[1]}, Claimed in block", "ring slot 1 is in use by claim 1"),
    ),
    "no fee at release": Fault(
        alter(e.Released, {"fee": lambda fee: 0}, worker=WORKERS[0], claim_index=0),
        (f"claim 0 of {WORKERS[0]}, Released in block", "fee is 0, should be "),
    ),
    "too much fee at release": Fault(
        alter(e.Released, {"fee": 1}, worker=WORKERS[0], claim_index=0),
        (f"claim 0 of {WORKERS[0]}, Released in block", "fee is ", "should be "),
    ),
    "released more than claimed": Fault(
        alter(e.Released, {"amount": 1}, worker=WORKERS[0], claim_index=0),
        (f"claim 0 of {WORKERS[0]}, Released in block", "amount is ", "should be "),
    ),
    "forfeited more than claimed": Fault(
        alter(e.Forfeited, {"amount": 10**12}),
        (f"claim 0 of {WORKERS[2]}, Forfeited in block", "amount is 10000", "should be at most "),
    ),
    "withdrawn more than earned": Fault(
        alter(e.EarningsWithdrawn, {"amount": 1}),
        (f"earnings of {WORKERS[0]}, EarningsWithdrawn in block", "amount is "),
    ),
    "fees withdrawn less": Fault(
        alter(e.FeesWithdrawn, {"amount": -1}), ("fees, FeesWithdrawn in block", "amount is ")
    ),
    "slashed more": Fault(
        alter(e.Slashed, {"taken": 1}),
        (f"stake of {WORKERS[2]}, Slashed in block", f"taken is {400 * WORK + 1}, should be {400 * WORK}"),
    ),
    "unbonded more": Fault(
        alter(e.UnbondRequested, {"amount": 1}, participant=WORKERS[2]),
        (f"unbonding of {WORKERS[2]}, UnbondRequested in block", "unbonding is "),
    ),
    "other seed": Fault(
        alter(e.BeaconRecorded, {"seed": bytes(32)}),
        ("beacon of block ", "seed is 0x", f"should be 0x{bytes(32).hex()}"),
    ),
    "other model id": Fault(
        alter(e.ModelRegistered, {"model_id": bytes(32)}),
        (f"model 0x{bytes(32).hex()}, ModelRegistered in block", "id is 0x00"),
    ),
    "other session key": Fault(
        alter(e.ChannelFunded, {"session_key": STRANGER.address}, payer=PAYER, amount=DEPOSIT // 2),
        (f"channel {PAYER} -> {WORKERS[0]} (key {STRANGER.address})", "deposit is 1500000000, should be 500000000"),
    ),
    "transfer to a stranger": Fault(
        alter(e.Transfer, {"target": STRANGER.address}, source=PAYER),
        ("transaction 0x", "tokens that Channels took is 0, should be "),
    ),
    "claim before its deposit": Fault(
        swap(
            e.ChannelFunded,
            {"payer": PAYERS[2].address, "epoch": 1},
            e.Claimed,
            {"worker": WORKERS[0], "claim_index": 2},
        ),
        (f"claim 2 of {WORKERS[0]}, Claimed in block", f"channel {PAYERS[2].address}", "to is ", "should be at most 0"),
    ),
    "release before its claim": Fault(
        swap(e.Claimed, {"worker": WORKERS[0], "claim_index": 1}, e.Released, {"worker": WORKERS[0], "claim_index": 1}),
        (f"claim 1 of {WORKERS[0]}, Released in block", "amount is ", "should be 0"),
    ),
    "claims out of order": Fault(
        swap(e.Claimed, {"worker": WORKERS[0], "claim_index": 0}, e.Claimed, {"worker": WORKERS[0], "claim_index": 1}),
        (f"claim 1 of {WORKERS[0]}, Claimed in block", CHANNEL, "from is ", "should be 0"),
    ),
}

LEDGER_FAULTS = {
    **{f"wrong {name}": fault for name, fault in BALANCES.items()},
    **{f"missing {name}": fault for name, fault in MISSING.items()},
    **{f"repeated {kind.__name__}": Fault(repeat(kind), ("in block",)) for kind in REPEATED},
    "repeated Forfeited": Fault(repeat(e.Forfeited), (f"claim 0 of {WORKERS[2]}: amount is ", "should be ")),
    "repeated Transfer": Fault(repeat(e.Transfer, source=PAYER), ("token balance is ", "should be ")),
    **{
        f"{kind.__name__} told twice": Fault(
            twice(kind), (f"{kind.__name__} in block", "place is there or before, should be behind block")
        )
        for kinds in e.KINDS.values()
        for kind in kinds
        if kind is not e.Transfer and (kind is g.Opened or kind not in g.GAME_EVENTS)
    },
    **ALTERED,
    **{f"game: {name}": fault for name, fault in GAME_FAULTS.items()},
}
