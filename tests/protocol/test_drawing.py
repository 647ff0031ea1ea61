"""Draws: by value, the same for everybody, and none that splitting or padding would change."""

from itertools import pairwise

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from efedllm.protocol.claims import GROUP, Entry, channel_id, commitment, unpack_entries
from efedllm.protocol.drawing import DrawPolicy, draw, points
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.vouchers import Leaf
from tests.protocol.strategies import addresses, hashes

amounts = st.integers(0, (1 << 96) - 1)
entries = st.builds(Entry, st.binary(min_size=20, max_size=20), amounts, amounts, hashes)
bounds = st.lists(st.integers(1, 10**6), min_size=1, max_size=20).map(
    lambda steps: [sum(steps[:at]) for at in range(len(steps) + 1)]
)


def leaves_of(edges: list[int]) -> list[Leaf]:
    return [Leaf(bytes(32), bytes([at]) * 32, *edge) for at, edge in enumerate(pairwise(edges))]


def entry(start: int, end: int) -> Entry:
    return Entry(bytes(20), start, end, bytes(32))


@given(bounds, hashes, st.data())
def test_points_lie_in_the_claim_and_hit_what_is_drawn(edges: list[int], seed: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, edges[-1] - 1))
    end = data.draw(st.integers(start + 1, edges[-1]))
    policy = DrawPolicy(data.draw(st.integers(0, 9999)), data.draw(st.integers(0, 10**6)), 4000)
    leaves = leaves_of(edges)
    reaching = [leaf for leaf in leaves if leaf.after > start and leaf.before < end]
    made = points(policy, seed, entry(start, end), len(reaching))
    assert all(start < point <= end for point in made)
    assert len(made) <= 16 * len(reaching)
    drawn = draw(policy, seed, entry(start, end), leaves)
    assert drawn == sorted(
        {at for at, leaf in enumerate(leaves) for point in made if leaf.before < point <= leaf.after}
    )
    assert drawn == draw(policy, seed, entry(start, end), leaves)


@given(bounds, hashes, st.data())
def test_full_rate_draws_everything_that_the_claim_reaches(edges: list[int], seed: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, edges[-1] - 1))
    end = data.draw(st.integers(start + 1, edges[-1]))
    leaves = leaves_of(edges)
    expected = [at for at, leaf in enumerate(leaves) if max(leaf.before, start) < min(leaf.after, end)]
    assert draw(DrawPolicy(10_000, 0, 0), seed, entry(start, end), leaves) == expected


@pytest.mark.parametrize(
    ("rate", "leaves", "count"), [(0, 100, 0), (1, 100, 1), (100, 100, 1), (101, 100, 2), (5000, 7, 4), (10_000, 7, 7)]
)
def test_count_by_rate_rounds_up(rate: int, leaves: int, count: int) -> None:
    assert len(points(DrawPolicy(rate, 0, 0), bytes(32), entry(0, 1000), leaves)) == count


def test_count_by_value_is_right_on_average() -> None:
    """2 * V / ((1 - share) * slash): 2 * 700 / (0.5 * 1000) = 2.8, so 2 or 3, on average 2.8."""
    policy = DrawPolicy(0, 1000, 5000)
    counts = [len(points(policy, keccak(bytes([at % 256, at // 256])), entry(0, 700), 50)) for at in range(2000)]
    assert set(counts) == {2, 3}
    assert 2.75 < sum(counts) / len(counts) < 2.85


def test_points_are_uniform_over_value() -> None:
    """A leaf of a tenth of the value gets a tenth of the points, wherever it lies."""
    policy = DrawPolicy(0, 2000, 0)  # one point per 1000 base units of value
    hits = [0] * 10
    for at in range(4000):
        (point,) = points(policy, keccak(at.to_bytes(4)), entry(5000, 6000), 1)
        hits[(point - 5001) // 100] += 1
    # 400 each; the standard deviation is 19.
    assert all(300 < count < 500 for count in hits)


@pytest.mark.parametrize("parts", [1, 2, 10, 100])
def test_splitting_does_not_change_what_is_checked(parts: int) -> None:
    """The same value in more leaves is hit in the same share of draws."""
    policy = DrawPolicy(0, 2000, 0)
    leaves = leaves_of([1000 * at // parts for at in range(parts + 1)])
    covered = sum(
        leaves[index].after - leaves[index].before
        for at in range(300)
        for index in draw(policy, keccak(at.to_bytes(4)), entry(0, 1000), leaves)
    )
    assert covered == 300 * 1000 // parts  # one leaf each time


@pytest.mark.parametrize(("start", "end", "leaves"), [(5, 5, 3), (6, 5, 3), (0, 5, 0)])
def test_nothing_to_draw(start: int, end: int, leaves: int) -> None:
    assert points(DrawPolicy(5000, 10, 0), bytes(32), entry(start, end), leaves) == []


def test_seed_and_entry_both_matter() -> None:
    policy = DrawPolicy(5000, 0, 0)
    one = points(policy, bytes(32), entry(0, 10**9), 10)
    assert one != points(policy, b"\x01" * 32, entry(0, 10**9), 10)
    assert one != points(policy, bytes(32), Entry(b"\x01" * 20, 0, 10**9, bytes(32)), 10)


def test_point_is_that_of_the_document() -> None:
    claimed = entry(7, 1007)
    digest = keccak(b"\x00" + claimed.pack())
    expected = [8 + int.from_bytes(keccak(bytes(32) + digest + at.to_bytes(4))) % 1000 for at in range(3)]
    assert points(DrawPolicy(10_000, 0, 0), bytes(32), claimed, 3) == expected


@given(st.lists(entries, max_size=20))
def test_entries_round_trip(items: list[Entry]) -> None:
    assert unpack_entries(b"".join(item.pack() for item in items)) == tuple(items)


@given(st.binary(max_size=200).filter(lambda data: len(data) % Entry.SIZE != 0))
def test_entries_of_a_broken_length(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="a claim entry has 76 bytes"):
        unpack_entries(data)


@given(st.lists(entries, min_size=1, max_size=20))
def test_commitment_hashes_groups_of_eight(items: list[Entry]) -> None:
    groups = [items[at : at + GROUP] for at in range(0, len(items), 8)]
    inner = [keccak(b"\x00" + b"".join(item.pack() for item in group)) for group in groups]
    assert commitment(tuple(items)) == keccak(b"\x01" + b"".join(inner))


@given(st.lists(entries, min_size=2, max_size=20, unique=True))
def test_commitment_is_to_every_entry_and_their_order(items: list[Entry]) -> None:
    assert commitment(tuple(items)) != commitment(tuple(items[1:]))
    assert commitment(tuple(items)) != commitment((items[1], items[0], *items[2:]))


@given(addresses, addresses, addresses)
def test_channel_id_depends_on_all_three(payer: str, worker: str, key: str) -> None:
    words = b"".join(bytes(12) + bytes.fromhex(address[2:]) for address in (payer, worker, key))
    assert channel_id(payer, worker, key) == keccak(words)[:20]
