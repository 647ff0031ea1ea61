"""What people and programs are told of games: an event each, with its transaction and the gas that it used."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from efedllm.chain.game_events import Collected, Demanded, Divided, Ended, Opened, Refunded, Won
from efedllm.chain.origin import Event
from efedllm.protocol.game import Phase


@dataclass(frozen=True)
class Told:
    """`amounts`: base units, by what they are."""

    name: str
    worker: str
    text: str
    request_id: bytes
    amounts: Mapping[str, int]
    game_id: int | None = None

    def with_gas(self, event: Event, gas: int) -> tuple[str, dict[str, object]]:
        """A line for people, and a map whose amounts are decimal strings."""
        transaction = "0x" + event.origin.transaction_hash.hex()
        found: dict[str, object] = {
            "event": self.name,
            "worker": self.worker,
            "request": "0x" + self.request_id.hex(),
            **{name: str(amount) for name, amount in self.amounts.items()},
        }
        if self.game_id is not None:
            found["game"] = str(self.game_id)
        found |= {"transaction": transaction, "gas": gas, "block": event.origin.block_number}
        return f"{self.text} (transaction {transaction}, {gas} gas)", found


def describe(
    event: Event, games: Mapping[int, Opened | Demanded], known: Set[tuple[str, bytes]], own: str
) -> Told | None:
    """None for what is not worth telling. games: those of `own`, by id. known: the workers' requests that are disputed
    here."""
    match event:
        case Opened():
            text = f"opened a game against worker {event.worker} with a bond of {event.bond}"
            return Told("opened", event.worker, text, event.request_id, {"bond": event.bond}, event.game_id)
        case Demanded():
            text = f"demanded the tokens of worker {event.worker} with a bond of {event.bond}"
            amounts = {"bond": event.bond, "fee": event.fee}
            return Told("demanded", event.worker, text, event.request_id, amounts, event.game_id)
        case Ended() if event.outcome is Phase.WORKER_WON and isinstance(games.get(event.game_id), Opened):
            request_id = games[event.game_id].request_id
            text = f"LOST the game against worker {event.worker}: {event.to_worker + event.burned} of the bond are gone"
            amounts = {"to_worker": event.to_worker, "burned": event.burned}
            return Told("lost", event.worker, text, request_id, amounts, event.game_id)
        case Won() if event.challenger == own:
            text = f"proved the fault of worker {event.worker}"
            return Told("won", event.worker, text, event.request_id, {}, event.game_id or None)
    if (getattr(event, "worker", ""), getattr(event, "request_id", b"")) not in known:
        return None
    match event:
        case Divided():
            text = f"worker {event.worker} is slashed by {event.amount}: {event.pot} to who proved it"
            amounts = {"amount": event.amount, "pot": event.pot, "pool": event.pool, "burned": event.burned}
            return Told("slashed", event.worker, text, event.request_id, amounts)
        case Refunded():
            text = f"{event.amount} go back to client {event.payer}"
            return Told("refunded", event.worker, text, event.request_id, {"amount": event.amount})
        case Collected() if event.challenger == own:
            text = f"collected {event.amount}"
            return Told("collected", event.worker, text, event.request_id, {"amount": event.amount})
    return None
