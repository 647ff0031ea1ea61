"""What a receipt's `inputRoot` and `outputRoot` commit to, with every node that a dispute asks for."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from efedllm.protocol.hash_tree import HashTree, Opening, siblings
from efedllm.protocol.merkle import LEAF_BYTES, leaf_hash, row_root, token_leaf
from efedllm.protocol.trace import Node


class CommittedTokens:
    """Token ids: the input of a first shard, the output of a last one."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tuple(tokens)
        self._tree = HashTree([token_leaf(token) for token in self.tokens])
        self.root, self.depth, self.node = self._tree.root, self._tree.depth, self._tree.node

    def leaf(self, node: Node) -> bytes:
        """The four bytes of the token id that a node is the leaf of. Raises IndexError for a node that is none."""
        if node.depth != self.depth or not 0 <= node.path < len(self.tokens):
            raise IndexError(f"node {node.path} at depth {node.depth} is no token")
        return self.tokens[node.path].to_bytes(4, "little")

    def open_token(self, position: int) -> Opening:
        """The four bytes of a token id."""
        data = self.leaf(Node(self.depth, position))
        return Opening(data, siblings(self.node, Node(self.depth, position)))


class CommittedRows:
    """Residual rows (int32 `[hidden]`, little-endian bytes): what lies between two shards.

    read: gives the bytes of the row of a position, whenever they are needed. Below a row's root lie its leaves.
    """

    def __init__(self, count: int, read: Callable[[int], bytes], roots: Sequence[bytes] | None = None) -> None:
        self.read = read
        self._tree = HashTree([row_root(read(at)) for at in range(count)] if roots is None else roots)
        self.count, self.root, self.depth = count, self._tree.root, self._tree.depth
        self._row_tree = lru_cache(16)(self._make_row_tree)

    def node(self, node: Node) -> bytes:
        """A node above rows, or with more depth, in a row. Raises IndexError where there is none."""
        if node.depth <= self.depth:
            return self._tree.node(node)
        below = node.depth - self.depth
        position = node.path >> below
        if position >= self.count:
            raise IndexError(f"there is no row {position}")
        return self._row_tree(position).node(Node(below, node.path & ((1 << below) - 1)))

    def leaf(self, node: Node) -> bytes:
        """Bytes of the leaf of a row that a node is. Raises IndexError for a node that is none."""
        below = node.depth - self.depth
        position, at = node.path >> max(0, below), node.path & ((1 << max(0, below)) - 1)
        if below < 0 or position >= self.count or below != self._row_tree(position).depth:
            raise IndexError(f"node {node.path} at depth {node.depth} is no leaf")
        data = self.read(position)[at * LEAF_BYTES : (at + 1) * LEAF_BYTES]
        if not data:
            raise IndexError(f"row {position} has no leaf {at}")
        return data

    def open_row(self, position: int) -> Opening:
        """All bytes of a row."""
        return Opening(self.read(position), siblings(self.node, Node(self.depth, position)))

    def open_leaf(self, position: int, leaf: int) -> Opening:
        """One leaf of a row. Raises IndexError for one that it does not have."""
        depth = self._row_tree(position).depth
        if not 0 <= leaf < 1 << depth:
            raise IndexError(f"row {position} has no leaf {leaf}")
        node = Node(self.depth + depth, position << depth | leaf)
        return Opening(self.leaf(node), siblings(self.node, node))

    def _make_row_tree(self, position: int) -> HashTree:
        data = self.read(position)
        return HashTree([leaf_hash(data[at : at + LEAF_BYTES]) for at in range(0, len(data), LEAF_BYTES)])
