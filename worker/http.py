"""The worker's port: session websocket, health, tokenizer, and the data behind receipts for those entitled to it."""

import asyncio
import time

import msgpack
from aiohttp import web

from efedllm.errors import EfedllmError
from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.frames import MAX_FRAME_BYTES
from efedllm.protocol.objects import Fetch
from efedllm.protocol.records import Record, pack_leaves

from .context import Context
from .peer import Peer
from .service import Service

MAX_FETCH_BYTES = 4096
HEARTBEAT_SECONDS = 20.0


def application(context: Context, service: Service, tokenizer: bytes) -> web.Application:
    """`tokenizer`: the packed answer of `GET /v1/tokenizer`."""
    app = web.Application(client_max_size=MAX_FETCH_BYTES)

    async def session(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=MAX_FRAME_BYTES, compress=False, heartbeat=HEARTBEAT_SECONDS)
        await socket.prepare(request)
        await service.serve(Peer(socket))
        await socket.close()
        return socket

    async def health(_: web.Request) -> web.Response:
        offer = context.offer
        return web.json_response(
            {
                "worker": offer.worker,
                "model": "0x" + offer.model.model_id.hex(),
                "layers": [offer.start, offer.end],
                "sessions": service.session_count,
            }
        )

    async def tokenizer_files(_: web.Request) -> web.Response:
        return web.Response(body=tokenizer, content_type="application/msgpack")

    async def receipts(request: web.Request) -> web.Response:
        try:
            record = await _fetch(context, await request.read())
        except EfedllmError as error:
            return web.Response(status=403, text=str(error))
        if record is None:
            return web.Response(status=404, text="this worker holds nothing about that request")
        return web.Response(body=record.pack(), content_type="application/msgpack")

    async def books(request: web.Request) -> web.Response:
        leaves = await asyncio.to_thread(context.store.leaves_under, bytes.fromhex(request.match_info["root"]))
        if leaves is None:
            return web.Response(status=404, text="this worker holds no voucher with that root")
        return web.Response(body=pack_leaves(leaves), content_type="application/msgpack")

    app.router.add_get("/v1/session", session)
    app.router.add_get("/v1/health", health)
    app.router.add_get("/v1/tokenizer", tokenizer_files)
    app.router.add_post("/v1/receipts", receipts)
    app.router.add_get("/v1/books/{root:[0-9a-f]{64}}", books)
    return app


async def _fetch(context: Context, data: bytes) -> Record | None:
    """The record behind a `Fetch` signed by the request's session key or a registered verifier. Else ProtocolError."""
    try:
        body = msgpack.unpackb(data, raw=False, strict_map_key=True, max_ext_len=0)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolError("the body is not msgpack") from error
    if not isinstance(body, dict) or body.keys() != {"fetch", "signature"} or not isinstance(body["signature"], bytes):
        raise ProtocolError("expected a map with fetch and signature")
    fetch = Fetch.from_wire(body["fetch"])
    now = int(time.time())
    if not now < fetch.expiry <= now + 3600:
        raise ProtocolError("the fetch has expired, or expires more than an hour ahead: sign a new one")
    signer = eip712.recover(context.domain, fetch, body["signature"])
    record = await asyncio.to_thread(context.store.record, fetch.requestId)
    if record is None:
        return None
    session_key = eip712.recover(context.domain, record.request, record.request_signature)
    is_client = fetch.reader == record.request.payer and signer == session_key
    if not is_client and not await context.network.is_verifier_key(fetch.reader, signer):
        raise ProtocolError(
            f"{signer} is neither the session key of this request nor the hot key of a registered verifier"
        )
    return record
