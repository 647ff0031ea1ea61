"""A model's tokenizer files, from whichever worker has them: believed only with the hash that the model commits to."""

import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiohttp

from efedllm.client.errors import ModelError, TokenizerError
from efedllm.client.peer import UNREACHABLE
from efedllm.client.tokenizer import Tokenizer
from efedllm.protocol import packing
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.tokenizer_hash import TOKENIZER_FILES

log = logging.getLogger("efedllm.client")

MAX_BYTES = 3 << 26
FETCH_SECONDS = 60.0


@dataclass(frozen=True)
class ModelFiles:
    """Content by name of those of `TOKENIZER_FILES` that the model has, and the ids that end an answer."""

    files: dict[str, bytes]
    stop_ids: tuple[int, ...]
    tokenizer: Tokenizer

    @classmethod
    def unpack(cls, data: bytes, expected_hash: bytes) -> Self:
        """From the answer of `GET /v1/tokenizer`. Raises TokenizerError unless it is what the model commits to."""
        try:
            body = packing.unpack(data)
        except ProtocolError as error:
            raise TokenizerError(f"the answer with the tokenizer files {error}") from error
        if not isinstance(body, dict) or list(body) != ["files", "stop_ids"]:
            raise TokenizerError("the tokenizer files are not a map with files and stop_ids")
        files, stop_ids = body["files"], body["stop_ids"]
        if not isinstance(files, dict) or not files.keys() <= set(TOKENIZER_FILES):
            raise TokenizerError(f"the tokenizer files are others than {', '.join(TOKENIZER_FILES)}")
        if not all(isinstance(content, bytes) for content in files.values()):
            raise TokenizerError("the tokenizer files are not bytes")
        if not isinstance(stop_ids, list) or not all(type(token) is int and 0 <= token < 1 << 32 for token in stop_ids):
            raise TokenizerError("the stop ids are not a list of token ids")
        if stop_ids != sorted(set(stop_ids)) or list(files) != [name for name in TOKENIZER_FILES if name in files]:
            raise TokenizerError("the tokenizer files or the stop ids are not in order")
        return cls(files, tuple(stop_ids), Tokenizer.verified(files, stop_ids, expected_hash))

    def pack(self) -> bytes:
        return packing.pack({"files": self.files, "stop_ids": list(self.stop_ids)})

    @property
    def chat_template(self) -> str | None:
        """The Jinja source of the model's chat template, if it has one."""
        source = self.files.get("chat_template.jinja")
        return None if source is None else source.decode("utf-8", "replace")


async def model_files(
    http: aiohttp.ClientSession, data_dir: Path, expected_hash: bytes, endpoints: list[str]
) -> ModelFiles:
    """From the data directory, else from the first endpoint that has them. Raises ModelError with the last failure."""
    path = data_dir / "tokenizers" / f"{expected_hash.hex()}.msgpack"
    try:
        return ModelFiles.unpack(path.read_bytes(), expected_hash)
    except (OSError, TokenizerError):
        reason = "no worker offers the model"  # not there, or damaged: it is fetched again
    for endpoint in endpoints:
        try:
            found = ModelFiles.unpack(await _fetch(http, endpoint), expected_hash)
        except (ModelError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            reason = f"{endpoint}: {error or UNREACHABLE}"
            continue
        _keep(path, found.pack())
        return found
    raise ModelError(f"the model's tokenizer cannot be had ({reason}): try again when other workers are there")


async def _fetch(http: aiohttp.ClientSession, endpoint: str) -> bytes:
    timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
    url = endpoint.rstrip("/") + "/v1/tokenizer"
    # Who is asked is who is registered, and what is counted is what takes memory: no redirects, nothing unpacked.
    async with http.get(url, timeout=timeout, allow_redirects=False, auto_decompress=False) as response:
        if response.status != 200:
            raise ModelError(f"it refused with {response.status}")
        data = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            data += chunk
            if len(data) > MAX_BYTES:
                raise ModelError(f"the tokenizer files are larger than {MAX_BYTES} bytes")
        return bytes(data)


def _keep(path: Path, data: bytes) -> None:
    """For next time; a disk that refuses costs no more than another download."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(data)
        os.replace(file.name, path)
    except OSError as error:
        log.warning("cannot keep the tokenizer in %s: %s", path, error.strerror)
