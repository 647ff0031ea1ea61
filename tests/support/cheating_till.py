"""The worker program with one behaviour replaced: whatever the file in EFEDLLM_TEST_LIE names when a request is opened.

`python -m tests.support.cheating_till [options of efedllm worker]`. An empty file: it is honest. Requests that run keep
the lie that they began with.
"""

import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from eth_account import Account

from efedllm.protocol import eip712
from efedllm.protocol.messages import Credited, Message, Opened, Rows, Signed, Token
from efedllm.protocol.objects import Hop, Receipt
from efedllm.protocol.pricing import fee_of
from tests.support import impatient_worker
from worker import session
from worker.peer import Peer
from worker.session import Session

LIE_FILE = "EFEDLLM_TEST_LIE"

# What a worker signs in place of an honest receipt. Its own book holds it, so that it could be paid for it.


def _at_another_price(receipt: Receipt, hop: Hop) -> Receipt:
    dearer = replace(hop, promptPrice=2 * hop.promptPrice, tokenPrice=2 * hop.tokenPrice)
    return replace(receipt, fee=fee_of(dearer, receipt.promptCount, receipt.positions, receipt.generated))


def _for_one_token_more(receipt: Receipt, hop: Hop) -> Receipt:
    positions, generated = receipt.positions + 1, receipt.generated + 1
    fee = fee_of(hop, receipt.promptCount, positions, generated)
    return replace(receipt, positions=positions, generated=generated, fee=fee)


def _altered(field: str) -> Callable[[Receipt, Hop], Receipt]:
    return lambda receipt, _: replace(receipt, **{field: b"\x66" * 32})


RECEIPTS: dict[str, Callable[[Receipt, Hop], Receipt]] = {
    "raises its price": _at_another_price,
    "counts a token too many": _for_one_token_more,
    "names another upstream receipt": _altered("upstream"),
    "commits to other inputs": _altered("inputRoot"),
    "commits to other outputs": _altered("outputRoot"),
    "commits to other tokens": _altered("tokenRoot"),
    "signs for another request": _altered("requestId"),
    "signs for another epoch": lambda receipt, _: replace(receipt, epoch=receipt.epoch + 1),
}
FROM_SECOND = {"counts a token too many"}  # its first receipt is honest and paid


# What leaves the worker in place of a message; an empty list is silence.


class Lie:
    """One request's cheat. `to_client`: where the message goes; otherwise to a neighbour."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopped = False
        self.receipts = 0
        self.kept: Signed | None = None

    def receipt(self, receipt: Receipt, hop: Hop) -> Receipt:
        if self.name not in RECEIPTS or (self.name in FROM_SECOND and receipt.generated < 2):
            return receipt
        return RECEIPTS[self.name](receipt, hop)

    def outgoing(self, message: Message, to_client: bool) -> list[Message]:
        if self.stopped:
            return []
        match self.name, message:
            case "shows other tokens", Token() if to_client and message.position % 8 == 0:
                return [replace(message, token=message.token ^ 1)]
            case "feeds back other tokens", Token() if not to_client and message.position % 8 == 0:
                return [replace(message, token=message.token ^ 1)]
            case "is silent after opening", Opened():
                self.stopped = True
            case "is silent in the prompt", Signed() if to_client:
                self.stopped = True
            case "is silent between token and receipt", Signed():
                return []
            case "is silent at the first token", Token():
                return []
            case "never credits", Credited():
                return []
            case "stops after payment", Credited():
                self.stopped = True
            case "credits another sum", Credited():
                return [replace(message, total=message.total + 1)]
            case "names a higher total", Opened():
                return [replace(message, total=message.total + 10**15)]
            case "names a lower total", Opened() if message.total:
                return [replace(message, total=0)]
            case "names another epoch", Opened():
                return [replace(message, epoch=message.epoch + 1)]
            case "names another window", Opened():
                return [replace(message, window=2**100)]
            case "sends a receipt twice", Signed() if to_client:
                return [message, message]
            case "sends an older receipt", Signed() if to_client:
                before, self.kept = self.kept, message
                return [message] if before is None else [before]
            case "signs with another key", Signed():
                assert impatient_worker.contexts
                domain = impatient_worker.contexts[0].domain
                return [replace(message, signature=eip712.sign(domain, message.receipt, _OTHER_KEY))]
            case "withholds rows", Rows():
                return []
            case "sends other rows", Rows():
                rows = bytearray(message.rows)
                rows[0] ^= 1
                return [replace(message, rows=bytes(rows))]
        return [message]


_OTHER_KEY = Account.from_key(secrets.token_bytes(32))
_lies: dict[bytes, Lie] = {}
_clients: set[int] = set()


def install() -> None:
    """Replace what the lies replace; without a lie, everything stays as it is."""
    begin, send, sign_for, check = Session.__init__, Peer.send, session.receipt_for, session.check_link

    def begin_lying(self: Session, context: Any, request_id: bytes, *rest: Any) -> None:
        name = Path(os.environ[LIE_FILE]).read_text().strip()
        if name:
            _lies[request_id] = Lie(name)
        begin(self, context, request_id, *rest)
        _clients.add(id(self._client))

    async def send_lies(self: Peer, message: Message) -> None:
        lie = _lies.get(getattr(message, "request_id", b""))
        for out in [message] if lie is None else lie.outgoing(message, id(self) in _clients):
            await send(self, out)

    def sign_lies(request: Any, request_id: bytes, shard: int, *rest: Any) -> Receipt:
        receipt = sign_for(request, request_id, shard, *rest)
        lie = _lies.get(request_id)
        return receipt if lie is None else lie.receipt(receipt, request.path[shard])

    def check_unless_lying(upstream: Receipt, digest: bytes, receipt: Receipt) -> None:
        if upstream.requestId not in _lies:
            check(upstream, digest, receipt)

    Session.__init__ = begin_lying  # type: ignore[method-assign]
    Peer.send = send_lies  # type: ignore[method-assign]
    session.receipt_for = sign_lies
    session.check_link = check_unless_lying


if __name__ == "__main__":
    install()
    sys.exit(impatient_worker.main())
