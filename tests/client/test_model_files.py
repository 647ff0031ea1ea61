"""Tokenizer files from strangers: taken only if they are those of the model."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest
from aiohttp import web

from efedllm.client import model_files as module
from efedllm.client.errors import ModelError, TokenizerError
from efedllm.client.model_files import ModelFiles, model_files
from efedllm.protocol.tokenizer_hash import tokenizer_hash
from tests.client.memory import TOKENIZER_JSON

FILES = {"tokenizer.json": TOKENIZER_JSON, "chat_template.jinja": b"{{ messages }}"}
STOP_IDS = [3, 7]
HASH = tokenizer_hash(FILES, STOP_IDS)
BODY: dict[str, Any] = {"files": FILES, "stop_ids": STOP_IDS}


@asynccontextmanager
async def server(answer: Callable[[], web.StreamResponse]) -> AsyncIterator[str]:
    async def handle(_: web.Request) -> web.StreamResponse:
        return answer()

    app = web.Application()
    app.router.add_get("/v1/tokenizer", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def right() -> web.Response:
    return web.Response(body=msgpack.packb(BODY))


async def fetch(data_dir: Path, *endpoints: str) -> ModelFiles:
    async with aiohttp.ClientSession() as http:
        return await model_files(http, data_dir, HASH, list(endpoints))


async def test_fetched_once_and_kept(tmp_path: Path) -> None:
    asked = 0

    def answer() -> web.Response:
        nonlocal asked
        asked += 1
        return right()

    async with server(answer) as url:
        found = await fetch(tmp_path, url)
        assert (found.files, found.stop_ids, found.chat_template) == (FILES, (3, 7), "{{ messages }}")
        assert found.tokenizer.decode(found.tokenizer.encode("To be")) == "To be"
        assert (await fetch(tmp_path, url)).files == FILES
    assert asked == 1
    assert (await fetch(tmp_path)).files == FILES


async def test_a_damaged_copy_is_fetched_again(tmp_path: Path) -> None:
    async with server(right) as url:
        await fetch(tmp_path, url)
        (path,) = (tmp_path / "tokenizers").iterdir()
        path.write_bytes(path.read_bytes()[:-1] + b"\x09")
        assert (await fetch(tmp_path, url)).stop_ids == (3, 7)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: web.Response(status=404), "404"),
        (lambda: web.Response(body=b"\xc1"), "not msgpack"),
        (lambda: web.Response(body=msgpack.packb(BODY | {"stop_ids": [3]})), "not the one that the model commits to"),
    ],
)
async def test_another_worker_is_asked(tmp_path: Path, answer: Callable[[], web.StreamResponse], reason: str) -> None:
    async with server(answer) as bad, server(right) as good:
        assert (await fetch(tmp_path / "first", "http://127.0.0.1:9", bad, good)).files == FILES
        with pytest.raises(ModelError, match=f"tokenizer cannot be had.*{reason}"):
            await fetch(tmp_path / "second", bad)


async def test_nobody_to_ask(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no worker offers the model"):
        await fetch(tmp_path)


async def test_size_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    async with server(right) as url:
        with pytest.raises(ModelError, match="larger than 1000 bytes"):
            await fetch(tmp_path, url)


async def test_a_disk_that_refuses_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "tokenizers").write_text("a file where the folder belongs")
    async with server(right) as url:
        assert (await fetch(tmp_path, url)).files == FILES


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not msgpack"),
        ([1], "not a map"),
        ({"files": FILES}, "not a map with files and stop_ids"),
        (BODY | {"more": 1}, "not a map with files and stop_ids"),
        (BODY | {"files": [1]}, "others than"),
        (BODY | {"files": {"../evil": b""}}, "others than"),
        (BODY | {"files": {"tokenizer.json": "text"}}, "not bytes"),
        (BODY | {"stop_ids": 3}, "not a list of token ids"),
        (BODY | {"stop_ids": [-1]}, "not a list of token ids"),
        (BODY | {"stop_ids": [1 << 32]}, "not a list of token ids"),
        (BODY | {"stop_ids": [True]}, "not a list of token ids"),
        (BODY | {"stop_ids": ["x"]}, "not a list of token ids"),
        (BODY | {"files": {"tokenizer.json": b"{}"}}, "not the one that the model commits to"),
    ],
)
def test_refused(body: object, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        ModelFiles.unpack(body if isinstance(body, bytes) else msgpack.packb(body), HASH)
