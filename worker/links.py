"""Links between the workers of a path: dialled downstream, authenticated with hot keys, bound to one request."""

import asyncio

import aiohttp

from efedllm.protocol import eip712
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.frames import MAX_FRAME_BYTES
from efedllm.protocol.messages import ROLE_ROWS, ROLE_TOKENS, Challenge, Failure, Linked, LinkUp
from efedllm.protocol.objects import Link, Request

from .context import Context
from .errors import SessionError
from .peer import Peer


async def dial(context: Context, http: aiohttp.ClientSession, request_id: bytes, worker: str, role: str) -> Peer:
    """An authenticated link to `worker` for one request and role; returns once the path behind it is linked too.

    Raises SessionError naming the worker.
    """
    try:
        async with asyncio.timeout(context.link_seconds):
            url = (await context.network.endpoint(worker)).rstrip("/") + "/v1/session"
            peer = Peer(await http.ws_connect(url, max_msg_size=MAX_FRAME_BYTES, compress=0, autoping=True))
            try:
                await _authenticate(context, peer, request_id, worker, role)
            except BaseException:
                await peer.close()
                raise
            return peer
    except TimeoutError as error:
        raise SessionError("link", f"worker {worker} did not link within {context.link_seconds:g} s") from error
    except (aiohttp.ClientError, ConnectionError, ValueError) as error:
        raise SessionError("link", f"worker {worker} cannot be reached: {error}") from error


async def _authenticate(context: Context, peer: Peer, request_id: bytes, worker: str, role: str) -> None:
    challenge = await peer.receive()
    if not isinstance(challenge, Challenge):
        raise SessionError("link", f"worker {worker} sent no challenge")
    own = context.offer.worker
    signature = eip712.sign(context.domain, Link(request_id, own, challenge.challenge), context.hot_key)
    await peer.send(LinkUp(request_id, own, signature, role))
    match await peer.receive():
        case Linked():
            return
        case Failure() as failure:
            raise SessionError("link", f"worker {worker} refused the link: {failure.message}")
        case _:
            raise SessionError("link", f"worker {worker} closed the link")


async def check_link_up(context: Context, request: Request, message: LinkUp, challenge: bytes) -> None:
    """Whether the dialling side is the worker that the path has at that place. Raises SessionError."""
    workers = [hop.worker for hop in request.path]
    own = workers.index(context.offer.worker)
    if message.role == ROLE_ROWS:
        expected = workers[own - 1] if own > 0 else None
    elif message.role == ROLE_TOKENS:
        expected = workers[-1] if own == 0 and len(workers) > 1 else None
    else:
        raise SessionError("link", f"unknown link role {message.role!r}")
    if message.worker != expected:
        raise SessionError("link", f"{message.worker} has no place before this worker on the path")
    link = Link(message.request_id, message.worker, challenge)
    signer = eip712.recover(context.domain, link, message.signature)
    if signer != await context.network.hot_key(message.worker):
        raise SessionError("link", f"the link is signed by {signer}, not by the hot key of {message.worker}")


async def watch(peer: Peer) -> str:
    """Read a dialled link until it ends, on which nothing but a failure is expected. Returns why it ended."""
    try:
        match await peer.receive():
            case None:
                return "the link to the next worker broke"
            case Failure() as failure:
                return failure.message
            case _:
                return "the next worker sent something that does not belong on the path"
    except (ProtocolError, ConnectionError) as error:
        return str(error)
