"""Paths against brute force, and errors that say who is missing where."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efedllm.chain.participants import Offer
from efedllm.client.errors import RoutingError
from efedllm.client.routing import cheapest
from efedllm.protocol.requests import MAX_PATH, check_path

MODEL, OTHER = b"\x01" * 32, b"\x02" * 32
LAYERS = 5


def offer(at: int, start: int, end: int, prompt: int = 1, token: int = 1, model: bytes = MODEL) -> Offer:
    address = f"0x{at:040x}"
    return Offer(address, address, model, "http://x", start, end, prompt, token, 1)


offers = st.lists(
    st.tuples(st.integers(0, LAYERS), st.integers(0, LAYERS + 1), st.integers(0, 3), st.integers(0, 3)), max_size=8
).map(lambda rows: [offer(at, *row) for at, row in enumerate(rows, 1)])


def all_paths(items: list[Offer], start: int = 0) -> Iterator[list[Offer]]:
    if start == LAYERS:
        yield []
    for item in items:
        if item.start == start and item.start < item.end <= LAYERS:
            for rest in all_paths(items, item.end):
                yield [item, *rest]


@given(
    offers,
    st.integers(1, 10),
    st.integers(1, 10),
    st.sets(st.integers(1, 8), max_size=3),
    st.dictionaries(st.integers(1, 8), st.integers(1, 3), max_size=3),
)
def test_it_is_the_cheapest_of_all_paths(
    items: list[Offer], prompt: int, tokens: int, avoided: set[int], objections: dict[int, int]
) -> None:
    """Of those against whose workers least speaks."""
    against = {f"0x{at:040x}": much for at, much in objections.items()}
    avoid = {f"0x{at:040x}" for at in avoided}
    paths = list(all_paths([item for item in items if item.worker not in avoid]))

    def key(path: list[Offer]) -> tuple[int, int, int, list[str]]:
        return (
            sum(against.get(item.worker, 0) for item in path),
            sum(prompt * item.prompt_price + tokens * item.token_price for item in path),
            len(path),
            [item.worker for item in path],
        )

    try:
        route = cheapest(items, MODEL, LAYERS, prompt, tokens, avoid, objections=against)
    except RoutingError:
        assert not paths
        return
    best = min(paths, key=key)
    assert list(route.offers) == best
    assert (route.objection, route.cost) == key(best)[:2]
    check_path(route.hops(), LAYERS)


def test_prices_are_weighed_with_the_request() -> None:
    reader, writer = offer(1, 0, 5, prompt=1, token=9), offer(2, 0, 5, prompt=9, token=1)
    assert cheapest([reader, writer], MODEL, 5, 100, 1).offers == (reader,)
    assert cheapest([reader, writer], MODEL, 5, 1, 100).offers == (writer,)


def test_ties_go_to_fewer_workers_and_then_to_lower_addresses() -> None:
    halves = [offer(1, 0, 2), offer(2, 2, 5)]
    whole = [offer(4, 0, 5, 2, 2), offer(3, 0, 5, 2, 2)]
    assert cheapest([*halves, *whole], MODEL, 5, 1, 1).offers == (whole[1],)


def test_objections_count_as_far_as_the_price_allows() -> None:
    cheap, dear = offer(1, 0, 5), offer(2, 0, 5, 3, 3)
    against = {cheap.worker: 1}
    assert cheapest([cheap, dear], MODEL, 5, 1, 1, objections=against).offers == (dear,)
    assert cheapest([cheap, dear], MODEL, 5, 1, 1, max_cost=6, objections=against).offers == (dear,)
    assert cheapest([cheap, dear], MODEL, 5, 1, 1, max_cost=5, objections=against).offers == (cheap,)
    assert cheapest([cheap], MODEL, 5, 1, 1, objections=against).offers == (cheap,)
    with pytest.raises(RoutingError, match="can cost 2 base units, more than the limit of 1"):
        cheapest([cheap, dear], MODEL, 5, 1, 1, max_cost=1, objections=against)


def test_hops_carry_the_offers_terms() -> None:
    (hop,) = cheapest([offer(1, 0, 5, 7, 8)], MODEL, 5, 1, 1).hops()
    assert (hop.start, hop.end, hop.promptPrice, hop.tokenPrice) == (0, 5, 7, 8)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "layers 0:5 of 0:5 lack workers"),
        ([offer(1, 0, 5, model=OTHER)], "layers 0:5 of 0:5 lack workers"),
        ([offer(1, 0, 2), offer(2, 4, 5)], "layers 2:4 of 0:5 lack workers"),
        ([offer(1, 1, 2), offer(2, 3, 4)], "layers 0:1, 2:3, 4:5 of 0:5 lack workers"),
        ([offer(1, 0, 6)], "layers 0:5 of 0:5 lack workers"),
        ([offer(1, 0, 3), offer(2, 2, 5)], "do not join; from layer 0 one gets to 0, 3, the other workers start at 2"),
    ],
)
def test_why_there_is_no_path(items: list[Offer], message: str) -> None:
    with pytest.raises(RoutingError, match=message):
        cheapest(items, MODEL, LAYERS, 1, 1)


def test_avoided_workers_are_named_as_the_reason() -> None:
    items = [offer(1, 0, 2), offer(2, 2, 5)]
    with pytest.raises(RoutingError, match="layers 2:5 of 0:5 lack workers besides those that just failed"):
        cheapest(items, MODEL, LAYERS, 1, 1, avoid={items[1].worker})


def test_limit_of_cost() -> None:
    items = [offer(1, 0, 5, 2, 3)]
    assert cheapest(items, MODEL, LAYERS, 10, 10, max_cost=50).cost == 50
    with pytest.raises(RoutingError, match="can cost 50 base units, more than the limit of 49"):
        cheapest(items, MODEL, LAYERS, 10, 10, max_cost=49)


def test_paths_are_not_longer_than_requests_allow() -> None:
    layers = MAX_PATH + 1
    items = [offer(at + 1, at, at + 1) for at in range(layers)]
    with pytest.raises(RoutingError):
        cheapest(items, MODEL, layers, 1, 1)
    shortcut = offer(1000, 0, 2, 100, 100)
    assert len(cheapest([*items, shortcut], MODEL, layers, 1, 1).offers) == MAX_PATH


def test_many_offers_are_no_problem() -> None:
    items = [offer(at + 1, at % 60, at % 60 + 1 + at % 3) for at in range(5000)]
    assert cheapest(items, MODEL, 60, 1, 1).cost == 2 * 40
