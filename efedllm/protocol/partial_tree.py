"""Another party's tree, as far as it was revealed; what was not is as in one's own.

A descent goes to the first difference: left of it both trees are equal, and the nodes beside the path were revealed on
the way. So the proof of anything left of it, against the other's root, takes revealed hashes where there are some and
one's own elsewhere.
"""

from collections.abc import Callable, Sequence

from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.hash_tree import siblings
from efedllm.protocol.merkle import HASH_BYTES, node_hash
from efedllm.protocol.trace import Node


class PartialTree:
    """own: reads a node of the tree that is as this one wherever nothing was revealed."""

    def __init__(self, root: bytes, own: Callable[[Node], bytes]) -> None:
        self._own = own
        self._revealed = {Node(0, 0): root}

    def reveal(self, node: Node, children: Sequence[bytes]) -> None:
        """The `2**n` nodes that lie n levels below a revealed node. Raises ProtocolError if they do not hash to it."""
        levels = len(children).bit_length() - 1
        if not children or len(children) != 1 << levels or any(len(child) != HASH_BYTES for child in children):
            raise ProtocolError(f"{len(children)} revealed nodes: expected 2, 4, 8 or 16 hashes")
        if node not in self._revealed:
            raise ProtocolError(f"node {node.path} at depth {node.depth} has not been revealed itself")
        found: dict[Node, bytes] = {}
        level = list(children)
        for below in range(levels, -1, -1):
            first = node.path << below
            found |= {Node(node.depth + below, first + at): value for at, value in enumerate(level)}
            level = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        if found[node] != self._revealed[node]:
            raise ProtocolError(f"the revealed nodes are not below node {node.path} at depth {node.depth}")
        self._revealed |= found

    def node(self, node: Node) -> bytes:
        """As revealed, else one's own."""
        return self._revealed[node] if node in self._revealed else self._own(node)

    def siblings(self, node: Node) -> tuple[bytes, ...]:
        """Of a node and of those above it, from the bottom up to the root."""
        return siblings(self.node, node)

    def first_difference(self, node: Node, levels: int) -> Node | None:
        """The first of the revealed nodes so many levels below a node that differs from one's own."""
        first = node.path << levels
        below = (Node(node.depth + levels, first + at) for at in range(1 << levels))
        return next((one for one in below if self.node(one) != self._own(one)), None)
