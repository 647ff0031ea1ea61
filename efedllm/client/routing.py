"""Which workers serve a request: the cheapest path over the offered layer ranges. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from efedllm.chain.participants import Offer, uncovered
from efedllm.client.errors import RoutingError
from efedllm.protocol.objects import Hop
from efedllm.protocol.requests import MAX_PATH


@dataclass(frozen=True)
class Route:
    """Offers in path order. `cost`: the most that the request can cost over them, in base units. `objection`: how much
    speaks against their workers."""

    offers: tuple[Offer, ...]
    cost: int
    objection: int = 0

    def hops(self) -> tuple[Hop, ...]:
        return tuple(
            Hop(offer.worker, offer.start, offer.end, offer.prompt_price, offer.token_price) for offer in self.offers
        )


def cost_of(offer: Offer, prompt_count: int, max_tokens: int) -> int:
    """The most that one worker can ask for such a request."""
    return prompt_count * offer.prompt_price + max_tokens * offer.token_price


def cheapest(
    offers: Iterable[Offer],
    model_id: bytes,
    layers: int,
    prompt_count: int,
    max_tokens: int,
    avoid: Collection[str] = (),
    max_cost: int | None = None,
    objections: Mapping[str, int] | None = None,
) -> Route:
    """The cheapest path that covers `[0, layers)`; among equals the one with fewer workers, then the lower addresses.

    `avoid` holds workers not to be used. `objections` say how much speaks against a worker: a path over workers against
    whom less speaks goes before a cheaper one, as far as `max_cost` allows. Raises RoutingError that names the layers
    without workers, the boundary where ranges do not join, or the price.
    """
    usable = [offer for offer in offers if offer.model_id == model_id and 0 <= offer.start < offer.end <= layers]
    chosen = [offer for offer in usable if offer.worker not in avoid]
    against = objections or {}
    routes = list(_routes(chosen, layers, prompt_count, max_tokens, against))
    if not routes:
        raise RoutingError(_why(chosen, usable, layers))
    best = min(routes, key=lambda route: (route.objection, route.cost, len(route.offers), _addresses(route)))
    if max_cost is not None and best.cost > max_cost and against:
        return cheapest(usable, model_id, layers, prompt_count, max_tokens, avoid, max_cost)
    if max_cost is not None and best.cost > max_cost:
        raise RoutingError(
            f"the cheapest path can cost {best.cost} base units, more than the limit of {max_cost}: "
            "ask for fewer tokens or raise the limit"
        )
    return best


def _routes(
    offers: Sequence[Offer], layers: int, prompt_count: int, max_tokens: int, against: Mapping[str, int]
) -> Iterable[Route]:
    """The best route to the last layer for each number of hops, by dynamic programming over boundaries.

    Exact with its ties: for equal length, a better prefix stays better whatever follows.
    """
    reached = {0: Route((), 0)}
    for _ in range(MAX_PATH):
        following: dict[int, Route] = {}
        for offer in offers:
            if (before := reached.get(offer.start)) is None:
                continue
            cost = before.cost + cost_of(offer, prompt_count, max_tokens)
            route = Route((*before.offers, offer), cost, before.objection + against.get(offer.worker, 0))
            known = following.get(offer.end)
            if known is None or _rank(route) < _rank(known):
                following[offer.end] = route
        if layers in following:
            yield following.pop(layers)
        if not following:
            return
        reached = following


def _rank(route: Route) -> tuple[int, int, list[str]]:
    """Of routes with as many workers."""
    return route.objection, route.cost, _addresses(route)


def _addresses(route: Route) -> list[str]:
    return [offer.worker.lower() for offer in route.offers]


def _why(chosen: Sequence[Offer], usable: Sequence[Offer], layers: int) -> str:
    if gaps := uncovered(chosen, layers):
        lacking = ", ".join(f"{start}:{end}" for start, end in gaps)
        failed = "" if uncovered(usable, layers) == gaps else " besides those that just failed"
        return f"no path covers the model: layers {lacking} of 0:{layers} lack workers{failed}"
    reached, waiting = {0}, True
    while waiting:
        ends = {offer.end for offer in chosen if offer.start in reached}
        waiting = not ends <= reached
        reached |= ends
    starts = sorted({offer.start for offer in chosen} - reached)
    return (
        f"no path covers the model: the offered ranges do not join; from layer 0 one gets to "
        f"{', '.join(map(str, sorted(reached)))}, the other workers start at {', '.join(map(str, starts)) or 'none'}"
    )
