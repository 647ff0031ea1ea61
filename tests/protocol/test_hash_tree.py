"""Trees whose nodes can be asked for, and trees of which another party revealed a part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.protocol.committed import CommittedTokens
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.hash_tree import HashTree, children, root_above, siblings
from efedllm.protocol.merkle import depth_of, leaf_hash, node_hash, token_leaf, tree_root
from efedllm.protocol.partial_tree import PartialTree
from efedllm.protocol.trace import Node, zero_root

words = st.lists(st.binary(min_size=32, max_size=32), max_size=40)


@given(words, st.integers(0, 3))
def test_a_deeper_tree_is_padded(hashes: list[bytes], more: int) -> None:
    tree = HashTree(hashes, depth_of(len(hashes)) + more)
    assert tree.root == tree_root([*hashes, *[bytes(32)] * ((1 << tree.depth) - len(hashes))])
    for path in range(1 << tree.depth):
        node = Node(tree.depth, path)
        word = hashes[path] if path < len(hashes) else bytes(32)
        assert tree.node(node) == word
        assert root_above(word, path, siblings(tree.node, node)) == tree.root
    assert tree_root(children(tree.node, Node(0, 0), tree.depth)) == tree.root


def test_padding_may_be_the_root_of_something() -> None:
    assert HashTree([], 2, zero_root(3)).root == zero_root(5)


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(IndexError):
        HashTree([bytes(32)] * 3, 1)
    for node in (Node(2, 0), Node(1, 2), Node(-1, 0), Node(1, -1)):
        with pytest.raises(IndexError):
            HashTree([bytes(32)] * 2).node(node)
    with pytest.raises(ValueError, match="31 bytes"):
        root_above(bytes(32), 0, [bytes(31)])


def test_tokens() -> None:
    committed = CommittedTokens([5, 7, 300])
    assert committed.root == tree_root([token_leaf(token) for token in (5, 7, 300)])
    opening = committed.open_token(2)
    assert opening.data == b"\x2c\x01\x00\x00"
    assert root_above(leaf_hash(opening.data), 2, opening.siblings) == committed.root
    for node in (Node(1, 0), Node(2, 3)):
        with pytest.raises(IndexError):
            committed.leaf(node)


@given(st.data())
def test_whatever_lies_left_of_the_first_difference_is_proven_against_the_other_root(data: st.DataObject) -> None:
    mine = [bytes([at]) * 32 for at in range(64)]
    theirs = list(mine)
    changed = data.draw(st.sets(st.integers(0, 63), min_size=1))
    for at in changed:
        theirs[at] = bytes([at + 100]) * 32
    my_tree, their_tree = HashTree(mine), HashTree(theirs)
    tree, node = PartialTree(their_tree.root, my_tree.node), Node(0, 0)
    for levels in (4, 2):
        tree.reveal(node, children(their_tree.node, node, levels))
        found = tree.first_difference(node, levels)
        assert found is not None
        node = found
    assert node == Node(6, min(changed))
    for at in range(min(changed)):
        assert root_above(mine[at], at, tree.siblings(Node(6, at))) == their_tree.root
    assert root_above(theirs[node.path], node.path, tree.siblings(node)) == their_tree.root


def test_refuses_reveals_that_do_not_hash_to_the_node() -> None:
    tree = HashTree([bytes([at]) * 32 for at in range(8)])
    partial = PartialTree(tree.root, tree.node)
    right = children(tree.node, Node(0, 0), 2)
    for wrong in ([right[1], right[0], *right[2:]], right[:3], [], [*right[:3], bytes(31)]):
        with pytest.raises(ProtocolError):
            partial.reveal(Node(0, 0), wrong)
    with pytest.raises(ProtocolError, match="has not been revealed itself"):
        partial.reveal(Node(1, 0), right[:2])
    partial.reveal(Node(0, 0), right)
    assert partial.node(Node(1, 1)) == node_hash(*right[2:])
    assert partial.first_difference(Node(0, 0), 2) is None
