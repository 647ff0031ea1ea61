"""A dispute as people are told it: what every transaction to the game said, who sent it, and the gas that it used."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from efedllm.chain.chain import Chain
from efedllm.chain.game_events import (
    Collected,
    Divided,
    Ended,
    LeafRevealed,
    Opened,
    Picked,
    Proven,
    Refunded,
    Revealed,
    SideChosen,
    TracePosted,
)
from efedllm.chain.local import rpc
from efedllm.chain.origin import Event
from efedllm.protocol.descent import Descent, Spot
from efedllm.protocol.game import Phase, Side
from efedllm.protocol.trace_tensors import Entry, Exit, Layer, Program

Show = Callable[[int], str]
"""An amount for people."""


@dataclass(frozen=True)
class Told:
    """One transaction. sender: a name. texts: what it did, and what follows from that."""

    sender: str
    texts: tuple[str, ...]
    transaction: bytes
    gas: int
    events: tuple[Event, ...]


async def story(chain: Chain, descent: Descent, show: Show, names: Mapping[str, str]) -> AsyncIterator[Told]:
    """Every transaction to the game of a local chain, also those that are yet to come, without end.

    descent: that of the receipt which games are about. names: by address. Raises ChainError.
    """
    known = {address.lower(): name for address, name in names.items()}
    async for page in chain.events("DisputeGame").follow(poll_seconds=0.3):
        for digest, events in groupby(page.events, lambda event: event.origin.transaction_hash):
            found = tuple(events)
            mined = await chain.rpc.receipt(digest)
            sender = str(rpc(chain.rpc.url, "eth_getTransactionByHash", "0x" + digest.hex())["from"]).lower()
            assert mined is not None, "its events are in the chain"
            texts = tell(found, descent, show)
            yield Told(known.get(sender, sender[:8]), texts, digest, mined.gas_used, found)


def tell(events: Sequence[Event], descent: Descent, show: Show) -> tuple[str, ...]:
    """What the events of one transaction come to, a verdict before its consequences."""
    ordered = sorted(events, key=lambda event: (not isinstance(event, Proven), isinstance(event, Ended)))
    return tuple(text for event in ordered if (text := _tell(event, descent, show)))


def _tell(event: Event, descent: Descent, show: Show) -> str:
    match event:
        case Opened():
            return f"opens a game: bond {show(event.bond)}, {show(event.frozen)} of the claim frozen"
        case TracePosted():
            return "posts the root of its trace"
        case SideChosen():
            return f"goes down the {event.side.name.lower()} tree, {event.height} levels"
        case Revealed():
            return f"reveals the {len(event.children)} nodes below"
        case Picked():
            return f"picks number {event.digit}, the first that differs" + _where(event, descent)
        case LeafRevealed():
            return f"reveals the leaf: {len(event.leaf):,} bytes"
        case Proven():
            return "proves it: the chain computes this element, and gets another"
        case Divided():
            others = f"{show(event.pool)} to the reward pool, " if event.pool else ""
            return f"{show(event.amount)} slashed: {show(event.pot)} for the proof, {others}{show(event.burned)} burned"
        case Ended() if event.outcome is Phase.WORKER_WON:
            return f"the worker has won, and gets {show(event.to_worker)} of the bond"
        case Ended():
            return f"the worker has lost; {show(event.to_challenger)} of bond go back"
        case Refunded():
            return f"has {show(event.amount)} given back to the client"
        case Collected():
            return f"collects {show(event.amount)}"
    return ""


def _where(event: Picked, descent: Descent) -> str:
    """Names what a descent has come to: a row of the body when it enters it, at last the leaf."""
    spot = Spot(Side.BODY, event.height, event.path, event.in_row)
    if not event.in_row or (row := descent.shape.find_row(descent.word(spot))) is None:
        return ""
    if event.phase is Phase.LEAF:
        return f": leaf {descent.leaf_number(spot)} of {name_of_row(descent, *row)}"
    return f": {name_of_row(descent, *row)}" if event.height == descent.enter(spot).height else ""


def name_of_row(descent: Descent, segment: int, tensor: int, position: int) -> str:
    """For people: "layer 4, linear down, position 17"."""
    shape = descent.shape
    match shape.program(segment):
        case Program.ENTRY:
            place, name = "the entry", Entry(tensor).name
        case Program.LAYER:
            place, name = f"layer {shape.layer(segment)}", Layer(tensor).name
        case Program.EXIT:
            place, name = "the exit", Exit(tensor).name
    return f"{name.lower().replace('_', ' ')}, {place}, position {position}"
