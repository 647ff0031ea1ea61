"""What a worker refuses before it works: every field, one at a time."""

import itertools
from dataclasses import replace
from hashlib import sha256

import pytest

from efedllm.protocol.errors import RequestError
from efedllm.protocol.merkle import token_leaf, tree_root
from efedllm.protocol.objects import Hop, Request, Sampling
from efedllm.protocol.requests import (
    MAX_PATH,
    MAX_STOP_IDS,
    ModelLimits,
    check_path,
    check_prompt,
    check_request,
    check_sampling,
    find_hop,
    prompt_root,
)

NOW = 1_800_000_000
MODEL = ModelLimits(b"\x01" * 32, layers=4, vocab=100, context=50)
A, B, C = ("0x" + digit * 40 for digit in "abc")
PROMPT, SALT = [1, 2, 3], b"\x05" * 32
REQUEST = Request(
    payer=C,
    nonce=1,
    expiry=NOW + 60,
    kind=0,
    modelId=MODEL.model_id,
    path=(Hop(A, 0, 2, 1, 1), Hop(B, 2, 4, 1, 1)),
    promptRoot=prompt_root(SALT, PROMPT),
    promptCount=3,
    maxTokens=48,
    stopIds=(7, 99),
    seed=bytes(32),
    sampling=Sampling(65536, 0, 65536),
)


def hops(*bounds: int) -> tuple[Hop, ...]:
    return tuple(
        Hop(f"0x{at + 1:040x}", start, end, 1, 1) for at, (start, end) in enumerate(itertools.pairwise(bounds))
    )


def test_a_right_request() -> None:
    check_request(REQUEST, MODEL, NOW)
    check_prompt(REQUEST, SALT, PROMPT, MODEL.vocab)
    check_request(replace(REQUEST, expiry=NOW + 3600, stopIds=()), MODEL, NOW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": 1}, "request.kind 1 is unknown"),
        ({"modelId": b"\x02" * 32}, "is not served here"),
        ({"expiry": NOW}, "expired 0 s ago"),
        ({"expiry": NOW - 5}, "expired 5 s ago: sign a new one"),
        ({"expiry": NOW + 3601}, "more than 3600 s ahead"),
        ({"path": ()}, "the path has 0 workers"),
        ({"sampling": Sampling(655, 0, 65536)}, "temperature must be"),
        ({"promptCount": 0}, "the prompt is empty"),
        ({"maxTokens": 0}, "maxTokens must be at least 1"),
        ({"maxTokens": 49}, "exceed the context of 50: shorten the prompt or ask for at most 48 tokens"),
        ({"promptCount": 60}, "ask for at most 0 tokens"),
        ({"promptCount": 1 << 31, "maxTokens": 1 << 31}, "exceed the context"),
        ({"stopIds": (7, 7)}, "strictly increasing"),
        ({"stopIds": (9, 7)}, "strictly increasing"),
        ({"stopIds": tuple(range(MAX_STOP_IDS + 1))}, f"at most {MAX_STOP_IDS}"),
        ({"stopIds": (7, 100)}, "stop id 100 is outside the vocabulary of 100"),
    ],
)
def test_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check_request(replace(REQUEST, **change), MODEL, NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (hops(0, 2, 3), "ends at layer 3, the model has 4"),
        (hops(0, 5), "ends at layer 5, the model has 4"),
        (hops(1, 4), "has layers 1:4 where 0: is due"),
        (hops(0, 2, 2, 4), "has layers 2:2 where 2: is due"),
        ((Hop(A, 0, 3, 1, 1), Hop(B, 2, 4, 1, 1)), "has layers 2:4 where 3: is due"),
        ((Hop(A, 0, 2, 1, 1), Hop(B, 3, 4, 1, 1)), "has layers 3:4 where 2: is due"),
        ((Hop(A, 2, 4, 1, 1), Hop(B, 0, 2, 1, 1)), "has layers 2:4 where 0: is due"),
        ((Hop(A, 0, 2, 1, 1), Hop(A, 2, 4, 1, 1)), "names a worker twice"),
    ],
)
def test_paths_that_do_not_cover(path: tuple[Hop, ...], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check_path(path, 4)


def test_length_of_paths() -> None:
    check_path(hops(*range(MAX_PATH + 1)), MAX_PATH)
    with pytest.raises(RequestError, match=f"1 to {MAX_PATH} are allowed"):
        check_path(hops(*range(MAX_PATH + 2)), MAX_PATH + 1)


@pytest.mark.parametrize("sampling", [Sampling(0, 0, 1), Sampling(656, 5, 65536), Sampling(6553600, (1 << 32) - 1, 9)])
def test_right_sampling(sampling: Sampling) -> None:
    check_sampling(sampling)


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (Sampling(1, 0, 65536), "temperature must be"),
        (Sampling(655, 0, 65536), "temperature must be"),
        (Sampling(6553601, 0, 65536), "temperature must be"),
        (Sampling(0, 0, 0), "top_p must be"),
        (Sampling(0, 0, 65537), "top_p must be"),
    ],
)
def test_wrong_sampling(sampling: Sampling, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check_sampling(sampling)


@pytest.mark.parametrize(
    ("salt", "prompt", "message"),
    [
        (b"\x05" * 31, PROMPT, "salt: expected 32 bytes"),
        (b"\x06" * 32, PROMPT, "is not the one that was signed"),
        (SALT, [1, 2], "2 prompt ids came with a request for 3"),
        (SALT, [1, 2, 4], "is not the one that was signed"),
        (SALT, [1, 3, 2], "is not the one that was signed"),
        (SALT, [1, 2, 100], "token id 100 is outside the vocabulary of 100"),
        (SALT, [1, 2, -1], "token id -1 is outside the vocabulary"),
    ],
)
def test_prompts_that_were_not_signed(salt: bytes, prompt: list[int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check_prompt(REQUEST, salt, prompt, MODEL.vocab)


def test_prompt_root_is_that_of_the_document() -> None:
    tokens = tree_root([token_leaf(token) for token in PROMPT])
    assert prompt_root(SALT, PROMPT) == sha256(b"\x03" + SALT + tokens).digest()


def test_place_on_the_path() -> None:
    assert [find_hop(REQUEST, hop.worker) for hop in REQUEST.path] == [0, 1]
    with pytest.raises(RequestError, match="is not on the request's path"):
        find_hop(REQUEST, C)
