"""What the chain told of one game, put together again: what a player needs comes from events, never from memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from efedllm.chain.game_events import Answered, Demanded, LeafRevealed, Picked, Revealed, SideChosen
from efedllm.chain.origin import Event
from efedllm.protocol.descent import Descent, Spot, TreeSource
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.frames import unpack_tokens
from efedllm.protocol.partial_tree import PartialTree


@dataclass(frozen=True)
class Round:
    """Children that the worker revealed below a spot."""

    spot: Spot
    children: tuple[bytes, ...]


@dataclass(frozen=True)
class History:
    """`root`: of the side that was chosen; empty before. `tokens`: of the answer to a demand."""

    root: bytes = b""
    rounds: tuple[Round, ...] = ()
    leaf: bytes | None = None
    tokens: bytes | None = None

    def revealed_at(self, spot: Spot) -> tuple[bytes, ...]:
        """The children that were revealed below a spot. Raises ProtocolError if none were."""
        for one in reversed(self.rounds):
            if one.spot == spot:
                return one.children
        raise ProtocolError("the node that the game stands at has not been revealed as far as is known")

    def partial(self, descent: Descent, own: TreeSource) -> PartialTree:
        """The worker's tree, as far as it was revealed. Raises ProtocolError for what does not hash together."""
        tree = PartialTree(self.root, own.node)
        for one in self.rounds:
            tree.reveal(descent.node(one.spot), one.children)
        return tree


def fold(descent: Descent, events: Sequence[Event]) -> History:
    """events: all of one game, in order."""
    root, spot, rounds, leaf, tokens = b"", None, [], None, None
    for event in events:
        match event:
            case SideChosen():
                root, spot = event.node, descent.root(event.side)
            case Revealed() if spot is not None:
                rounds.append(Round(spot, event.children))
            case Picked() if spot is not None:
                spot = Spot(spot.side, event.height, event.path, event.in_row)
            case LeafRevealed():
                leaf = event.leaf
            case Answered():
                tokens = event.tokens
    return History(root, tuple(rounds), leaf, tokens)


def published_tokens(events: Sequence[Event], receipt_digest: bytes) -> list[int]:
    """Token ids of a receipt that answers to demands brought on the chain, from the first on without a gap."""
    chunks: dict[int, bytes] = {}
    numbers: dict[int, int] = {}
    for event in events:
        if isinstance(event, Demanded) and event.receipt_digest == receipt_digest:
            numbers[event.game_id] = event.chunk
        elif isinstance(event, Answered) and event.game_id in numbers:
            chunks[numbers[event.game_id]] = event.tokens
    tokens: list[int] = []
    for number in range(len(chunks)):
        if number not in chunks:
            break
        tokens += unpack_tokens(chunks[number])
    return tokens
