"""Workers without a model, on real sockets: they sign real receipts over made-up rows, and lie where a test wants it.

A path of them shares one script of tokens. Each keeps its book and its credit window as the real one does, so that what
either side can lose is measured here.
"""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from types import TracebackType
from typing import Self

from aiohttp import WSMsgType, web
from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.protocol import eip712
from efedllm.protocol.frames import decode
from efedllm.protocol.merkle import token_leaf, tree_root
from efedllm.protocol.messages import (
    Cancel,
    Challenge,
    Credited,
    Failure,
    Message,
    Open,
    Opened,
    Payment,
    Signed,
    Token,
    parse,
)
from efedllm.protocol.objects import Hop, Receipt, Voucher
from efedllm.protocol.packing import pack, unpack
from efedllm.protocol.pricing import CHUNK_POSITIONS, fee_of, is_due, window_of
from efedllm.protocol.receipts import Progress, receipt_for
from efedllm.protocol.records import pack_leaves
from efedllm.protocol.values import ZERO_HASH
from efedllm.protocol.vouchers import Book, Leaf, accept

CREDIT_TOKENS = 32


HeldVoucher = tuple[Voucher, bytes]
"""With its signature."""


@dataclass
class Lies:
    """What a worker does differently; the defaults are honest."""

    receipt: Callable[[Receipt], Receipt | None] = lambda receipt: receipt
    """Alters a receipt before it is signed; None: stays silent."""
    signer: LocalAccount | None = None
    """Signs in place of the hot key."""
    signature: Callable[[bytes], bytes] = lambda signature: signature
    token: Callable[[Token], list[Message]] = lambda token: [token]
    """What is sent to the client in place of a token."""
    credited: Callable[[int], int] = lambda total: total
    credit_seconds: float = 0.0
    """It takes so long to credit a voucher."""
    opened: Callable[[Opened], Message | None] = lambda opened: opened
    accepts_anything: bool = False
    """Signs behind an upstream receipt that is wrong."""
    hang_up_after: int | None = None
    """Ends the connection after this many receipts."""
    swallow_payment: int | None = None
    """Ends the connection on this voucher (counted from 0), without having kept it."""
    keep_payment: int | None = None
    """Keeps this voucher (counted from 0), and ends the connection without crediting it."""
    held: Callable[[HeldVoucher | None], HeldVoucher | None] = lambda held: held
    """What is shown as the best voucher."""
    leaves: Callable[[list[Leaf]], list[Leaf]] = lambda leaves: leaves
    has_desk: bool = True
    """Whether vouchers can be asked for and handed in over HTTP."""


@dataclass
class Memory:
    """What a worker keeps over sessions."""

    book: Book | None = None
    receipts: dict[bytes, Receipt] = field(default_factory=dict)
    payments: int = 0
    vouchers: list[tuple[HeldVoucher, list[Leaf]]] = field(default_factory=list)
    """All that were kept, each with the book as it was then."""

    def copy(self) -> "Memory":
        """As a backup holds it."""
        book = self.book and Book.restore(self.book.payer, self.book.worker, self.book.epoch, self.book.leaves)
        return Memory(book, dict(self.receipts), self.payments, list(self.vouchers))


class FakeWorker:
    def __init__(self, path: "FakePath", shard: int, start: int, end: int, prices: tuple[int, int]) -> None:
        self.address: str = Account.create().address
        self.hot_key: LocalAccount = Account.create()
        self.hop = Hop(self.address, start, end, *prices)
        self.lies = Lies()
        self.memory = Memory()
        self.worked = 0
        """Fee of everything that was computed for the latest request."""
        self.url = ""
        self.epoch = 0
        self._path, self._shard = path, shard

    @property
    def paid(self) -> int:
        return 0 if self.memory.book is None else self.memory.book.total

    @property
    def window(self) -> int:
        return window_of(self.hop, CREDIT_TOKENS)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(Challenge(b"\x01" * 32).frame().encode())
        work: asyncio.Task[None] | None = None
        credit = asyncio.Event()
        try:
            async for received in socket:
                if received.type is not WSMsgType.BINARY:
                    break
                match parse(decode(received.data)):
                    case Open() as message:
                        opened = self._open(message)
                        if opened is None:
                            continue
                        await socket.send_bytes(opened.frame().encode())
                        work = asyncio.create_task(self._work(socket, message, credit))
                    case Payment() as message:
                        answer = self._take(message)
                        if answer is None:
                            break
                        await asyncio.sleep(self.lies.credit_seconds)
                        await socket.send_bytes(answer.frame().encode())
                        credit.set()
                    case Cancel():
                        self._path.cancel()
        finally:
            if work is not None:
                work.cancel()
            await socket.close()
        return socket

    def _open(self, message: Open) -> Message | None:
        signer = eip712.recover(self._path.domain, message.request, message.signature)
        assert signer == self._path.session_key
        if self.memory.book is None:
            self.memory.book = Book(message.request.payer, self.address, self.epoch)
        return self.lies.opened(Opened(message.request_id, self.epoch, self.paid, self.window))

    def _take(self, message: Payment) -> Message | None:
        memory, book = self.memory, self.memory.book
        assert book is not None
        memory.payments += 1
        if self.lies.swallow_payment == memory.payments - 1:
            return None
        signer = eip712.recover(self._path.domain, message.voucher, message.signature)
        assert signer == self._path.session_key
        receipt = memory.receipts[message.receipt_digest]
        self._keep(message.voucher, message.signature, receipt, message.receipt_digest)
        if self.lies.keep_payment == memory.payments - 1:
            return None
        return Credited(message.request_id, self.lies.credited(book.total))

    def _keep(self, voucher: Voucher, signature: bytes, receipt: Receipt, digest: bytes) -> None:
        memory, book = self.memory, self.memory.book
        assert book is not None
        book.add(*accept(book, voucher, receipt, digest))
        memory.vouchers.append(((voucher, signature), list(book.leaves)))

    async def voucher(self, request: web.Request) -> web.Response:
        vouchers = [held for held, _ in self.memory.vouchers if held[0].epoch == int(request.match_info["epoch"])]
        held = self.lies.held(vouchers[-1] if vouchers else None)
        if held is None or not self.lies.has_desk:
            return web.Response(status=404, text="no voucher here")
        return web.Response(body=pack({"voucher": held[0].to_wire(), "signature": held[1]}))

    async def leaves(self, request: web.Request) -> web.Response:
        for (voucher, _), leaves in self.memory.vouchers:
            if voucher.receiptsRoot.hex() == request.match_info["root"]:
                return web.Response(body=pack_leaves(self.lies.leaves(leaves)))
        return web.Response(status=404, text="no such root")

    async def take_vouchers(self, request: web.Request) -> web.Response:
        if not self.lies.has_desk:
            return web.Response(status=404, text="no desk here")
        for entry in unpack(await request.read()):
            voucher, receipt = Voucher.from_wire(entry["voucher"]), Receipt.from_wire(entry["receipt"])
            digest = eip712.digest(self._path.domain, receipt)
            assert eip712.recover(self._path.domain, receipt, entry["receipt_signature"]) == self.hot_key.address
            assert eip712.recover(self._path.domain, voucher, entry["signature"]) == self._path.session_key
            if self.memory.book is None:
                self.memory.book = Book(voucher.payer, self.address, self.epoch)
            if voucher.total > self.paid:
                self._keep(voucher, entry["signature"], receipt, digest)
        return web.Response(body=pack({"total": str(self.lies.credited(self.paid))}))

    async def _work(self, socket: web.WebSocketResponse, message: Open, credit: asyncio.Event) -> None:
        path, request, book = self._path, message.request, self.memory.book
        assert book is not None
        prompt, signed = message.prompt, 0
        shown = 0
        self.worked = 0
        for positions, generated in path.schedule(message):
            fee = fee_of(self.hop, request.promptCount, positions, generated)
            while fee - book.covered(message.request_id) > self.window:
                credit.clear()
                await credit.wait()
            await path.reached(message.request_id, self._shard, positions, generated)
            self.worked = fee
            if self._shard == len(path.workers) - 1:
                while shown < generated:
                    for out in self.lies.token(path.token(message, shown)):
                        await socket.send_bytes(out.frame().encode())
                    shown += 1
            if not path.is_signed_at(message, positions, generated):
                continue
            upstream = None if self._shard == 0 else await path.signed(message.request_id, self._shard - 1, positions)
            digest = ZERO_HASH if upstream is None else eip712.digest(path.domain, upstream)
            progress = path.progress(self._shard, message, prompt, positions, generated)
            if upstream is not None and not self.lies.accepts_anything:
                same = (upstream.tokenRoot, upstream.outputRoot) == (progress.token_root, progress.input_root)
                if not same:
                    failure = Failure(message.request_id, "receipt", "the upstream receipt is wrong")
                    await socket.send_bytes(failure.frame().encode())
                    return
            honest = receipt_for(request, message.request_id, self._shard, self.epoch, progress, digest)
            receipt = self.lies.receipt(honest)
            if receipt is None:
                continue
            signature = eip712.sign(path.domain, receipt, self.lies.signer or self.hot_key)
            self.memory.receipts[eip712.digest(path.domain, receipt)] = receipt
            path.publish(message.request_id, self._shard, positions, receipt)
            out = Signed(message.request_id, receipt, self.lies.signature(signature))
            await socket.send_bytes(out.frame().encode())
            signed += 1
            if signed == self.lies.hang_up_after:
                await socket.close()
                return


class FakePath:
    """Workers over `layers`, all on one port each; `tokens` is what they generate."""

    def __init__(
        self, domain: eip712.Domain, tokens: list[int], layers: list[int], prices: tuple[int, int] = (3, 10)
    ) -> None:
        self.domain, self.tokens = domain, tokens
        self.session_key = ""
        self._front = 0  # generated tokens that the first worker reached
        self._end: int | None = None  # where a cancelled request ends
        bounds = list(itertools.pairwise(layers))
        self.workers = [FakeWorker(self, shard, *bound, prices) for shard, bound in enumerate(bounds)]
        self._signed: dict[tuple[bytes, int, int], asyncio.Future[Receipt]] = {}
        self._reached: dict[tuple[bytes, int, int], asyncio.Event] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for worker in self.workers:
            app = web.Application()
            app.router.add_get("/v1/session", worker.serve)
            app.router.add_get("/v1/vouchers/{payer}/{key}/{epoch}", worker.voucher)
            app.router.add_post("/v1/vouchers", worker.take_vouchers)
            app.router.add_get("/v1/books/{root}", worker.leaves)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            self._stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            worker.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def token(self, message: Open, at: int) -> Token:
        token = self.tokens[at]
        reason = ""
        if at + 1 == message.request.maxTokens:
            reason = "length"
        if token in message.request.stopIds:
            reason = "stop"
        return Token(message.request_id, len(message.prompt) + at, token, reason)

    def schedule(self, message: Open) -> "Schedule":
        """Counts one after another, as they are reached: prompt chunks, then token by token."""
        return Schedule(self, message)

    def is_signed_at(self, message: Open, positions: int, generated: int) -> bool:
        if is_due(message.request.promptCount, positions, generated):
            return True
        return generated > 0 and self.is_last(message, generated)

    def cancel(self) -> None:
        """The first worker ends behind the next token, as all will agree."""
        if self._end is None:
            self._end = self._front + 1

    def is_last(self, message: Open, generated: int) -> bool:
        return generated == self._end or self.token(message, generated - 1).reason != ""

    def progress(self, shard: int, message: Open, prompt: list[int], positions: int, generated: int) -> Progress:
        leaves = [token_leaf(token) for token in prompt + self.tokens[:generated]]

        def rows(boundary: int) -> bytes:
            return tree_root([sha256(f"row {boundary} {at}".encode()).digest() for at in range(positions)])

        inputs = tree_root(leaves[:positions]) if shard == 0 else rows(shard)
        is_last = shard == len(self.workers) - 1
        outputs = tree_root(leaves[len(prompt) :]) if is_last else rows(shard + 1)
        return Progress(positions, generated, tree_root(leaves), inputs, outputs)

    async def reached(self, request_id: bytes, shard: int, positions: int, generated: int) -> None:
        """Rows go down the path and tokens back to its start: nobody passes a count before whoever it depends on."""
        if shard:
            await self._event(request_id, shard - 1, positions).wait()
        elif generated > 1:
            await self._event(request_id, len(self.workers) - 1, positions - 1).wait()
        if shard == 0:
            self._front = generated
        self._event(request_id, shard, positions).set()

    def _event(self, request_id: bytes, shard: int, positions: int) -> asyncio.Event:
        return self._reached.setdefault((request_id, shard, positions), asyncio.Event())

    def publish(self, request_id: bytes, shard: int, positions: int, receipt: Receipt) -> None:
        future = self._future(request_id, shard, positions)
        if not future.done():
            future.set_result(receipt)

    async def signed(self, request_id: bytes, shard: int, positions: int) -> Receipt:
        return await self._future(request_id, shard, positions)

    def _future(self, request_id: bytes, shard: int, positions: int) -> asyncio.Future[Receipt]:
        key = (request_id, shard, positions)
        if key not in self._signed:
            self._signed[key] = asyncio.get_running_loop().create_future()
        return self._signed[key]


class Schedule:
    """Iterates over (positions, generated) until the answer ends or is cancelled."""

    def __init__(self, path: FakePath, message: Open) -> None:
        self._path, self._message = path, message

    def __iter__(self) -> "Schedule":
        self._positions = self._generated = 0
        return self

    def __next__(self) -> tuple[int, int]:
        count = self._message.request.promptCount
        if self._generated:
            if self._path.is_last(self._message, self._generated):
                raise StopIteration
            self._positions, self._generated = self._positions + 1, self._generated + 1
        else:
            self._positions = min(self._positions + CHUNK_POSITIONS, count)
            self._generated = 1 if self._positions == count else 0
        return self._positions, self._generated


def leaves_of(worker: FakeWorker) -> list[Leaf]:
    return [] if worker.memory.book is None else worker.memory.book.leaves


def altered(**changes: object) -> Callable[[Receipt], Receipt]:
    """A lie about some fields, from the first receipt with generated tokens on."""
    return lambda receipt: replace(receipt, **changes) if receipt.generated else receipt
