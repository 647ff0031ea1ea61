"""Binary Merkle trees: SHA-256 over tensors and token ids, keccak over a channel's receipts.

Leaves and nodes carry different tags, so neither can pose as the other; a list is padded with `EMPTY`, of which no
preimage is known, to the next power of two; the depth is never stored, it follows from the number of leaves.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY = bytes(HASH_BYTES)
LEAF_BYTES = 1024
"""Data bytes in one leaf of a tensor; the last leaf of a row may be shorter."""

Combine = Callable[[bytes, bytes], bytes]


def leaf_hash(data: bytes | memoryview) -> bytes:
    """`sha256(0x00 || data)`."""
    digest = sha256(b"\x00")
    digest.update(data)
    return digest.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """`sha256(0x01 || left || right)`."""
    return sha256(b"\x01" + left + right).digest()


def token_leaf(token: int) -> bytes:
    """Leaf of one token id: its four bytes, little-endian."""
    return leaf_hash(token.to_bytes(4, "little"))


def row_root(data: bytes | memoryview) -> bytes:
    """Root of one residual row (`int32 [hidden]`, little-endian bytes), cut into leaves of `LEAF_BYTES`."""
    view = memoryview(data)
    return tree_root([leaf_hash(view[at : at + LEAF_BYTES]) for at in range(0, len(view), LEAF_BYTES)])


def depth_of(count: int) -> int:
    """Levels above the leaves of a tree with `count` leaves."""
    return max(0, (count - 1).bit_length()) if count else 0


def tree_root(hashes: Sequence[bytes], combine: Combine = node_hash) -> bytes:
    """Root of the padded tree over `hashes`; `EMPTY` for none, the hash itself for one."""
    if not hashes:
        return EMPTY
    level = list(hashes)
    padding = EMPTY
    while len(level) > 1:
        if len(level) % 2:
            level.append(padding)
        level = [combine(level[at], level[at + 1]) for at in range(0, len(level), 2)]
        padding = combine(padding, padding)
    return level[0]


def prove(hashes: Sequence[bytes], index: int, combine: Combine = node_hash) -> list[bytes]:
    """Siblings of leaf `index` from the bottom up. Raises IndexError outside the list."""
    if not 0 <= index < len(hashes):
        raise IndexError(f"leaf {index} of {len(hashes)}")
    proof = []
    level = list(hashes)
    padding = EMPTY
    while len(level) > 1:
        if len(level) % 2:
            level.append(padding)
        proof.append(level[index ^ 1])
        level = [combine(level[at], level[at + 1]) for at in range(0, len(level), 2)]
        padding = combine(padding, padding)
        index >>= 1
    return proof


def verify(
    root: bytes,
    leaf: bytes,
    index: int,
    count: int,
    proof: Sequence[bytes],
    combine: Combine = node_hash,
) -> bool:
    """Whether `leaf` is number `index` of the `count` leaves under `root`. The proof's length must be exact."""
    if not 0 <= index < count or len(proof) != depth_of(count):
        return False
    if any(len(part) != HASH_BYTES for part in (leaf, *proof)):  # two parts of other lengths may make the same node
        return False
    at = leaf
    for sibling in proof:
        at = combine(sibling, at) if index & 1 else combine(at, sibling)
        index >>= 1
    return at == root


class AppendTree:
    """A tree that grows by appending, with O(log n) work per leaf and the root of `tree_root` at any moment."""

    def __init__(self, combine: Combine = node_hash) -> None:
        self._combine = combine
        self._full: list[bytes | None] = []  # root of a full subtree of 2**level leaves that waits for a sibling
        self.count = 0

    def append(self, leaf: bytes) -> None:
        at = leaf
        level = 0
        while level < len(self._full) and (waiting := self._full[level]) is not None:
            at = self._combine(waiting, at)
            self._full[level] = None
            level += 1
        if level == len(self._full):
            self._full.append(None)
        self._full[level] = at
        self.count += 1

    def root(self) -> bytes:
        if self.count == 0:
            return EMPTY
        carry: bytes | None = None
        padding = EMPTY
        top = depth_of(self.count)
        for level in range(top):
            waiting = self._full[level] if level < len(self._full) else None
            if waiting is not None:
                carry = self._combine(waiting, padding if carry is None else carry)
            elif carry is not None:
                carry = self._combine(carry, padding)
            padding = self._combine(padding, padding)
        if carry is not None:
            return carry
        root = self._full[top]
        assert root is not None
        return root

    def copy(self) -> "AppendTree":
        """An independent tree with the same leaves: a receipt's roots are taken from copies while the session grows."""
        other = AppendTree(self._combine)
        other._full = list(self._full)
        other.count = self.count
        return other
