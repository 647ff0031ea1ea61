"""A chain endpoint that misbehaves on demand: a real socket in front of a real Anvil.

    with RpcProxy(anvil.url) as proxy:
        proxy.cut()          # connections are reset until `restore()`
        proxy.lag(3)         # every answer comes from a node that is three blocks behind

Faults stay until `restore()`, unless a number of `times` is given. Several can be active; the newest is asked first.
What happens `every` so many requests happens to one of each so many, in places drawn alike in every run: with a fixed
period, somebody who asks again and again would meet it in the same place for ever.
Usable from tests with and without an event loop, and from child processes through `url`.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Forward = Callable[[str, list[Any]], dict[str, Any]]
"""Asks the chain behind the proxy: the answer's `result` or `error`, as a map."""

LATEST = ("latest", "pending", "safe", "finalized")
# Where a method's parameters name a block.
BLOCK_PARAMETER = {
    "eth_call": 1,
    "eth_estimateGas": 1,
    "eth_getBalance": 1,
    "eth_getCode": 1,
    "eth_getTransactionCount": 1,
    "eth_getStorageAt": 2,
    "eth_getBlockByNumber": 0,
}


class Dropped(Exception):
    """The connection ends without an answer."""


class Raw(Exception):
    """These bytes are the whole body of the answer."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        super().__init__(body)
        self.body, self.status = body, status


@dataclass
class Fault:
    """`answer` says what comes instead of the chain's own answer; it may call `forward`, or raise Dropped or Raw."""

    answer: Callable[[str, list[Any], Forward], dict[str, Any]]
    methods: frozenset[str]
    times: int | None
    every: int = 1
    seen: int = 0
    _place: int = 0
    _choose: random.Random = field(default_factory=lambda: random.Random(0))

    def applies(self, method: str) -> bool:
        """Counts a request that it could answer; called once for each."""
        if (self.methods and method not in self.methods) or self.times == 0:
            return False
        if self.seen % self.every == 0:
            self._place = self._choose.randrange(self.every)
        is_hit = self.seen % self.every == self._place
        self.seen += 1
        if not is_hit:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class RpcProxy:
    """`requests` holds every (method, parameters) that came in, in order. `upstream` may be exchanged at any time."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.requests: list[tuple[str, list[Any]]] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="rpc-proxy")
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()
        self._server.shutdown()
        self._server.server_close()

    # faults

    def restore(self) -> None:
        """Every fault ends; connections that hang are dropped."""
        with self._lock:
            self._faults.clear()
            self._released.set()
            self._released = threading.Event()

    def cut(self, *methods: str, times: int | None = None) -> None:
        """Connections are reset without an answer, and nothing reaches the chain."""

        def answer(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
            raise Dropped

        self.add(answer, methods, times)

    def hang(self, *methods: str, times: int | None = None) -> None:
        """Requests are taken and never answered; nothing reaches the chain."""
        released = self._released

        def answer(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
            released.wait()
            raise Dropped

        self.add(answer, methods, times)

    def delay(self, seconds: float, *methods: str, times: int | None = None) -> None:
        """Answers come `seconds` late."""
        released = self._released

        def answer(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
            released.wait(seconds)
            return forward(method, parameters)

        self.add(answer, methods, times)

    def lose_answers(self, *methods: str, times: int | None = None) -> None:
        """The chain does what is asked, and its answer gets lost."""

        def answer(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
            forward(method, parameters)
            raise Dropped

        self.add(answer, methods, times)

    def drop_transactions(self, times: int | None = None) -> None:
        """Transactions are acknowledged with their hash and forgotten: they never reach the chain."""

        def answer(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
            from eth_utils.crypto import keccak

            return {"result": "0x" + keccak(bytes.fromhex(parameters[0][2:])).hex()}

        self.add(answer, ("eth_sendRawTransaction",), times)

    def refuse(self, *methods: str, message: str = "no", code: int = -32000, times: int | None = None) -> None:
        """A JSON-RPC error instead of a result; nothing reaches the chain."""

        def answer(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
            return {"error": {"code": code, "message": message}}

        self.add(answer, methods, times)

    def corrupt(self, garbage: object, *methods: str, times: int | None = None) -> None:
        """`garbage` instead of the result; as bytes, instead of the whole body."""

        def answer(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
            if isinstance(garbage, bytes):
                raise Raw(garbage)
            return {"result": garbage}

        self.add(answer, methods, times)

    def fail(self, status: int, *methods: str, times: int | None = None) -> None:
        """An HTTP error, as busy endpoints give: 429, 502, 503."""

        def answer(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
            raise Raw(b"busy", status)

        self.add(answer, methods, times)

    def change_chain_id(self, chain_id: int) -> None:
        """The endpoint says that it serves another chain."""

        def answer(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
            return {"result": str(chain_id) if method == "net_version" else hex(chain_id)}

        self.add(answer, ("eth_chainId", "net_version"), None)

    def lag(self, blocks: int, every: int = 1) -> None:
        """One of `every` requests is answered by a node that is `blocks` behind the others.

        As real nodes do, it clips the range of `eth_getLogs` without a word.
        """

        def answer(method: str, parameters: list[Any], forward: Forward) -> dict[str, Any]:
            return _behind(method, parameters, forward, blocks)

        self.add(answer, (), None, every)

    def add(
        self,
        answer: Callable[[str, list[Any], Forward], dict[str, Any]],
        methods: Sequence[str] = (),
        times: int | None = None,
        every: int = 1,
    ) -> None:
        """Any other fault, for all `methods` if none is named."""
        with self._lock:
            self._faults.insert(0, Fault(answer, frozenset(methods), times, every))

    # the server's side

    def count(self, method: str) -> int:
        """How often `method` was asked for."""
        return sum(name == method for name, _ in self.requests)

    def answer(self, method: str, parameters: list[Any]) -> dict[str, Any]:
        with self._lock:
            self.requests.append((method, parameters))
            fault = next((fault for fault in self._faults if fault.applies(method)), None)
        return fault.answer(method, parameters, self.forward) if fault else self.forward(method, parameters)

    def forward(self, method: str, parameters: list[Any]) -> dict[str, Any]:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
        request = urllib.request.Request(self.upstream, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
        except (OSError, ValueError) as error:
            raise Dropped from error
        return {key: answer[key] for key in ("result", "error") if key in answer}


def _behind(method: str, parameters: list[Any], forward: Forward, blocks: int) -> dict[str, Any]:
    """The answer of a node whose newest block is `blocks` below the chain's."""
    head = max(0, int(forward("eth_blockNumber", [])["result"], 16) - blocks)
    unknown = {"error": {"code": -32000, "message": "header not found"}}
    if method == "eth_blockNumber":
        return {"result": hex(head)}
    if method == "eth_getLogs":
        wanted = dict(parameters[0])
        if "blockHash" in wanted:
            block = forward("eth_getBlockByHash", [wanted["blockHash"], False])["result"]
            if block is None or int(block["number"], 16) > head:
                return unknown
            return forward(method, parameters)
        if int(wanted["fromBlock"], 16) > head:
            return {"result": []}
        wanted["toBlock"] = hex(min(head, int(wanted["toBlock"], 16)))
        return forward(method, [wanted])
    if method in BLOCK_PARAMETER:
        at = BLOCK_PARAMETER[method]
        given = list(parameters) + ["latest"] * (at + 1 - len(parameters))
        if given[at] in LATEST:
            given[at] = hex(head)
        elif isinstance(given[at], str) and given[at].startswith("0x") and int(given[at], 16) > head:
            return {"result": None} if method == "eth_getBlockByNumber" else unknown
        return forward(method, given)
    answer = forward(method, parameters)
    if method in ("eth_getTransactionReceipt", "eth_getTransactionByHash", "eth_getBlockByHash"):
        found = answer.get("result") or {}
        number = found.get("number") or found.get("blockNumber")
        if number is not None and int(number, 16) > head:
            return {"result": None}
    return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the proxy's errors."""


def _handler(proxy: RpcProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                if isinstance(body, list):
                    answer: object = [self._one(question) for question in body]
                else:
                    answer = self._one(body)
            except Dropped:
                self._reset()
            except Raw as raw:
                self._send(raw.body, raw.status)
            else:
                self._send(json.dumps(answer).encode(), 200)

        def _one(self, question: dict[str, Any]) -> dict[str, Any]:
            answer = proxy.answer(question["method"], question.get("params", []))
            return {"jsonrpc": "2.0", "id": question["id"], **answer}

        def _send(self, body: bytes, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _reset(self) -> None:
            """End the connection as a crash does, not in order."""
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: object) -> None:
            """Tests look at `requests` instead."""

    return Handler


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Until something is so in another process or thread. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError("it never came to be so")
        time.sleep(0.01)
