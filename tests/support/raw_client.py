"""A client reduced to the protocol, towards worker processes: pays what it is told to. Tests misbehave through it."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp
from eth_account.signers.local import LocalAccount

from efedllm.chain.participants import Offer
from efedllm.protocol import eip712
from efedllm.protocol.eip712 import Domain
from efedllm.protocol.frames import decode
from efedllm.protocol.messages import Challenge, Credited, Failure, Message, Open, Opened, Payment, Signed, Token, parse
from efedllm.protocol.objects import KIND_INFERENCE, Hop, Receipt, Request, Sampling
from efedllm.protocol.requests import prompt_root
from efedllm.protocol.vouchers import Book

PATIENCE_SECONDS = 60.0
SEED = b"\x07" * 32


@dataclass
class Wallet:
    """One payer's session key, and the books of what it signed in one epoch of its channels."""

    payer: str
    session: LocalAccount
    epoch: int = 0
    books: dict[str, Book] = field(default_factory=dict)

    def book(self, worker: str) -> Book:
        return self.books.setdefault(worker, Book(self.payer, worker, self.epoch))

    def payment(self, domain: Domain, receipt: Receipt) -> Payment:
        """The voucher that adds `receipt`, with the book taken along."""
        book, digest = self.book(receipt.worker), eip712.digest(domain, receipt)
        leaf, replaces = book.next_leaf(receipt.requestId, digest, receipt.fee)
        voucher = book.voucher_after(leaf, replaces)
        book.add(leaf, replaces)
        return Payment(receipt.requestId, voucher, eip712.sign(domain, voucher, self.session), digest)


Pay = Callable[[Receipt], Payment | None]
"""What is sent for a receipt; None: nothing."""


@dataclass
class Answer:
    """What came, by place in the path."""

    request_id: bytes
    prompt_count: int
    tokens: list[int] = field(default_factory=list)
    reason: str = ""
    receipts: dict[int, list[Receipt]] = field(default_factory=dict)
    credited: dict[int, int] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    """Code and message, or "closed", of workers that ended the request."""


class RawClient:
    """One request over `offers`, in path order. Enter it, `open`, `run`."""

    def __init__(self, domain: Domain, wallet: Wallet, offers: Sequence[Offer]) -> None:
        self.domain, self.wallet, self.offers = domain, wallet, offers
        self.on_token: Callable[[Answer], None] = lambda _: None
        self._stack = AsyncExitStack()
        self._sockets: list[aiohttp.ClientWebSocketResponse] = []

    async def __aenter__(self) -> Self:
        http = await self._stack.enter_async_context(aiohttp.ClientSession())
        for offer in self.offers:
            socket = await http.ws_connect(offer.endpoint + "/v1/session", max_msg_size=0)
            self._stack.push_async_callback(socket.close)
            self._sockets.append(socket)
            assert isinstance(await _receive(socket), Challenge)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def open(self, prompt: list[int], max_tokens: int) -> Answer:
        """Send the request to all; failures may be in the answer already."""
        salt = secrets.token_bytes(32)
        request = Request(
            payer=self.wallet.payer,
            nonce=secrets.randbits(64),
            expiry=int(time.time()) + 600,
            kind=KIND_INFERENCE,
            modelId=self.offers[0].model_id,
            path=tuple(Hop(o.worker, o.start, o.end, o.prompt_price, o.token_price) for o in self.offers),
            promptRoot=prompt_root(salt, prompt),
            promptCount=len(prompt),
            maxTokens=max_tokens,
            stopIds=(),
            seed=SEED,
            sampling=Sampling(0, 0, 65536),
        )
        request_id = eip712.digest(self.domain, request)
        signature = eip712.sign(self.domain, request, self.wallet.session)
        answer = Answer(request_id, len(prompt), receipts={shard: [] for shard in range(len(self.offers))})
        for socket in self._sockets:
            await socket.send_bytes(Open(request_id, request, signature, salt, prompt).frame().encode())
        for shard, socket in enumerate(self._sockets):
            message = await _receive(socket)
            if not isinstance(message, Opened):
                answer.failures[shard] = _words(message)
        return answer

    async def run(self, answer: Answer, pay: Pay | None = None) -> Answer:
        """Follow the request until every worker has ended it, or all is paid for. `pay` defaults to everything."""
        honest: Pay = lambda receipt: self.wallet.payment(self.domain, receipt)  # noqa: E731
        following = (
            self._follow(answer, shard, pay or honest)
            for shard in range(len(self.offers))
            if shard not in answer.failures
        )
        await asyncio.gather(*following)
        return answer

    async def _follow(self, answer: Answer, shard: int, pay: Pay) -> None:
        socket, waiting, sent = self._sockets[shard], 0, 0
        while not (answer.reason and not waiting and self._is_last_receipt(answer, shard) and sent):
            message = await _receive(socket)
            match message:
                case Token():
                    answer.tokens.append(message.token)
                    answer.reason = message.reason
                    self.on_token(answer)
                case Signed():
                    answer.receipts[shard].append(message.receipt)
                    if (payment := pay(message.receipt)) is not None:
                        waiting, sent = waiting + 1, sent + 1
                        await socket.send_bytes(payment.frame().encode())
                case Credited():
                    waiting -= 1
                    answer.credited[shard] = message.total
                case _:
                    answer.failures[shard] = _words(message)
                    return

    def _is_last_receipt(self, answer: Answer, shard: int) -> bool:
        signed = answer.receipts[shard]
        return bool(signed) and signed[-1].generated == len(answer.tokens)


async def _receive(socket: aiohttp.ClientWebSocketResponse) -> Message | None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        message = await socket.receive()
    return parse(decode(message.data)) if message.type is aiohttp.WSMsgType.BINARY else None


def _words(message: Message | None) -> str:
    if isinstance(message, Failure):
        return f"{message.code}: {message.message}"
    return "closed" if message is None else f"sent {type(message).__name__}"
