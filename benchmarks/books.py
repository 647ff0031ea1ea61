"""Clients and workers on paper: requests, receipts, books and vouchers as they are signed, without a model behind them.

Counts, fees, token roots, links and signatures are those of real requests; the roots of rows are made up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from eth_account.signers.local import LocalAccount

from efedllm.protocol import eip712
from efedllm.protocol.merkle import AppendTree, token_leaf
from efedllm.protocol.objects import KIND_INFERENCE, Hop, Receipt, Request, Sampling, Voucher
from efedllm.protocol.receipts import Progress, receipt_for
from efedllm.protocol.records import Record
from efedllm.protocol.requests import prompt_root
from efedllm.protocol.values import ZERO_HASH
from efedllm.protocol.vouchers import Book

SALT = bytes(32)
EXPIRY = 2_000_000_000


@dataclass(frozen=True)
class Worker:
    """One worker of a path; `hot` signs its receipts, prices are base units per token."""

    cold: str
    hot: LocalAccount
    start: int
    end: int
    prompt_price: int
    token_price: int

    @property
    def hop(self) -> Hop:
        return Hop(self.cold, self.start, self.end, self.prompt_price, self.token_price)


@dataclass(frozen=True)
class Served:
    """A request with the receipts of every worker of the path: receipts[worker][number]."""

    request_id: bytes
    receipts: list[list[Receipt]]
    digests: list[list[bytes]]
    records: list[Record]


class Client:
    """A payer with a channel to every worker of one path, whose books it keeps."""

    def __init__(
        self,
        domain: eip712.Domain,
        payer: str,
        session: LocalAccount,
        path: Sequence[Worker],
        model_id: bytes,
        epoch: int = 0,
        nonce: int = 0,
    ) -> None:
        """`nonce`: of the request before the first; generated tokens follow from a request's nonce."""
        self.domain, self.payer, self.session, self.path = domain, payer, session, path
        self.books = [Book(payer, worker.cold, epoch) for worker in path]
        self._model_id, self._epoch, self._nonce = model_id, epoch, nonce

    def ask(self, prompt: Sequence[int], counts: Sequence[int]) -> Served:
        """A request that is answered, with receipts at these counts of generated tokens, the last of them the end."""
        self._nonce += 1
        request = Request(
            payer=self.payer,
            nonce=self._nonce,
            expiry=EXPIRY,
            kind=KIND_INFERENCE,
            modelId=self._model_id,
            path=tuple(worker.hop for worker in self.path),
            promptRoot=prompt_root(SALT, list(prompt)),
            promptCount=len(prompt),
            maxTokens=counts[-1],
            stopIds=(),
            seed=sha256(b"seed" + self._nonce.to_bytes(8)).digest(),
            sampling=Sampling(0, 0, 65536),
        )
        request_id = eip712.digest(self.domain, request)
        signature = eip712.sign(self.domain, request, self.session)
        generated = [(7 * at + self._nonce) % 50_000 for at in range(counts[-1])]
        receipts: list[list[Receipt]] = [[] for _ in self.path]
        for progress in _progress(request_id, list(prompt), generated, counts, len(self.path)):
            upstream = ZERO_HASH
            for shard, one in enumerate(progress):
                receipt = receipt_for(request, request_id, shard, self._epoch, one, upstream)
                receipts[shard].append(receipt)
                upstream = eip712.digest(self.domain, receipt)
        signed = [
            [(receipt, eip712.sign(self.domain, receipt, worker.hot)) for receipt in own]
            for worker, own in zip(self.path, receipts, strict=True)
        ]
        records = [
            Record(request, signature, SALT, list(prompt), generated, own, b"", signed[shard - 1] if shard else [])
            for shard, own in enumerate(signed)
        ]
        digests = [[eip712.digest(self.domain, receipt) for receipt in own] for own in receipts]
        return Served(request_id, receipts, digests, records)

    def pay(self, served: Served, number: int) -> None:
        """Take receipt `number` of every worker into its book."""
        for shard, book in enumerate(self.books):
            fee = served.receipts[shard][number].fee
            book.add(*book.next_leaf(served.request_id, served.digests[shard][number], fee))

    def voucher(self, shard: int) -> tuple[Voucher, bytes]:
        """For everything in the book of one worker."""
        book = self.books[shard]
        tree = Book.restore(book.payer, book.worker, book.epoch, book.leaves[:-1])
        voucher = tree.voucher_after(book.leaves[-1], replaces=False)
        return voucher, eip712.sign(self.domain, voucher, self.session)


def _progress(
    request_id: bytes, prompt: list[int], generated: list[int], counts: Sequence[int], workers: int
) -> list[list[Progress]]:
    """What each worker of the path commits to at each of the counts."""
    tokens, inputs, outputs = AppendTree(), AppendTree(), AppendTree()
    for token in prompt:
        tokens.append(token_leaf(token))
        inputs.append(token_leaf(token))
    found: list[list[Progress]] = []
    done = 0
    for count in counts:
        for token in generated[done:count]:
            tokens.append(token_leaf(token))
            outputs.append(token_leaf(token))
        for token in generated[max(0, done - 1) : count - 1]:
            inputs.append(token_leaf(token))
        done = count
        positions = len(prompt) + count - 1
        rows = [sha256(request_id + bytes([shard]) + count.to_bytes(4)).digest() for shard in range(1, workers)]
        ends = [inputs.root(), *rows, outputs.root()]
        found.append(
            [Progress(positions, count, tokens.root(), ends[shard], ends[shard + 1]) for shard in range(workers)]
        )
    return found
