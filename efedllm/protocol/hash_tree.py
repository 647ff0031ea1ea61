"""A padded tree whose every node can be asked for: what a dispute is led down."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from efedllm.protocol.merkle import EMPTY, HASH_BYTES, depth_of, leaf_hash, node_hash
from efedllm.protocol.trace import Node


@dataclass(frozen=True)
class Opening:
    """Data of a leaf or of a whole row, and the siblings of its hash from the bottom up to the root."""

    data: bytes
    siblings: tuple[bytes, ...]


class HashTree:
    """The tree over some words; behind the last of them, up to `2**depth`, stands `padding`."""

    def __init__(self, words: Sequence[bytes], depth: int | None = None, padding: bytes = EMPTY) -> None:
        self.depth = depth_of(len(words)) if depth is None else depth
        if len(words) > 1 << self.depth:
            raise IndexError(f"{len(words)} words do not fit a tree of depth {self.depth}")
        self._levels: list[tuple[list[bytes], bytes]] = [(list(words), padding)]  # from the bottom, with their padding
        for _ in range(self.depth):
            level, padding = self._levels[-1]
            padded = [*level, padding] if len(level) % 2 else level
            above = [node_hash(padded[at], padded[at + 1]) for at in range(0, len(padded), 2)]
            self._levels.append((above, node_hash(padding, padding)))

    @property
    def root(self) -> bytes:
        return self.node(Node(0, 0))

    def node(self, node: Node) -> bytes:
        """Raises IndexError outside the tree."""
        if not (0 <= node.depth <= self.depth and 0 <= node.path < 1 << node.depth):
            raise IndexError(f"a tree of depth {self.depth} has no node {node.path} at depth {node.depth}")
        level, padding = self._levels[self.depth - node.depth]
        return level[node.path] if node.path < len(level) else padding


def children(read: Callable[[Node], bytes], node: Node, levels: int) -> list[bytes]:
    """The `2**levels` nodes that lie so many levels below a node, from left to right."""
    first = node.path << levels
    return [read(Node(node.depth + levels, first + at)) for at in range(1 << levels)]


def siblings(read: Callable[[Node], bytes], node: Node, top: int = 0) -> tuple[bytes, ...]:
    """Siblings of a node and of those above it, from the bottom up to depth `top`."""
    return tuple(read(Node(depth, (node.path >> (node.depth - depth)) ^ 1)) for depth in range(node.depth, top, -1))


def root_above(word: bytes, path: int, above: Sequence[bytes]) -> bytes:
    """The root that a node and its siblings lead to. Raises ValueError for a sibling that is no hash."""
    for sibling in above:
        if len(sibling) != HASH_BYTES:
            raise ValueError(f"a sibling has {len(sibling)} bytes")
        word = node_hash(sibling, word) if path & 1 else node_hash(word, sibling)
        path >>= 1
    return word


def leaf_hashes(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    """Hashes of the leaves that a row of these bytes is cut into."""
    hashes, at = [], 0
    for length in lengths:
        hashes.append(leaf_hash(data[at : at + length]))
        at += length
    return hashes
