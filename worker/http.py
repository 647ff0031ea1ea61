"""The worker's port: sessions, health, tokenizer, vouchers, and the data behind receipts for those entitled to it."""

import asyncio
import time

from aiohttp import web
from eth_utils.address import to_checksum_address

from efedllm.errors import EfedllmError
from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.frames import MAX_FRAME_BYTES
from efedllm.protocol.packing import pack
from efedllm.protocol.records import Record, pack_leaves, unpack_fetch

from .context import Context
from .errors import StoreError
from .healing import MAX_HEALING_BYTES, heal, parse_proofs
from .peer import Peer
from .service import Service

MAX_FETCH_BYTES = 4096
HEARTBEAT_SECONDS = 20.0


def application(context: Context, service: Service, tokenizer: bytes) -> web.Application:
    """`tokenizer`: the packed answer of `GET /v1/tokenizer`."""
    app = web.Application(client_max_size=MAX_FETCH_BYTES)

    def refusal(error: EfedllmError) -> web.Response:
        code, message = service.explain(error)
        return web.Response(status=503 if code in ("busy", "internal") else 403, text=message)

    async def session(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=MAX_FRAME_BYTES, compress=False, heartbeat=HEARTBEAT_SECONDS)
        await socket.prepare(request)
        peer = Peer(socket)
        await service.serve(peer)
        await peer.close()
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
            return refusal(error)
        if record is None:
            return web.Response(status=404, text="this worker holds nothing about that request")
        if not await asyncio.to_thread(context.store.kept.is_whole, eip712.digest(context.domain, record.request)):
            return web.Response(status=404, text="nobody can dispute that request any more: its rows were deleted")
        return web.Response(body=record.pack(), content_type="application/msgpack")

    async def voucher(request: web.Request) -> web.Response:
        asked = request.match_info
        payer, session_key = to_checksum_address(asked["payer"]), to_checksum_address(asked["key"])
        try:
            held = await asyncio.to_thread(context.store.best_voucher, payer, session_key, int(asked["epoch"]))
        except StoreError as error:
            return refusal(error)
        if held is None:
            return web.Response(status=404, text="this worker holds no voucher of that channel and epoch")
        return _packed({"voucher": held.voucher.to_wire(), "signature": held.signature})

    async def vouchers(request: web.Request) -> web.Response:
        try:
            proofs = parse_proofs(await _read(request, MAX_HEALING_BYTES))
            total = await heal(context, service.accounts, proofs)
        except EfedllmError as error:
            return refusal(error)
        return _packed({"total": str(total)})

    async def books(request: web.Request) -> web.Response:
        try:
            leaves = await asyncio.to_thread(context.store.leaves_under, bytes.fromhex(request.match_info["root"]))
        except StoreError as error:
            return refusal(error)
        if leaves is None:
            return web.Response(status=404, text="this worker holds no voucher with that root")
        return web.Response(body=pack_leaves(leaves), content_type="application/msgpack")

    app.router.add_get("/v1/session", session)
    app.router.add_get("/v1/health", health)
    app.router.add_get("/v1/tokenizer", tokenizer_files)
    app.router.add_post("/v1/receipts", receipts)
    app.router.add_get("/v1/books/{root:[0-9a-f]{64}}", books)
    app.router.add_get("/v1/vouchers/{payer:0x[0-9a-fA-F]{40}}/{key:0x[0-9a-fA-F]{40}}/{epoch:[0-9]{1,8}}", voucher)
    app.router.add_post("/v1/vouchers", vouchers)
    return app


def _packed(body: dict[str, object]) -> web.Response:
    return web.Response(body=pack(body), content_type="application/msgpack")


async def _read(request: web.Request, limit: int) -> bytes:
    """The body, where it may be larger than the application's limit. Raises ProtocolError."""
    data = bytearray()
    async for part in request.content.iter_chunked(1 << 16):
        data += part
        if len(data) > limit:
            raise ProtocolError(f"a body of more than {limit} bytes: send less at a time")
    return bytes(data)


async def _fetch(context: Context, data: bytes) -> Record | None:
    """The record behind a `Fetch` signed by the request's session key or a registered verifier. Else ProtocolError."""
    fetch, signature = unpack_fetch(data)
    now = int(time.time())
    if not now < fetch.expiry <= now + 3600:
        raise ProtocolError("the fetch has expired, or expires more than an hour ahead: sign a new one")
    signer = eip712.recover(context.domain, fetch, signature)
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
