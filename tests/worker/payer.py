"""A client reduced to the protocol: sends what it is told to, pays what it is told to. Tests misbehave through it."""

import asyncio
import time
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import aiohttp
from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.protocol import eip712
from efedllm.protocol.frames import decode
from efedllm.protocol.messages import Challenge, Credited, Failure, Message, Open, Opened, Payment, Signed, Token, parse
from efedllm.protocol.objects import Hop, Receipt, Request, Sampling
from efedllm.protocol.requests import prompt_root
from efedllm.protocol.vouchers import Book
from tests.worker.network import DOMAIN, MODEL_ID, WorkerGroup

_nonces = count(1)
SALT = b"\x55" * 32


class Refused(Exception):
    """A worker ended the session; the message is what it said."""


@dataclass
class Payer:
    account: LocalAccount = field(default_factory=Account.create)
    session: LocalAccount = field(default_factory=Account.create)
    domain: eip712.Domain = DOMAIN

    def request(self, path: list[Hop], prompt: list[int], max_tokens: int, **changes: Any) -> Request:
        made = Request(
            payer=self.account.address,
            nonce=next(_nonces),
            expiry=int(time.time()) + 600,
            kind=0,
            modelId=MODEL_ID,
            path=tuple(path),
            promptRoot=prompt_root(SALT, prompt),
            promptCount=len(prompt),
            maxTokens=max_tokens,
            stopIds=(),
            seed=b"\x07" * 32,
            sampling=Sampling(65536, 0, 65536),
        )
        return replace(made, **changes)

    def open_message(self, request: Request, prompt: list[int]) -> Open:
        signature = eip712.sign(self.domain, request, self.session)
        return Open(eip712.digest(self.domain, request), request, signature, SALT, prompt)


class Line:
    """One websocket to one worker."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, message: Message) -> None:
        await self.socket.send_bytes(message.frame().encode())

    async def receive(self) -> Message:
        async with asyncio.timeout(60):
            message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise Refused("closed")
        parsed = parse(decode(message.data))
        if isinstance(parsed, Failure):
            raise Refused(f"{parsed.code}: {parsed.message}")
        return parsed

    async def expect(self, kind: type[Message]) -> Any:
        message = await self.receive()
        assert isinstance(message, kind), message
        return message


async def connect(http: aiohttp.ClientSession, url: str) -> Line:
    line = Line(await http.ws_connect(url + "/v1/session", max_msg_size=0))
    await line.expect(Challenge)
    return line


@dataclass
class Answer:
    tokens: list[int]
    reason: str
    receipts: dict[str, list[tuple[Receipt, bytes]]]
    books: dict[str, Book]


async def ask(
    group: WorkerGroup,
    payer: Payer,
    request: Request,
    prompt: list[int],
    books: dict[str, Book] | None = None,
    paying: bool = True,
    epoch: int = 1,
) -> Answer:
    """Run a request to its end, paying every receipt as it comes (or none)."""
    message = payer.open_message(request, prompt)
    answer = Answer([], "", {}, books if books is not None else {})
    by_address = {worker.address: worker for worker in group.workers}
    async with aiohttp.ClientSession() as http:
        lines = [await connect(http, by_address[hop.worker].url) for hop in request.path]
        for line in lines:
            await line.send(message)
        for line in lines:
            await line.expect(Opened)

        async def follow(line: Line, address: str) -> None:
            book = answer.books.setdefault(address, Book(payer.account.address, address, epoch))
            paid = answer.receipts.setdefault(address, [])
            unacknowledged = 0
            while not answer.reason or unacknowledged or positions_of(paid) < len(prompt) + len(answer.tokens) - 1:
                match await line.receive():
                    case Token(token=token, reason=reason):
                        answer.tokens.append(token)
                        answer.reason = reason or answer.reason
                    case Signed(receipt=receipt, signature=signature):
                        paid.append((receipt, signature))
                        if paying:
                            await line.send(payment_for(payer, book, receipt))
                            unacknowledged += 1
                    case Credited(total=total):
                        unacknowledged -= 1
                        assert unacknowledged or total == book.total
                    case other:
                        raise AssertionError(other)

        try:
            async with asyncio.TaskGroup() as tasks:
                for line, hop in zip(lines, request.path, strict=True):
                    tasks.create_task(follow(line, hop.worker))
        except* Refused as refused:
            raise refused.exceptions[0] from None
    return answer


def positions_of(receipts: list[tuple[Receipt, bytes]]) -> int:
    return receipts[-1][0].positions if receipts else 0


def payment_for(payer: Payer, book: Book, receipt: Receipt) -> Payment:
    """The voucher that adds `receipt`, and the book with it taken."""
    digest = eip712.digest(payer.domain, receipt)
    leaf, replaces = book.next_leaf(receipt.requestId, digest, receipt.fee)
    voucher = book.voucher_after(leaf, replaces)
    book.add(leaf, replaces)
    return Payment(receipt.requestId, voucher, eip712.sign(payer.domain, voucher, payer.session), digest)
