"""One request at one worker: feed or follow the path, compute, commit, sign receipts when they are due, take vouchers.

Computing never waits for signing or the disk: at a due count the session takes the roots as they are and goes on, while
`_sign` compares them with the upstream receipt, signs, keeps and sends. It does wait for money: one window is the most.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from efedllm.protocol import eip712
from efedllm.protocol.merkle import row_root, token_leaf
from efedllm.protocol.messages import End, Failure, Message, Rows, Signed, Token
from efedllm.protocol.objects import Request
from efedllm.protocol.pricing import CHUNK_POSITIONS, is_due
from efedllm.protocol.receipts import Commitments, Progress, check_link, check_shape, receipt_for
from efedllm.protocol.values import ZERO_HASH

from .account import Account
from .admission import Admitted
from .context import Context
from .errors import SessionError
from .peer import Peer
from .till import Till

log = logging.getLogger("efedllm.worker")

INBOX = 64
MAX_RECEIPTS = 1 << 14


@dataclass(frozen=True)
class Boundary:
    """A due count: the roots as they were, and the input rows since the boundary before."""

    progress: Progress
    generated: list[int]
    rows: bytes


class Session:
    """Created when a request is admitted; `run` ends with the request."""

    def __init__(
        self,
        context: Context,
        request_id: bytes,
        request: Request,
        prompt: list[int],
        admitted: Admitted,
        account: Account,
        client: Peer,
    ) -> None:
        self.request_id, self.request, self.prompt = request_id, request, prompt
        self.shard, self.hop = admitted.shard, admitted.hop
        self.is_first = self.shard == 0
        self.is_last = self.shard == len(request.path) - 1
        self.till = Till(context, request_id, request, self.hop, account)
        self.inbox: asyncio.Queue[Message | None] = asyncio.Queue(INBOX)
        """From the upstream link, or from the token link in the first shard; None when that link is gone."""
        self.downstream: Peer | None = None
        self.token_link: Peer | None = None
        self.upstream_peers: list[Peer] = []
        """The accepted link, one at most: rows from the worker before or, in the first shard, tokens from the last."""
        self.cancelled = False
        self.worked = False
        """Everything is computed, signed and sent; only payment may be missing, so a link that closes is no failure."""
        self.client_gone = asyncio.Event()
        self._lost = ""  # why the accepted link ended
        self._context, self._client = context, client
        self._cache = context.engine.sequence()
        self._commitments = Commitments(prompt)
        self._generated: list[int] = []
        self._finished = False  # last shard: the token that ends the request was sampled
        self._sampled_unseen: list[int] = []  # last shard: sampled, not yet come round the path
        self._kept_rows: list[bytes] = []
        self._last_boundary = 0
        self._boundaries: asyncio.Queue[Boundary | None] = asyncio.Queue()
        self._upstream: dict[int, asyncio.Future[Signed]] = {}

    # the outside

    async def run(self) -> None:
        """Serve the request to its end. Raises SessionError, ProtocolError, ModelError or StoreError."""
        first: Exception | None = None
        try:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._work())
                    watching = group.create_task(self.till.watch_channel())
                    await self._sign()
                    watching.cancel()
            except* Exception as failures:
                first = failures.exceptions[0]
            if first is not None:
                raise first
            self.worked = True
            await self.till.settle()
        finally:
            self.till.end()
            await self._context.engine.release(self._cache)

    def on_client_gone(self) -> None:
        """The client left or was refused: end at the next token, do not wait for money, and tell it nothing more."""
        self.cancelled = True
        self.client_gone.set()
        self.till.on_client_gone()

    def on_upstream_receipt(self, message: Signed) -> None:
        """The upstream worker's receipt; it overtakes rows that wait. Raises SessionError for a second one."""
        future = self._future(message.receipt.positions)
        if future.done() or len(self._upstream) > MAX_RECEIPTS:
            raise SessionError(
                "receipt", f"the upstream worker sent a second receipt for {message.receipt.positions} positions"
            )
        future.set_result(message)

    def on_upstream_lost(self, reason: str) -> None:
        """The accepted link is gone: what it still owed will not come."""
        self._lost = reason
        for future in self._upstream.values():
            if not future.done():
                future.set_exception(SessionError("path", reason))

    # working

    async def _work(self) -> None:
        reason = await (self._drive() if self.is_first else self._follow())
        self._boundary(final=True)
        self._boundaries.put_nowait(None)
        log.info("request %s: %s after %d tokens", self.request_id.hex()[:16], reason, len(self._generated))

    async def _drive(self) -> str:
        """First shard: feed the prompt, then every token that comes back. Returns the reason of the end."""
        token, reason = None, ""
        for start in range(0, len(self.prompt), CHUNK_POSITIONS):
            if self.cancelled:
                return await self._end("cancelled", [])
            token, reason = await self._advance(self.prompt[start : start + CHUNK_POSITIONS], [])
        while True:
            if token is None:
                message = await self._next()
                if not isinstance(message, Token) or message.position != len(self.prompt) + len(self._generated):
                    raise SessionError("path", "the last worker sent something else than the next token")
                token, reason = message.token, message.reason
                self._take(token)
            if self.cancelled and not reason:
                reason = "cancelled"
            if reason:
                return await self._end(reason, [token])
            token, reason = await self._advance([token], [token])

    async def _follow(self) -> str:
        """Inner and last shards: whatever the upstream worker sends. Returns the reason of the end."""
        while True:
            match await self._next():
                case Rows() as message:
                    if message.position != self._commitments.inputs.count:
                        raise SessionError(
                            "path",
                            f"rows of position {message.position} came where {self._commitments.inputs.count} was due",
                        )
                    self._take_from_path(message.tokens)
                    await self._advance(message.rows, message.tokens)
                case End() as message:
                    self._take_from_path(message.tokens)
                    if message.position != self._commitments.inputs.count:
                        raise SessionError(
                            "path", "the upstream worker ended at another position than its rows reached"
                        )
                    return await self._end(message.reason, message.tokens)
                case _:
                    raise SessionError("path", "the upstream worker sent something that does not belong on the path")

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(self._context.stall_seconds):
                while True:
                    message = await self.inbox.get()
                    if message is None:
                        raise SessionError("path", self._lost)
                    return message
        except TimeoutError as error:
            raise SessionError("path", f"nothing came along the path for {self._context.stall_seconds:g} s") from error

    async def _advance(self, inputs: list[int] | bytes | memoryview, fresh: list[int]) -> tuple[int | None, str]:
        """Compute and pass on some positions. `fresh`: generated ids that the next worker lacks.

        Returns the token that this very worker sampled (single-worker paths only) and the reason if it is the last.
        """
        request, done = self.request, self._commitments.inputs.count
        if self._finished:  # whoever samples behind a stop id can be slashed for it
            raise SessionError("path", "rows came behind the token that ended the request")
        count = len(inputs) if isinstance(inputs, list) else self._row_count(inputs)
        positions = done + count
        if count > CHUNK_POSITIONS or positions > request.promptCount + request.maxTokens - 1:
            raise SessionError("path", f"{count} positions from {done} on are more than the request allows")
        if done < request.promptCount < positions or (done >= request.promptCount and count != 1):
            raise SessionError("path", "rows of the prompt and of generated tokens came together")
        samples = positions >= request.promptCount
        await self.till.afford(positions, len(self._generated) + (1 if samples else 0))
        wanted = positions if samples and self.is_last else None
        result = await self._context.engine.step(self._cache, inputs, request, wanted)
        token, reason = result.token, ""
        if token is None and self.downstream is not None:
            await self.downstream.send(Rows(self.request_id, done, fresh, result.rows))
        if token is not None:
            reason = (
                "stop"
                if token in request.stopIds
                else "length"
                if len(self._generated) + 1 == request.maxTokens
                else ""
            )
            self._finished = bool(reason)
            message = Token(self.request_id, positions, token, reason)
            if self.token_link is not None:
                await self.token_link.send(message)
                self._sampled_unseen.append(token)
            await self._tell_client(message)
        self._commit(inputs, result.rows)
        if token is not None:
            self._commitments.outputs.append(token_leaf(token))
            self._take(token)
        elif not self._generated and is_due(request.promptCount, positions, 0):
            self._boundary()
        return (token, reason) if self.is_first else (None, "")

    def _row_count(self, rows: bytes | memoryview) -> int:
        count, rest = divmod(len(rows), 4 * self._context.hidden)
        if rest or not count:
            raise SessionError("path", f"{len(rows)} bytes are not rows of {self._context.hidden} int32 values")
        return count

    def _commit(self, inputs: list[int] | bytes | memoryview, rows: bytes) -> None:
        width = 4 * self._context.hidden
        if isinstance(inputs, list):
            for token in inputs:
                self._commitments.inputs.append(token_leaf(token))
        else:
            view = memoryview(inputs)
            for at in range(0, len(view), width):
                self._commitments.inputs.append(row_root(view[at : at + width]))
            self._kept_rows.append(bytes(view))
        out = memoryview(rows)
        for at in range(0, len(out), width):
            self._commitments.outputs.append(row_root(out[at : at + width]))

    def _take(self, token: int) -> None:
        """A generated token is known: it counts, and a receipt may be due."""
        if not 0 <= token < self._context.offer.model.vocab:
            raise SessionError("path", f"token id {token} is outside the vocabulary")
        self._generated.append(token)
        self._commitments.tokens.append(token_leaf(token))
        if is_due(self.request.promptCount, self._commitments.inputs.count, len(self._generated)):
            self._boundary()

    def _take_from_path(self, tokens: list[int]) -> None:
        if self.is_last:
            if tokens != self._sampled_unseen:
                raise SessionError("path", "the path fed back another token than was sampled")
            self._sampled_unseen = []
            return
        for token in tokens:
            if self._commitments.inputs.count != self.request.promptCount + len(self._generated):
                raise SessionError("path", "a generated token came before its position")
            self._take(token)

    async def _end(self, reason: str, fresh: list[int]) -> str:
        if self.downstream is not None:
            await self.downstream.send(End(self.request_id, self._commitments.inputs.count, fresh, reason))
        return reason

    # receipts

    def _boundary(self, final: bool = False) -> None:
        """Take the roots as they are now, unless this count was taken already."""
        positions = self._commitments.inputs.count
        if positions == self._last_boundary:
            return
        assert final or positions > self._last_boundary
        self._last_boundary = positions
        rows, self._kept_rows = b"".join(self._kept_rows), []
        self._boundaries.put_nowait(Boundary(self._commitments.progress(), list(self._generated), rows))

    def _future(self, positions: int) -> asyncio.Future[Signed]:
        if positions not in self._upstream:
            self._upstream[positions] = asyncio.get_running_loop().create_future()
        return self._upstream[positions]

    async def _sign(self) -> None:
        """Sign, keep and send one receipt per boundary, in order, each behind the upstream worker's."""
        context = self._context
        while (boundary := await self._boundaries.get()) is not None:
            progress = boundary.progress
            upstream: Signed | None = None
            digest = ZERO_HASH
            if not self.is_first:
                upstream = await self._upstream_receipt(progress.positions)
                digest = eip712.digest(context.domain, upstream.receipt)
            receipt = receipt_for(
                self.request, self.request_id, self.shard, self.till.account.book.epoch, progress, digest
            )
            check_shape(self.request, self.request_id, receipt)  # neighbours that lie can lead to odd counts
            kept_upstream = None
            if upstream is not None:
                check_link(upstream.receipt, digest, receipt)
                kept_upstream = (upstream.receipt, digest, upstream.signature)
            own = eip712.digest(context.domain, receipt)
            signature = eip712.sign(context.domain, receipt, context.hot_key)
            keep = context.store.keep_receipt
            await asyncio.to_thread(keep, receipt, own, signature, boundary.generated, boundary.rows, kept_upstream)
            self.till.expect(own, receipt)
            message = Signed(self.request_id, receipt, signature)
            if self.downstream is not None:
                await self.downstream.send(message)
            await self._tell_client(message)

    async def _upstream_receipt(self, positions: int) -> Signed:
        """The upstream worker's receipt for these counts, with a signature that is its own."""
        try:
            async with asyncio.timeout(self._context.stall_seconds):
                message = await self._future(positions)
        except TimeoutError as error:
            raise SessionError("receipt", f"the upstream worker sent no receipt for {positions} positions") from error
        worker = self.request.path[self.shard - 1].worker
        signer = eip712.recover(self._context.domain, message.receipt, message.signature)
        if signer != await self._context.network.hot_key(worker):
            raise SessionError("receipt", f"the upstream receipt is signed by {signer}, not by the hot key of {worker}")
        return message

    # the peers

    async def _tell_client(self, message: Message) -> None:
        if self.client_gone.is_set():
            return
        # A client that is gone gets its receipts later, over HTTP; the path goes on until it runs out of credit.
        with contextlib.suppress(ConnectionError):
            await self._client.send(message)

    async def fail(self, code: str, message: str) -> None:
        """Tell the client and both neighbours that this session ends here."""
        failure = Failure(self.request_id, code, message)
        for peer in (
            None if self.client_gone.is_set() else self._client,
            self.downstream,
            self.token_link,
            *self.upstream_peers,
        ):
            if peer is not None:
                with contextlib.suppress(ConnectionError):
                    await peer.send(failure)
