"""A model's tokenizer in the client: text to ids and ids to text, without torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tokenizers import Tokenizer as FastTokenizer

from efedllm.client.errors import TokenizerError
from efedllm.errors import on_one_line
from efedllm.protocol.tokenizer_hash import tokenizer_hash

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What bytes decode to while they are no whole character."""


@contextmanager
def _own_errors(what: str) -> Iterator[None]:
    """The library raises plain Exception; a panic inside it is not even that."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = on_one_line(str(error)[:200])
        raise TokenizerError(f"{what} ({reason}); choose another model") from error


class Tokenizer:
    """Text to token ids and back."""

    def __init__(self, tokenizer_json: bytes, stop_ids: Iterable[int] = ()) -> None:
        """tokenizer_json: content of tokenizer.json. Raises TokenizerError when it is not one."""
        with _own_errors("not a tokenizer.json"):
            self._tokenizer = FastTokenizer.from_buffer(tokenizer_json)
        self.stop_ids = frozenset(stop_ids)

    @classmethod
    def verified(cls, files: Mapping[str, bytes], stop_ids: Sequence[int], expected_hash: bytes) -> "Tokenizer":
        """From a stranger's files. Raises TokenizerError unless files and stop ids have the hash in the model's id."""
        if tokenizer_hash(files, stop_ids) != expected_hash:
            raise TokenizerError("the tokenizer is not the one that the model commits to; ask another worker for it")
        if "tokenizer.json" not in files:
            raise TokenizerError("the model has no tokenizer.json; it cannot be asked in text")
        return cls(files["tokenizer.json"], stop_ids)

    @property
    def vocab(self) -> int:
        """Number of ids, added ones included."""
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, with the special tokens that the tokenizer adds by itself. Raises TokenizerError."""
        with _own_errors("the model's tokenizer cannot encode this text"):
            return self._tokenizer.encode(text).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, without special tokens. Raises TokenizerError."""
        with _own_errors("the model's tokenizer cannot decode these ids"):
            return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def stream(self) -> "TextStream":
        """For decoding ids one by one as they arrive."""
        return TextStream(self)


class TextStream:
    """Text of a growing list of ids. A character whose bytes are split over tokens arrives whole.

    What `push` and `finish` return, joined, is `decode` of all ids (unless these hold broken UTF-8, which tokenizers
    repair in hindsight). Only the last tokens are decoded again, so a long answer costs no more per token.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # the last ids whose text was sent, as context, and those that wait
        self._waiting = 0  # where the latter begin
        self._sent = ""  # text of the context

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is incomplete."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        piece = text[len(self._sent) :]
        # Without text of its own (a special token) an id is no context: decoders trim the start of a text.
        if not piece or text.endswith(REPLACEMENT):
            return ""
        self._ids = self._ids[self._waiting :]
        self._waiting = len(self._ids)
        self._sent = self._tokenizer.decode(self._ids)
        return piece

    def finish(self) -> str:
        """What is left at the end of the ids, an incomplete character included."""
        piece = self._tokenizer.decode(self._ids)[len(self._sent) :]
        self._ids, self._waiting, self._sent = [], 0, ""
        return piece
