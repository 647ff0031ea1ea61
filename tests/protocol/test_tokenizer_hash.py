"""The tokenizer hash, against the definition written out by hand."""

from __future__ import annotations

from hashlib import sha256

import pytest

from efedllm.protocol.tokenizer_hash import tokenizer_hash


def test_definition() -> None:
    data = b"\x0etokenizer.json" + (2).to_bytes(8, "little") + b"{}"
    data += b"\x15tokenizer_config.json" + bytes(8)
    data += b"\x13chat_template.jinja" + (3).to_bytes(8, "little") + b"a\nb"
    data += b"\x08stop_ids" + (8).to_bytes(8, "little") + b"\x03\0\0\0" + b"\x00\x01\x00\x00"
    files = {"chat_template.jinja": b"a\nb", "tokenizer.json": b"{}"}
    assert tokenizer_hash(files, [256, 3, 256]) == sha256(data).digest()


def test_golden() -> None:
    golden = "53abd2484778191d1207f45a94130803a021e54712f11a6eafb1e4b9b7f29fe6"
    assert tokenizer_hash({"tokenizer.json": b"{}"}, []).hex() == golden


def test_every_part_counts() -> None:
    variants = [
        tokenizer_hash({"tokenizer.json": b"{}"}, [1]),
        tokenizer_hash({"tokenizer.json": b"{}"}, [2]),
        tokenizer_hash({"tokenizer.json": b"{}"}, [1, 2]),
        tokenizer_hash({"tokenizer.json": b"{ }"}, [1]),
        tokenizer_hash({"tokenizer.json": b"", "tokenizer_config.json": b"{}"}, [1]),
        tokenizer_hash({"tokenizer.json": b"{}", "chat_template.jinja": b"x"}, [1]),
    ]
    assert len(set(variants)) == len(variants)


def test_other_files_are_a_mistake() -> None:
    with pytest.raises(AssertionError, match="special_tokens_map"):
        tokenizer_hash({"special_tokens_map.json": b"{}"}, [])
