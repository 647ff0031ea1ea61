"""Many transactions and questions at once to a local chain, from accounts that it holds the keys of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from efedllm.chain.batch import ask_all
from efedllm.chain.binding import Call
from efedllm.chain.events import Event, decode_log

GAS = 6_000_000
PAUSE_SECONDS = 0.03


@dataclass(frozen=True)
class Sent:
    """What became of a transaction."""

    is_done: bool
    events: tuple[Event, ...]


@dataclass(frozen=True)
class RawChain:
    """contracts: names by address, in lower case."""

    url: str
    contracts: dict[str, str]

    async def send(self, sender: str, calls: Sequence[Call]) -> list[Sent]:
        """In order, with plenty of gas; refused ones too. `Miner` mines them."""
        # A batch's questions are answered side by side, so the order has to be said.
        (nonce,) = await self._ask("eth_getTransactionCount", [[sender, "pending"]])
        numbered = [
            [{**self._transaction(sender, call), "nonce": hex(int(nonce, 16) + at)}] for at, call in enumerate(calls)
        ]
        hashes = await self._ask("eth_sendTransaction", numbered)
        found: list[Any] = [None]
        while None in found:
            await asyncio.sleep(PAUSE_SECONDS)
            found = await self._ask("eth_getTransactionReceipt", [[one] for one in hashes])
        return [Sent(one["status"] == "0x1", self._events(one["logs"])) for one in found]

    async def refused(self, sender: str, calls: Sequence[Call]) -> list[bool]:
        """Whether the newest block's state refuses each of them; nothing is sent."""
        asked = [[self._transaction(sender, call), "latest"] for call in calls]
        return [answer is None for answer in await self._ask("eth_call", asked, allow_reverts=True)]

    @staticmethod
    def _transaction(sender: str, call: Call) -> dict[str, Any]:
        return {"from": sender, "to": call.to, "data": "0x" + call.data.hex(), "gas": hex(GAS)}

    async def _ask(self, method: str, parameters: Sequence[list[Any]], allow_reverts: bool = False) -> list[Any]:
        if not parameters:
            return []
        questions = [(method, one) for one in parameters]
        return await ask_all(self.url, questions, allow_reverts=allow_reverts)

    def _events(self, logs: Sequence[dict[str, Any]]) -> tuple[Event, ...]:
        found = []
        for log in logs:
            name = self.contracts.get(log["address"].lower())
            parsed = {
                "address": log["address"],
                "topics": [_bytes(topic) for topic in log["topics"]],
                "data": _bytes(log["data"]),
                "blockNumber": int(log["blockNumber"], 16),
                "blockHash": _bytes(log["blockHash"]),
                "transactionHash": _bytes(log["transactionHash"]),
                "logIndex": int(log["logIndex"], 16),
            }
            event = decode_log(name, parsed) if name else None
            if event is not None:
                found.append(event)
        return tuple(found)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


class Miner:
    """Mines what waits, as much as there is, so that many transactions share a block."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Miner:
        await ask_all(self._url, [("evm_setAutomine", [False])])
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await ask_all(self._url, [("evm_setAutomine", [True])])

    async def _run(self) -> None:
        while True:
            (status,) = await ask_all(self._url, [("txpool_status", [])])
            if int(status["pending"], 16):
                await ask_all(self._url, [("evm_mine", [])])
            await asyncio.sleep(PAUSE_SECONDS)
