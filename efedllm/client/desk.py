"""A worker's desk: what it holds of a channel, asked and put right over HTTP, outside of any request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from efedllm.client.errors import Violation
from efedllm.client.records import MAX_LEAVES_BYTES, Unanswered, ask
from efedllm.client.store import KeptVoucher
from efedllm.protocol import packing
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.objects import Voucher
from efedllm.protocol.records import unpack_leaves
from efedllm.protocol.vouchers import Leaf

BATCH = 32
"""Vouchers in one request; with their receipts they take some 40 KiB."""
_MAX_ANSWER_BYTES = 4096
_REFUSED = frozenset({404, 405})
"""How a worker answers that has no such desk, or nothing to show."""


class Desk(Protocol):
    """Methods raise Unanswered, or Violation for an answer that no honest worker gives."""

    async def held(self, payer: str, session_key: str, epoch: int) -> tuple[Voucher, bytes] | None:
        """The best voucher that the worker holds, with its signature; None if it holds none."""

    async def leaves(self, root: bytes) -> list[Leaf]:
        """What lies under a voucher's root, in the worker's words."""

    async def hand_in(self, vouchers: Sequence[KeptVoucher]) -> int | None:
        """Give back vouchers with the receipts that they pay for, oldest first; the total that it holds then.

        None: it takes none here.
        """


@dataclass(frozen=True)
class WorkerDesk:
    """The desk of `worker` at its endpoint."""

    http: aiohttp.ClientSession
    worker: str
    endpoint: str

    async def held(self, payer: str, session_key: str, epoch: int) -> tuple[Voucher, bytes] | None:
        path = f"/v1/vouchers/{payer}/{session_key}/{epoch}"
        try:
            data = await ask(self.http, "GET", self.endpoint, path, None, _MAX_ANSWER_BYTES)
        except Unanswered as error:
            if error.status in _REFUSED:
                return None
            raise
        match self._unpack(data):
            case {"voucher": voucher, "signature": bytes() as signature, **rest} if not rest:
                try:
                    return Voucher.from_wire(voucher), signature
                except ProtocolError as error:
                    raise Violation(self.worker, f"it shows what is no voucher: {error}") from error
        raise Violation(self.worker, "it shows what is no voucher")

    async def leaves(self, root: bytes) -> list[Leaf]:
        data = await ask(self.http, "GET", self.endpoint, f"/v1/books/{root.hex()}", None, MAX_LEAVES_BYTES)
        try:
            return unpack_leaves(data)
        except ProtocolError as error:
            raise Violation(self.worker, f"it shows what are no leaves: {error}") from error

    async def hand_in(self, vouchers: Sequence[KeptVoucher]) -> int | None:
        total = None
        for first in range(0, len(vouchers), BATCH):
            body = packing.pack([_entry(kept) for kept in vouchers[first : first + BATCH]])
            try:
                data = await ask(self.http, "POST", self.endpoint, "/v1/vouchers", body, _MAX_ANSWER_BYTES)
            except Unanswered as error:
                if error.status in _REFUSED:
                    return None
                raise
            match self._unpack(data):
                case {"total": str() as text, **rest} if not rest and text.isascii() and text.isdigit():
                    total = int(text)
                case _:
                    raise Violation(self.worker, "it does not say what it credits")
        return total

    def _unpack(self, data: bytes) -> Any:
        try:
            return packing.unpack(data)
        except ProtocolError as error:
            raise Violation(self.worker, f"its answer {error}") from error


def _entry(kept: KeptVoucher) -> dict[str, object]:
    assert kept.receipt is not None
    return {
        "voucher": kept.sent.voucher.to_wire(),
        "signature": kept.sent.signature,
        "receipt": kept.receipt.to_wire(),
        "receipt_signature": kept.receipt_signature,
    }
