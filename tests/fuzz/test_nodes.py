"""What a node answers in bulk or too deep: an error of ours, and never the end of the process."""

import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from efedllm.chain.batch import ask_all, transaction_inputs
from efedllm.chain.errors import ChainError
from tests.fuzz.target import check_error

BODIES = {
    "deep": b"[" * 100_000,
    "no list": b'{"jsonrpc": "2.0"}',
    "no maps": b"[1]",
    "id is a list": b'[{"id": [], "result": null}]',
    "error is text": b'[{"id": 0, "error": "no"}]',
    "error is null": b'[{"id": 0, "error": null}]',
    "result is text": b'[{"id": 0, "result": "x"}]',
    "no input": b'[{"id": 0, "result": {"to": null}}]',
    "input is no hex": b'[{"id": 0, "result": {"to": null, "input": "0xzz"}}]',
    "message of many lines": b'[{"id": 0, "error": {"message": "a\\nb\\u001b[2J"}}]',
}


@pytest.fixture(params=BODIES)
async def node(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=BODIES[request.param])

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_transactions_that_make_no_sense(node: str) -> None:
    with pytest.raises(ChainError) as caught:
        await transaction_inputs(node, [bytes(32)])
    check_error(caught.value)


async def test_answers_that_are_none() -> None:
    with pytest.raises(ChainError):
        await ask_all("http://127.0.0.1:1", [("eth_chainId", [])])


def test_a_deep_answer_ends_no_process() -> None:
    code = (
        "import asyncio, web3\nfrom efedllm.chain.rpc import Provider\n"
        "try:\n    Provider.decode_rpc_response(b'[' * 100_000)\nexcept ValueError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "deep" in done.stdout, (done.returncode, done.stderr)
