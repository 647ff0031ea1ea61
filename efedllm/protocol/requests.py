"""Requests: building the commitment to a prompt, and everything a worker checks before it works."""

from dataclasses import dataclass
from hashlib import sha256

from efedllm.protocol.errors import RequestError
from efedllm.protocol.merkle import token_leaf, tree_root
from efedllm.protocol.objects import KIND_INFERENCE, Hop, Request, Sampling

MAX_EXPIRY_SECONDS = 3600
MAX_PATH = 64
MAX_STOP_IDS = 64
TEMPERATURE_MIN, TEMPERATURE_MAX = 656, 6553600
TOP_P_ONE = 65536


@dataclass(frozen=True)
class ModelLimits:
    """What the protocol must know of a model: counts only."""

    model_id: bytes
    layers: int
    vocab: int
    context: int


def prompt_root(salt: bytes, prompt: list[int]) -> bytes:
    """`sha256(0x03 || salt || root of the prompt's token leaves)`; the salt keeps a guessable prompt secret."""
    return sha256(b"\x03" + salt + tree_root([token_leaf(token) for token in prompt])).digest()


def check_sampling(sampling: Sampling) -> None:
    if sampling.temperature and not TEMPERATURE_MIN <= sampling.temperature <= TEMPERATURE_MAX:
        raise RequestError(f"temperature must be 0 or between 0.01 and 100, not {sampling.temperature / 65536:g}")
    if not 1 <= sampling.topP <= TOP_P_ONE:
        raise RequestError(f"top_p must be above 0 and at most 1, not {sampling.topP / 65536:g}")


def check_path(path: tuple[Hop, ...], layers: int) -> None:
    """The path covers `[0, layers)` in order, without gap or overlap, by distinct workers."""
    if not 1 <= len(path) <= MAX_PATH:
        raise RequestError(f"the path has {len(path)} workers, 1 to {MAX_PATH} are allowed")
    at = 0
    for hop in path:
        if hop.start != at or hop.end <= hop.start:
            raise RequestError(f"the path has layers {hop.start}:{hop.end} where {at}: is due")
        at = hop.end
    if at != layers:
        raise RequestError(f"the path ends at layer {at}, the model has {layers}")
    if len({hop.worker for hop in path}) != len(path):
        raise RequestError("the path names a worker twice")


def check_request(request: Request, model: ModelLimits, now_seconds: int) -> None:
    """Everything about a request that needs no chain and no prompt. Raises RequestError naming the field."""
    if request.kind != KIND_INFERENCE:
        raise RequestError(f"request.kind {request.kind} is unknown, this worker serves kind {KIND_INFERENCE}")
    if request.modelId != model.model_id:
        raise RequestError(f"request.modelId {request.modelId.hex()} is not served here, {model.model_id.hex()} is")
    if request.expiry <= now_seconds:
        raise RequestError(f"the request expired {now_seconds - request.expiry} s ago: sign a new one")
    if request.expiry > now_seconds + MAX_EXPIRY_SECONDS:
        raise RequestError(f"request.expiry is more than {MAX_EXPIRY_SECONDS} s ahead")
    check_path(request.path, model.layers)
    check_sampling(request.sampling)
    if request.promptCount == 0:
        raise RequestError("the prompt is empty")
    if request.maxTokens == 0:
        raise RequestError("maxTokens must be at least 1")
    if request.promptCount + request.maxTokens > model.context + 1:
        raise RequestError(
            f"prompt ({request.promptCount} tokens) and answer ({request.maxTokens}) exceed the context of "
            f"{model.context}: "
            f"shorten the prompt or ask for at most {max(0, model.context + 1 - request.promptCount)} tokens"
        )
    if len(request.stopIds) > MAX_STOP_IDS or list(request.stopIds) != sorted(set(request.stopIds)):
        raise RequestError(f"stopIds must be at most {MAX_STOP_IDS} strictly increasing ids")
    if request.stopIds and request.stopIds[-1] >= model.vocab:
        raise RequestError(f"stop id {request.stopIds[-1]} is outside the vocabulary of {model.vocab}")


def check_prompt(request: Request, salt: bytes, prompt: list[int], vocab: int) -> None:
    """Whether the prompt is the one that was signed, and its ids exist. Raises RequestError."""
    if len(salt) != 32:
        raise RequestError("salt: expected 32 bytes")
    if len(prompt) != request.promptCount:
        raise RequestError(f"{len(prompt)} prompt ids came with a request for {request.promptCount}")
    for token in prompt:
        if not 0 <= token < vocab:
            raise RequestError(f"token id {token} is outside the vocabulary of {vocab}")
    if prompt_root(salt, prompt) != request.promptRoot:
        raise RequestError("the prompt is not the one that was signed (promptRoot differs)")


def find_hop(request: Request, worker: str) -> int:
    """The shard index of `worker` in the path. Raises RequestError if it is not on it."""
    for shard, hop in enumerate(request.path):
        if hop.worker == worker:
            return shard
    raise RequestError(f"worker {worker} is not on the request's path")
