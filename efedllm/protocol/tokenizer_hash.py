"""The hash that binds a model's tokenizer, chat template and stop ids into its id.

    sha256(E("tokenizer.json") || E("tokenizer_config.json") || E("chat_template.jinja") || E("stop_ids"))
    E(name) = uint8 length of name || name in ASCII || uint64 length of content || content

Integers are little-endian. The content of a file is its bytes, empty for a file that the model does not have; that of
`stop_ids` is each id as uint32, ascending, without repetition.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def tokenizer_hash(files: Mapping[str, bytes], stop_ids: Iterable[int]) -> bytes:
    """`files`: content by name of those of `TOKENIZER_FILES` that the model has; no other names."""
    assert files.keys() <= set(TOKENIZER_FILES), f"unknown tokenizer files {sorted(files)}"
    contents = [(name, files.get(name, b"")) for name in TOKENIZER_FILES]
    contents.append(("stop_ids", b"".join(token.to_bytes(4, "little") for token in sorted(set(stop_ids)))))
    digest = sha256()
    for name, content in contents:
        digest.update(bytes((len(name),)) + name.encode("ascii") + len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.digest()
