"""The client's tokenizer: text in, the same text out, characters whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers

from efedllm.client.tokenizer import Tokenizer, TokenizerError
from efedllm.protocol.tokenizer_hash import tokenizer_hash

SHIPPED = (Path(__file__).resolve().parents[2] / "models/shakespeare/built/tokenizer.json").read_bytes()


def byte_level() -> Tokenizer:
    """An id per byte, and one special token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fast = FastTokenizer(models.BPE({letter: at for at, letter in enumerate(alphabet)}, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(["<end>"])
    return Tokenizer(fast.to_str().encode())


def metaspace() -> Tokenizer:
    """Words with a leading mark and bytes for the rest, as sentence-piece models have them."""
    words = ["<unk>", "▁", "▁the", "▁cat", "s", "▁sat", *(f"<0x{byte:02X}>" for byte in range(256))]
    fast = FastTokenizer(
        models.BPE({word: at for at, word in enumerate(words)}, [], byte_fallback=True, unk_token="<unk>")
    )
    fast.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fast.add_special_tokens(["<end>"])
    return Tokenizer(fast.to_str().encode())


BYTES, WORDS, SHAKESPEARE = byte_level(), metaspace(), Tokenizer(SHIPPED)


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*(stream.push(token) for token in ids), stream.finish()]


@given(st.text())
def test_text_survives(text: str) -> None:
    for tokenizer in (BYTES, SHAKESPEARE):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text())
def test_pieces_are_the_text(text: str) -> None:
    for tokenizer in (BYTES, SHAKESPEARE):
        pieces = streamed(tokenizer, tokenizer.encode(text))
        assert "".join(pieces) == text


@given(st.lists(st.integers(0, 256), max_size=60))
def test_pieces_are_the_decoded_ids_whatever_the_bytes(ids: list[int]) -> None:
    assert "".join(streamed(BYTES, ids)) == BYTES.decode(ids)


@given(st.lists(st.sampled_from([1, 2, 3, 4, 5, 262]), max_size=30))
def test_spaces_between_words_survive(ids: list[int]) -> None:
    assert "".join(streamed(WORDS, ids)) == WORDS.decode(ids)


def test_a_split_character_arrives_whole() -> None:
    ids = BYTES.encode("a€b")
    assert len(ids) == 5
    assert streamed(BYTES, ids) == ["a", "", "", "€", "b", ""]
    words = [2, *(6 + byte for byte in "é".encode()), 3]
    assert streamed(WORDS, words) == ["the", "", "é", " cat", ""]


def test_an_incomplete_character_comes_at_the_end() -> None:
    assert streamed(BYTES, BYTES.encode("a€")[:3]) == ["a", "", "", "\N{REPLACEMENT CHARACTER}"]


def test_special_tokens_have_no_text() -> None:
    assert streamed(WORDS, [2, 262, 3]) == ["the", "", " cat", ""]
    assert WORDS.decode([262]) == ""


def test_a_long_answer_is_not_decoded_again_and_again() -> None:
    class Counting(Tokenizer):
        longest = 0

        def decode(self, ids: Sequence[int]) -> str:
            self.longest = max(self.longest, len(ids))
            return super().decode(ids)

    tokenizer = Counting(SHIPPED)
    streamed(tokenizer, tokenizer.encode("Once more unto the breach, dear friends. " * 50))
    assert tokenizer.longest < 10


def test_only_the_committed_tokenizer_is_used() -> None:
    files = {"tokenizer.json": SHIPPED, "tokenizer_config.json": b"{}"}
    expected = tokenizer_hash(files, [0])
    assert Tokenizer.verified(files, [0], expected).stop_ids == {0}
    for changed, stop_ids in (
        (files | {"tokenizer.json": SHIPPED + b" "}, [0]),
        (files | {"chat_template.jinja": b"x"}, [0]),
        ({"tokenizer.json": SHIPPED}, [0]),
        (files, [0, 1]),
    ):
        with pytest.raises(TokenizerError, match="not the one that the model commits to"):
            Tokenizer.verified(changed, stop_ids, expected)
    with pytest.raises(TokenizerError, match=r"has no tokenizer\.json"):
        Tokenizer.verified({}, [], tokenizer_hash({}, []))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe", b'{"model": 3}'])
def test_no_tokenizer(content: bytes) -> None:
    with pytest.raises(TokenizerError, match=r"not a tokenizer\.json"):
        Tokenizer(content)
