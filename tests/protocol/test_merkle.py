"""Trees against their definition, word for word; proofs against everything but the leaf they are for."""

from collections.abc import Callable
from hashlib import sha256

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from efedllm.protocol import merkle
from efedllm.protocol.merkle import EMPTY, AppendTree, depth_of, prove, tree_root, verify
from efedllm.protocol.vouchers import keccak_node
from tests.protocol.strategies import hashes
from tests.vectors.make_protocol import naive_root

leaves = st.lists(hashes, max_size=40)
combines = st.sampled_from([merkle.node_hash, keccak_node])
Combine = Callable[[bytes, bytes], bytes]


@given(leaves, combines)
def test_root_is_that_of_the_padded_tree(items: list[bytes], combine: Combine) -> None:
    assert tree_root(items, combine) == naive_root(items, combine)


@given(leaves, combines)
def test_a_growing_tree_has_every_root_on_its_way(items: list[bytes], combine: Combine) -> None:
    tree = AppendTree(combine)
    assert tree.root() == EMPTY
    for count, item in enumerate(items, 1):
        tree.append(item)
        assert tree.count == count
        assert tree.root() == tree_root(items[:count], combine)


@given(leaves, leaves)
def test_a_copy_grows_apart(items: list[bytes], more: list[bytes]) -> None:
    tree = AppendTree()
    for item in items:
        tree.append(item)
    copy = tree.copy()
    for item in more:
        copy.append(item)
    assert tree.root() == tree_root(items)
    assert copy.root() == tree_root(items + more)


@given(st.lists(hashes, min_size=1, max_size=40), combines, st.data())
def test_proofs(items: list[bytes], combine: Combine, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(items) - 1))
    root, proof = tree_root(items, combine), prove(items, at, combine)
    assert len(proof) == depth_of(len(items))
    assert verify(root, items[at], at, len(items), proof, combine)
    assert not verify(root, items[at], at, len(items), [*proof, EMPTY], combine)
    assert not verify(root, sha256(items[at]).digest(), at, len(items), proof, combine)
    assert not verify(root, items[at], at + len(items), len(items), proof, combine)
    assert not verify(root, items[at], -1, len(items), proof, combine)
    if proof:
        assert not verify(root, items[at], at, len(items), proof[:-1], combine)
        wrong = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:wrong], sha256(proof[wrong]).digest(), *proof[wrong + 1 :]]
        assert not verify(root, items[at], at, len(items), changed, combine)
    other = data.draw(st.integers(0, len(items) - 1))
    if items[other] != items[at]:
        assert not verify(root, items[at], other, len(items), proof, combine)


@pytest.mark.parametrize("index", [-1, 3])
def test_no_proof_outside_the_list(index: int) -> None:
    with pytest.raises(IndexError, match=f"leaf {index} of 3"):
        prove([EMPTY] * 3, index)


@pytest.mark.parametrize(("count", "depth"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (17, 5)])
def test_depth(count: int, depth: int) -> None:
    assert depth_of(count) == depth


def test_tags_tell_leaves_from_nodes() -> None:
    assert merkle.leaf_hash(b"abc") == sha256(b"\x00abc").digest()
    assert merkle.leaf_hash(memoryview(b"abc")) == merkle.leaf_hash(b"abc")
    assert merkle.node_hash(b"a" * 32, b"b" * 32) == sha256(b"\x01" + b"a" * 32 + b"b" * 32).digest()
    assert keccak_node(b"a" * 32, b"b" * 32) == keccak(b"\x01" + b"a" * 32 + b"b" * 32)
    assert merkle.leaf_hash(b"a" * 64) != merkle.node_hash(b"a" * 32, b"a" * 32)


@pytest.mark.parametrize("length", [4, 1020, 1024, 1028, 2048, 4096, 16384])
def test_rows_are_cut_into_leaves_of_1024_bytes(length: int) -> None:
    row = bytes(at % 251 for at in range(length))
    parts = [sha256(b"\x00" + row[at : at + 1024]).digest() for at in range(0, length, 1024)]
    assert merkle.row_root(row) == naive_root(parts, merkle.node_hash)


def test_token_leaves_are_little_endian() -> None:
    assert merkle.token_leaf(0x01020304) == sha256(b"\x00\x04\x03\x02\x01").digest()
