"""Many questions to an endpoint in few requests: JSON-RPC batches, for who reads thousands of values at once."""

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp

from efedllm.chain.answers import data
from efedllm.chain.binding import Contract
from efedllm.chain.errors import ChainError, ChainUnreachable
from efedllm.strict_json import parse_json

BATCH = 100
"""Questions in a request: what public endpoints commonly accept."""
_CONCURRENT = 4
_TIMEOUT = aiohttp.ClientTimeout(total=120, sock_connect=10)

Question = tuple[str, list[Any]]
"""Method and parameters."""


async def ask_all(url: str, questions: Sequence[Question], size: int = BATCH, allow_reverts: bool = False) -> list[Any]:
    """Results in order. Raises ChainUnreachable if there is no answer, ChainError for a refusal of any question.

    With `allow_reverts`, None stands for the result of a call that the contract refused.
    """
    slots = asyncio.Semaphore(_CONCURRENT)
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as http:

        async def ask(part: Sequence[Question]) -> list[Any]:
            async with slots:
                return await _ask(http, url, part, allow_reverts)

        parts = [questions[at : at + size] for at in range(0, len(questions), size)]
        return [result for results in await asyncio.gather(*map(ask, parts)) for result in results]


async def read_all(
    contract: Contract, block: int, calls: Sequence[tuple[str, tuple[object, ...]]]
) -> list[tuple[Any, ...]]:
    """What view functions of a contract return at `block`: all values of each call, in order."""
    answers = await ask_all(contract.rpc.url, _questions(contract, block, calls))
    return [_values(contract, call, answer) for call, answer in zip(calls, answers, strict=True)]


async def read_some(
    contract: Contract, block: int, calls: Sequence[tuple[str, tuple[object, ...]]]
) -> list[tuple[Any, ...] | None]:
    """Like `read_all`, with None for each call that reverts."""
    answers = await ask_all(contract.rpc.url, _questions(contract, block, calls), allow_reverts=True)
    return [
        None if answer is None else _values(contract, call, answer) for call, answer in zip(calls, answers, strict=True)
    ]


def _questions(contract: Contract, block: int, calls: Sequence[tuple[str, tuple[object, ...]]]) -> list[Question]:
    interface = contract.interface
    return [
        (
            "eth_call",
            [
                {"to": contract.address, "data": "0x" + interface.encode_call(function, *arguments).hex()},
                hex(block),
            ],
        )
        for function, arguments in calls
    ]


def _values(contract: Contract, call: tuple[str, tuple[object, ...]], answer: str) -> tuple[Any, ...]:
    try:
        result = data(answer)
    except ValueError as error:
        raise ChainUnreachable(contract.rpc.url, "its answer to eth_call makes no sense") from error
    return contract.interface.decode_result(call[0], result)


async def transaction_inputs(url: str, hashes: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """Receiver (empty for a creation) and input of each transaction. Raises ChainError if one is unknown."""
    found = await ask_all(url, [("eth_getTransactionByHash", ["0x" + one.hex()]) for one in hashes])
    for one, transaction in zip(hashes, found, strict=True):
        if transaction is None:
            raise ChainError(f"the chain at {url} does not know transaction 0x{one.hex()}: ask an archive node")
    try:
        return [(str(transaction["to"] or ""), data(transaction["input"])) for transaction in found]
    except (KeyError, TypeError, ValueError) as error:
        raise ChainUnreachable(url, "its answer to eth_getTransactionByHash makes no sense") from error


async def _ask(http: aiohttp.ClientSession, url: str, questions: Sequence[Question], allow_reverts: bool) -> list[Any]:
    body = [
        {"jsonrpc": "2.0", "id": at, "method": method, "params": parameters}
        for at, (method, parameters) in enumerate(questions)
    ]
    try:
        async with http.post(url, json=body) as response:
            answers = parse_json(await response.read())
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise ChainUnreachable(url, str(error) or type(error).__name__) from error
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        raise ChainError(f"the chain at {url} does not answer batches of questions: use another endpoint")
    by_id = {answer["id"]: answer for answer in answers if isinstance(answer.get("id"), int)}
    results: list[Any] = []
    for at, (method, _) in enumerate(questions):
        answer = by_id.get(at, {"error": {"message": "no answer"}})
        if "result" not in answer:
            told = answer.get("error")
            message = told.get("message", "no reason given") if isinstance(told, dict) else "no reason given"
            # Every node says so in words; not all of them use the code 3 for it.
            if allow_reverts and method == "eth_call" and "revert" in str(message).lower():
                results.append(None)
                continue
            raise ChainError(f"the chain at {url} refused {method}: {message}")
        results.append(answer["result"])
    return results
