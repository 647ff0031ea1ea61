"""What a receipt's `inputRoot` and `outputRoot` commit to, with every node that a dispute asks for."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.hash_tree import HashTree, Opening, siblings
from efedllm.protocol.merkle import LEAF_BYTES, leaf_hash, row_root, token_leaf
from efedllm.protocol.trace import Node


class CommittedTokens:
    """Token ids: the input of a first shard, the output of a last one."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tuple(tokens)
        self._tree = HashTree([token_leaf(token) for token in self.tokens])
        self.root, self.depth, self.node = self._tree.root, self._tree.depth, self._tree.node

    def open_token(self, position: int) -> Opening:
        """The four bytes of a token id."""
        data = self.tokens[position].to_bytes(4, "little")
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

    def open_row(self, position: int) -> Opening:
        """All bytes of a row."""
        return Opening(self.read(position), siblings(self.node, Node(self.depth, position)))

    def open_leaf(self, position: int, leaf: int) -> Opening:
        """One leaf of a row. Raises ProtocolError for one that it does not have."""
        data = self.read(position)[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
        if not data:
            raise ProtocolError(f"row {position} has no leaf {leaf}")
        depth = self._row_tree(position).depth
        return Opening(data, siblings(self.node, Node(self.depth + depth, position << depth | leaf)))

    def _make_row_tree(self, position: int) -> HashTree:
        data = self.read(position)
        return HashTree([leaf_hash(data[at : at + LEAF_BYTES]) for at in range(0, len(data), LEAF_BYTES)])
