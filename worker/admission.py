"""Whether a request is served: pure checks, before anything is computed or kept."""

from dataclasses import dataclass

from efedllm.protocol import eip712
from efedllm.protocol.errors import RequestError
from efedllm.protocol.messages import Open
from efedllm.protocol.objects import Hop
from efedllm.protocol.requests import ModelLimits, check_prompt, check_request, find_hop


@dataclass(frozen=True)
class Offer:
    """What this worker serves, as it is registered; prices in base units per token."""

    worker: str
    model: ModelLimits
    start: int
    end: int
    prompt_price: int
    token_price: int


@dataclass(frozen=True)
class Admitted:
    """A request that passed: this worker's place in the path, and who pays."""

    shard: int
    hop: Hop
    session_key: str


def admit(offer: Offer, domain: eip712.Domain, message: Open, now_seconds: int) -> Admitted:
    """Raises ProtocolError naming what is wrong. The caller, who knows chain and store, checks channel and replays."""
    request = message.request
    check_request(request, offer.model, now_seconds)
    if eip712.digest(domain, request) != message.request_id:
        raise RequestError(
            "the request id is not the digest of the request: another chain, deployment or content was signed"
        )
    shard = find_hop(request, offer.worker)
    hop = request.path[shard]
    if (hop.start, hop.end) != (offer.start, offer.end):
        raise RequestError(
            f"the path asks this worker for layers {hop.start}:{hop.end}, it serves {offer.start}:{offer.end}"
        )
    if hop.promptPrice < offer.prompt_price or hop.tokenPrice < offer.token_price:
        raise RequestError(
            f"the path pays {hop.promptPrice} and {hop.tokenPrice} base units per token, "
            f"this worker asks {offer.prompt_price} and {offer.token_price}"
        )
    check_prompt(request, message.salt, message.prompt, offer.model.vocab)
    return Admitted(shard, hop, eip712.recover(domain, request, message.signature))
