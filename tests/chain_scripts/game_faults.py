"""What can be wrong with disputes: events of the game, what it says, and what other contracts say beside it."""

from __future__ import annotations

from chain_scripts.ledger.games import game_id_of, game_name
from efedllm.chain import events as e
from efedllm.chain import game_events as g
from efedllm.protocol.game import Phase, Side
from tests.support.chain import WORK

from .ledger_market import COLD, PAYERS, STRANGER
from .planting import Fault, World, alter, drop, read

W2, OTHER_WORKER, PAYER = COLD[2].address, COLD[0].address, PAYERS[0].address
# In the order in which the court begins them; the last one lies where the first one was.
ASKED, LEFT, WON, SILENT, OPEN = (game_id_of(W2, 1, at) for at in range(1, 6))
ASKED_AGAIN = game_id_of(W2, 2, 1)
FAULT, PART = f"fault of {W2} in request 0x", f"of {W2} for receipt 0x"


def game_balance(world: World) -> None:
    read("WorkToken", "balanceOf", 0, -1, world.deployment.contracts.dispute_game)(world)


GAME_FAULTS = {
    "wrong token balance of the game": Fault(game_balance, ("DisputeGame 0x", "token balance is ")),
    **{
        f"wrong {name} of a game": Fault(
            read("DisputeGame", "gameOf", 0, by, OPEN, field=at), (game_name(OPEN), f"{name} is ")
        )
        for name, at, by in (("challenger", 1, STRANGER.address), ("phase", 3, 1), ("bond", 6, 1))
    },
    "wrong chunk of a demand": Fault(
        read("DisputeGame", "gameOf", 0, 1, ASKED_AGAIN, field=15), (game_name(ASKED_AGAIN), "chunk is 1, should be 0")
    ),
    "wrong open games": Fault(
        read("DisputeGame", "recordOf", 0, 1, W2), (f"worker {W2}: open games is 3, should be 2",)
    ),
    "wrong faults": Fault(read("DisputeGame", "recordOf", 1, -1, W2), (f"worker {W2}: faults is 1, should be 2",)),
    "games of a stranger": Fault(
        read("DisputeGame", "recordOf", 0, 1, OTHER_WORKER), (f"worker {OTHER_WORKER}: open games is 1, should be 0",)
    ),
    **{
        f"wrong {name} of a fault": Fault(read("DisputeGame", "faultOf", 0, 1, W2, field=at), (FAULT, f"{name} is "))
        for at, name in enumerate(("proven_at", "collectable_at", "winners", "pot"))
    },
    "wrong shares": Fault(read("DisputeGame", "sharesOf", 0, 1, W2), (FAULT, "shares is ")),
    "wrong holders": Fault(read("DisputeGame", "partOf", 0, 1, W2, 1), (PART, "holders is 3, should be 2")),
    "wrong part": Fault(read("DisputeGame", "partOf", 1, 1, W2, 1), (PART, "frozen is ")),
    "wrong refund": Fault(read("DisputeGame", "partOf", 2, False, W2, 0), (PART, "refunded is False, should be True")),
    "wrong end of a forced draw": Fault(
        read("DisputeGame", "forcedUntil", 0, 1), ("receipt 0x", "force-drawn until is ")
    ),
    "wrong debt": Fault(read("DisputeGame", "owed", 0, 1, W2), (f"owed of {W2}: amount is 1, should be 0",)),
    **{
        f"missing {kind.__name__}": Fault(drop(kind, **values), named)
        for kind, values, named in (
            (g.ForceDrawn, {}, ("transaction 0x", "tokens that DisputeGame sent is ")),
            (g.Demanded, {"game_id": ASKED}, (game_name(ASKED), "Answered in block", "opened is False")),
            (g.Answered, {}, (game_name(ASKED), "Ended in block", "to be ended as WORKER_WON is False")),
            (g.Opened, {"game_id": LEFT}, (game_name(LEFT), "TracePosted in block", "opened is False")),
            (g.TracePosted, {"game_id": LEFT}, (game_name(LEFT), "Ended in block", "ended as WORKER_WON is False")),
            (g.SideChosen, {"game_id": OPEN}, (game_name(OPEN), "phase is 3, should be 2")),
            (g.Revealed, {}, (game_name(WON), "Picked in block", "phase is REVEAL, should be PICK")),
            (g.Picked, {}, (game_name(WON), "LeafRevealed in block", "phase is PICK, should be LEAF")),
            (g.LeafRevealed, {}, (game_name(WON), "deadline is ")),
            (g.Ended, {"game_id": LEFT}, (f"claim 2 of {W2}", "frozen more than the game says is -")),
            (g.Proven, {}, (f"stake of {W2}, Slashed in block", "a fault that was proven just now is False")),
            (g.Won, {"game_id": SILENT}, (FAULT, "winners is ")),
            (g.Divided, {}, (FAULT, "slashed for is False, should be True")),
            (g.Collected, {}, (FAULT, "shares is 0, should be 1")),
            (g.Refunded, {}, (f"claim 0 of {W2}", f"forfeited to {PAYER} more than the game refunded is ")),
        )
    },
    **{
        f"altered {name}": Fault(alter(kind, changes, **values), named)
        for name, kind, changes, values, named in (
            ("bond", g.Opened, {"bond": 1}, {"game_id": WON}, (game_name(WON), "Opened in block", "bond is ")),
            ("challenger", g.Opened, {"challenger": STRANGER.address}, {"game_id": SILENT},
                (game_name(SILENT), "Ended in block", f"should be {STRANGER.address}")),
            ("frozen part", g.Opened, {"frozen": -1}, {"game_id": WON},
                (f"claim 0 of {W2}", "frozen more than the game says is 1")),
            ("second holder", g.Opened, {"frozen": 1}, {"game_id": SILENT},
                (game_name(SILENT), "frozen besides what another game holds is 1, should be 0")),
            ("place", g.Opened, {"game_id": 1}, {"game_id": OPEN}, ("id is game 0x", f"should be {game_name(OPEN)}")),
            ("side", g.SideChosen, {"side": lambda side: Side.OUTPUT}, {"game_id": OPEN},
                (game_name(OPEN), "side is 1, should be 3")),
            ("bond that came back", g.Ended, {"to_challenger": 1}, {"game_id": WON},
                (game_name(WON), "to_challenger is ")),
            ("half of a lost bond", g.Ended, {"to_worker": 1}, {"game_id": LEFT}, (game_name(LEFT), "to_worker is ")),
            ("burned bond", g.Ended, {"burned": -1}, {"game_id": LEFT}, (game_name(LEFT), "burned is ")),
            ("outcome", g.Ended, {"outcome": lambda outcome: Phase.CHALLENGER_WON}, {"game_id": LEFT},
                (game_name(LEFT), "ended as CHALLENGER_WON is False")),
            ("fee of an answer", g.Answered, {"fee": -1}, {}, (game_name(ASKED), "Answered in block", "fee is ")),
            ("fee of a forced draw", g.ForceDrawn, {"fee": 1}, {}, ("receipt 0x", "ForceDrawn in block", "fee is ")),
            ("number of a fault", g.Proven, {"number": 1}, {}, (FAULT, "Proven in block", "number is 2, should be 1")),
            ("pot", g.Divided, {"pot": 1}, {}, (FAULT, "Divided in block", "pot is ")),
            ("pool", g.Divided, {"pool": 1}, {}, (FAULT, "Divided in block", "pool is 1, should be 0")),
            ("burned slash", g.Divided, {"burned": -1}, {}, (FAULT, "Divided in block", "burned is ")),
            ("divided amount", g.Divided, {"amount": -1}, {},
                (FAULT, f"amount is {400 * WORK - 1}, should be {400 * WORK}")),
            ("first slash", e.Slashed, {"requested": 1}, {},
                (f"stake of {W2}, Slashed in block", f"requested is {400 * WORK + 1}, should be {400 * WORK}")),
            ("receiver of a slash", e.Slashed, {"to": STRANGER.address}, {},
                (f"stake of {W2}, Slashed in block", f"to is {STRANGER.address}, should be 0x")),
            ("winner", g.Won, {"challenger": STRANGER.address}, {"game_id": WON},
                (f"shares of {STRANGER.address} in the {FAULT}", "won by game 0x", "is False")),
            ("collected share", g.Collected, {"amount": 1}, {}, (FAULT, "Collected in block", "amount is ")),
            ("refund", g.Refunded, {"amount": -1}, {},
                (f"claim 0 of {W2}", f"forfeited to {PAYER} more than the game refunded is 1, should be 0")),
            ("thawed refund", g.Refunded, {"unfrozen": -1}, {}, (PART, "Refunded in block", "unfrozen is ")),
        )
    },
}  # fmt: skip
