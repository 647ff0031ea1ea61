"""Asks workers for what is behind their receipts. Sizes and times are limited before anything is believed."""

import time
from types import TracebackType
from typing import Self

import aiohttp
import msgpack
from eth_account.signers.local import LocalAccount

from efedllm.protocol import eip712
from efedllm.protocol.drawing import Entry
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.objects import Fetch
from efedllm.protocol.records import MAX_RECORD_BYTES, Record, unpack_leaves
from efedllm.protocol.vouchers import Leaf

from .errors import Unanswered

FETCH_SECONDS = 600
"""How long a signed fetch is good for."""
MAX_LEAVES_BYTES = 1 << 26
_TIMEOUT = aiohttp.ClientTimeout(total=120, sock_connect=10, sock_read=30)


class Workers:
    """HTTP to workers' endpoints, as one reader who is entitled to their records. Raises Unanswered."""

    def __init__(self, domain: eip712.Domain, reader: str, hot_key: LocalAccount) -> None:
        self._domain, self._reader, self._hot_key = domain, reader, hot_key
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._http is not None
        await self._http.close()

    async def leaves(self, endpoint: str, entry: Entry) -> list[Leaf]:
        """Leaves of the book that a claim's entry was paid from."""
        path = f"/v1/books/{entry.payer}/{entry.session_key}/{entry.epoch}/{entry.total}"
        data = await self._ask("GET", endpoint, path, None, MAX_LEAVES_BYTES)
        try:
            return unpack_leaves(data)
        except ProtocolError as error:
            raise Unanswered(f"{endpoint} answered with something else than leaves: {error}") from error

    async def record(self, endpoint: str, request_id: bytes) -> Record:
        """Everything a worker keeps about a request."""
        fetch = Fetch(request_id, self._reader, int(time.time()) + FETCH_SECONDS)
        signature = eip712.sign(self._domain, fetch, self._hot_key)
        body: bytes = msgpack.packb({"fetch": fetch.to_wire(), "signature": signature})
        data = await self._ask("POST", endpoint, "/v1/receipts", body, MAX_RECORD_BYTES)
        try:
            return Record.unpack(data)
        except ProtocolError as error:
            raise Unanswered(f"{endpoint} answered with something else than a record: {error}") from error

    async def _ask(self, method: str, endpoint: str, path: str, body: bytes | None, limit: int) -> bytes:
        assert self._http is not None, "used inside `async with`"
        if not endpoint.startswith(("http://", "https://")):
            raise Unanswered("the worker offers no service")
        try:
            # Not following redirects: who is asked is who is registered.
            async with self._http.request(
                method, endpoint.rstrip("/") + path, data=body, allow_redirects=False
            ) as response:
                if response.status != 200:
                    text = (await response.content.read(200)).decode(errors="replace")
                    raise Unanswered(f"{endpoint} refused with {response.status}: {' '.join(text.split())}")
                return await _read(response, endpoint, limit)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unanswered(f"{endpoint} does not answer ({str(error) or type(error).__name__})") from error


async def _read(response: aiohttp.ClientResponse, endpoint: str, limit: int) -> bytes:
    """The body, given up as soon as it is longer than `limit`."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > limit:
            raise Unanswered(f"{endpoint} answered with more than the {limit} bytes allowed")
        parts.append(part)
    return b"".join(parts)
