"""Asks workers for what is behind their receipts. Sizes and times are limited before anything is believed."""

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from eth_account.signers.local import LocalAccount

from efedllm.client.errors import ClientError
from efedllm.errors import on_one_line
from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.objects import Fetch
from efedllm.protocol.records import MAX_RECORD_BYTES, Record, pack_fetch, unpack_leaves
from efedllm.protocol.vouchers import Leaf

FETCH_SECONDS = 600
"""How long a signed fetch is good for."""
MAX_LEAVES_BYTES = 1 << 28
_TIMEOUT = aiohttp.ClientTimeout(total=120, sock_connect=10, sock_read=30)


class Unanswered(ClientError):
    """A worker did not hand out what it was asked for: no answer, a refusal, or bytes that are no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """`status`: of the HTTP answer, where there was one."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Reader:
    """Who is entitled to records: a payer with its session key, or a registered verifier with its hot key."""

    address: str
    key: LocalAccount


class RecordSource:
    """HTTP to workers' endpoints. Books are open to all; records go to `reader`. Methods raise Unanswered."""

    def __init__(self, domain: eip712.Domain, reader: Reader | None = None) -> None:
        self._domain, self._reader = domain, reader
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._http is not None
        await self._http.close()

    async def leaves(self, endpoint: str, receipts_root: bytes) -> list[Leaf]:
        """Leaves under a voucher's root, as the worker tells them."""
        data = await self._ask("GET", endpoint, f"/v1/books/{receipts_root.hex()}", None, MAX_LEAVES_BYTES)
        try:
            return unpack_leaves(data)
        except ProtocolError as error:
            raise Unanswered(f"{endpoint} answered with something else than leaves: {error}") from error

    async def record(self, endpoint: str, request_id: bytes) -> Record:
        """Everything a worker keeps about a request."""
        assert self._reader is not None and self._http is not None, "records are for readers, inside `async with`"
        return await fetch_record(
            self._http, self._domain, self._reader.address, self._reader.key, endpoint, request_id
        )

    async def _ask(self, method: str, endpoint: str, path: str, body: bytes | None, limit: int) -> bytes:
        assert self._http is not None, "used inside `async with`"
        return await ask(self._http, method, endpoint, path, body, limit)


async def fetch_record(
    http: aiohttp.ClientSession,
    domain: eip712.Domain,
    reader: str,
    key: eip712.Signer,
    endpoint: str,
    request_id: bytes,
    limit: int = MAX_RECORD_BYTES,
) -> Record:
    """Everything a worker keeps about a request, of at most `limit` bytes, for `reader`. Raises Unanswered."""
    fetch = Fetch(request_id, reader, int(time.time()) + FETCH_SECONDS)
    signature = eip712.sign(domain, fetch, key)
    data = await ask(http, "POST", endpoint, "/v1/receipts", pack_fetch(fetch, signature), limit)
    try:
        return Record.unpack(data)
    except ProtocolError as error:
        raise Unanswered(f"{endpoint} answered with something else than a record: {error}") from error


async def ask(
    http: aiohttp.ClientSession, method: str, endpoint: str, path: str, body: bytes | None, limit: int
) -> bytes:
    """The body of a worker's answer, of at most `limit` bytes. Raises Unanswered."""
    if not endpoint.startswith(("http://", "https://")):
        raise Unanswered("the worker offers no service")
    try:
        # Not following redirects: who is asked is who is registered.
        async with http.request(
            method, endpoint.rstrip("/") + path, data=body, allow_redirects=False, timeout=_TIMEOUT
        ) as response:
            if response.status != 200:
                text = on_one_line((await response.content.read(200)).decode(errors="replace"))
                raise Unanswered(f"{endpoint} refused with {response.status}: {text.strip()}", response.status)
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
