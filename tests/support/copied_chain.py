"""A copy of a chain's history behind an endpoint of its own: what the chain answers, with whatever is planted in it.

Answers are kept, so that the chain itself is asked for everything once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from eth_utils.address import to_checksum_address

from efedllm.chain.abi import Signature, decode_values, encode_values, interface
from efedllm.chain.deployment import Deployment
from efedllm.chain.errors import LocalChainError
from efedllm.chain.events import Event, decode_log
from efedllm.chain.local import rpc
from tests.support.small_server import Handler, SmallServer

Events = list[Event]
Values = tuple[Any, ...]


@dataclass
class Planted:
    """What is wrong in the copy; the defaults leave it as it is.

    `events`: the whole history before and after; `reads`: by contract and view function, from its arguments and values
    to other values; `inputs`: a transaction's input, by its hash.
    """

    events: Callable[[Events], Events] = list
    reads: Mapping[tuple[str, str], Callable[[Values, Values], Values]] = field(default_factory=dict)
    inputs: Callable[[bytes, bytes], bytes] = lambda transaction, data: data


class CopiedChain(SmallServer):
    """Serves the copy of one deployment's chain until the end of the `with` block."""

    def __init__(self, url: str, deployment: Deployment) -> None:
        self.planted = Planted()
        self._origin = url
        self._names = deployment.contracts.names()
        self._kept: dict[str, Any] = {}
        self._logs_of: dict[Event, dict[str, Any]] = {}
        self._history: Events = []
        copied = self

        class Answers(Handler):
            def do_POST(self) -> None:
                asked = json.loads(self.body())
                answers = [copied._answer(one) for one in (asked if isinstance(asked, list) else [asked])]
                body = json.dumps(answers if isinstance(asked, list) else answers[0]).encode()
                self.answer(body, "application/json")

        super().__init__(Answers)

    def events(self) -> Events:
        """The history as it is."""
        if not self._history:
            logs = self._ask("eth_getLogs", [{"address": list(self._names), "fromBlock": "0x0", "toBlock": "latest"}])
            found = [decode_log(self._names[to_checksum_address(log["address"])], _typed(log)) for log in logs]
            self._history = [event for event in found if event is not None]
        return list(self._history)

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        method, params = question["method"], question["params"]
        result = self._ask(method, params)
        if isinstance(result, Exception):
            return {"jsonrpc": "2.0", "id": question["id"], "error": {"code": 3, "message": str(result)}}
        if method == "eth_getLogs":
            result = self._logs(params[0])
        elif method == "eth_getTransactionByHash" and result is not None:
            data = bytes.fromhex(result["input"][2:])
            result = result | {"input": "0x" + self.planted.inputs(bytes.fromhex(params[0][2:]), data).hex()}
        elif method == "eth_call":
            result = self._call(params[0], result)
        return {"jsonrpc": "2.0", "id": question["id"], "result": result}

    def _ask(self, method: str, params: list[Any]) -> Any:
        key = json.dumps([method, params])
        if key not in self._kept:
            try:
                self._kept[key] = rpc(self._origin, method, *params)
            except LocalChainError as refusal:
                self._kept[key] = refusal
        return self._kept[key]

    def _logs(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        addresses = {address.lower() for address in asked["address"]}
        if "blockHash" in asked:
            first = last = int(self._ask("eth_getBlockByHash", [asked["blockHash"], False])["number"], 16)
        else:
            first, last = int(asked["fromBlock"], 16), int(asked["toBlock"], 16)
        return [
            log
            for log in (self._log(event) for event in self.planted.events(self.events()))
            if first <= int(log["blockNumber"], 16) <= last and log["address"].lower() in addresses
        ]

    def _log(self, event: Event) -> dict[str, Any]:
        if event not in self._logs_of:
            self._logs_of[event] = self._encode(event)
        return self._logs_of[event]

    def _encode(self, event: Event) -> dict[str, Any]:
        """A raw log that decodes to `event`."""
        origin = event.origin
        signature = _signature_of(self._names[to_checksum_address(origin.contract)], type(event).__name__)
        values = [getattr(event, item.name) for item in fields(event)[1:]]
        pairs = list(zip(signature.inputs, values, strict=True))
        topics = [signature.hash, *(encode_values([item], [value]) for item, value in pairs if item["indexed"])]
        plain = [(item, value) for item, value in pairs if not item["indexed"]]
        data = encode_values([item for item, _ in plain], [value for _, value in plain])
        return {
            "address": origin.contract,
            "topics": ["0x" + topic.hex() for topic in topics],
            "data": "0x" + data.hex(),
            "blockNumber": hex(origin.block_number),
            "blockHash": "0x" + origin.block_hash.hex(),
            "transactionHash": "0x" + origin.transaction_hash.hex(),
            "transactionIndex": "0x0",
            "logIndex": hex(origin.log_index),
            "removed": False,
        }

    def _call(self, call: dict[str, Any], result: str) -> str:
        name = self._names.get(to_checksum_address(call["to"]))
        data = bytes.fromhex((call.get("data") or call["input"])[2:])
        if name is None:
            return result
        compiled = interface(name)
        signature = next(one for one in compiled.functions.values() if one.hash[:4] == data[:4])
        change = self.planted.reads.get((name, signature.name))
        if change is None:
            return result
        arguments = decode_values(signature.inputs, data[4:])
        values = change(arguments, compiled.decode_result(signature.name, bytes.fromhex(result[2:])))
        return "0x" + encode_values(signature.outputs, values).hex()


def _signature_of(contract: str, event: str) -> Signature:
    return next(one for one in interface(contract).events.values() if one.name == event)


def _typed(log: dict[str, Any]) -> dict[str, Any]:
    """A log as web3 would hand it over."""
    return {
        "address": to_checksum_address(log["address"]),
        "topics": [bytes.fromhex(topic[2:]) for topic in log["topics"]],
        "data": bytes.fromhex(log["data"][2:]),
        "blockNumber": int(log["blockNumber"], 16),
        "logIndex": int(log["logIndex"], 16),
        "blockHash": bytes.fromhex(log["blockHash"][2:]),
        "transactionHash": bytes.fromhex(log["transactionHash"][2:]),
    }
