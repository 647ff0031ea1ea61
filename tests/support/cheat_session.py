"""A request that goes through a path of which one worker cheats, in one process: what everybody signs and keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import torch

from efedllm.model.cache import Cache
from efedllm.model.shard import Shard, Slice
from efedllm.model.trace import Trace
from efedllm.numerics.sampling import sample
from efedllm.numerics.sampling_parameters import SamplingParameters
from efedllm.protocol import eip712
from efedllm.protocol.committed import CommittedRows, CommittedTokens
from efedllm.protocol.descent import Descent
from efedllm.protocol.errors import ReceiptError
from efedllm.protocol.merkle import row_root, token_leaf, tree_root
from efedllm.protocol.objects import Receipt, Request, Sampling
from efedllm.protocol.receipts import Progress, check_link, check_shape, receipt_for
from efedllm.protocol.records import Record
from efedllm.protocol.trace import Shape
from efedllm.protocol.values import ZERO_HASH
from tests.support.cheat_model import CheatModel
from tests.support.cheat_work import (
    Committed,
    Inputs,
    Work,
    bridged_rows,
    bridged_tokens,
    rows_of,
    rows_tree,
    tokens_of,
)
from tests.support.cheats import WARM, Cheat
from tests.verifier.path import DOMAIN, EPOCH, SALT, SESSION, cold, hot, make_request


class Defence(Enum):
    """What a worker that cheated shows: what follows from its lie, all but the last tensor honest, or all honest."""

    CONSISTENT = "consistent"
    BRIDGED = "bridged"
    HONEST = "honest"


@dataclass(frozen=True)
class Terms:
    """Where a request is made. hands: numbers of the workers' keys, where they are not those of the path's places."""

    domain: eip712.Domain = DOMAIN
    epoch: int = EPOCH
    hands: tuple[int, ...] | None = None
    model_id: bytes | None = None
    nonce: int = 1

    def hand(self, at: int) -> int:
        return at if self.hands is None else self.hands[at]

    def request(self, made: Request) -> Request:
        path = tuple(replace(hop, worker=cold(self.hand(at)).address) for at, hop in enumerate(made.path))
        return replace(made, path=path, modelId=self.model_id or made.modelId)


class HonestWorker:
    """Computes as the worker program does."""

    def __init__(self, shard: Shard, blocks: int = 10) -> None:
        self._shard, self._cache = shard, shard.cache_pool(blocks).sequence()

    def rows(self, new: Sequence[int] | Sequence[bytes]) -> list[bytes]:
        """The rows that leave, of tokens or rows that come in."""
        return _split(self._forward(new))

    def token(self, new: Sequence[int] | Sequence[bytes], request: Request) -> int:
        """Of the last shard: the token after what came in."""
        logits = self._shard.logits(self._forward(new)[-1:])
        asked = request.sampling
        parameters = SamplingParameters(asked.temperature, asked.topP, asked.topK)
        return int(sample(logits, [parameters], [request.seed], [self._cache.length], self._shard.tables.exp2))

    @property
    def cache(self) -> Cache:
        return self._cache

    def _forward(self, new: Sequence[int] | Sequence[bytes]) -> torch.Tensor:
        if isinstance(new[0], int):
            rows = torch.tensor(new, dtype=torch.int64)
        else:
            data = bytearray(b"".join(new))  # type: ignore[arg-type]
            rows = torch.frombuffer(data, dtype=torch.int32).view(len(new), -1)
        return self._shard.forward([Slice(self._cache, len(rows))], rows)


def _split(rows: torch.Tensor) -> list[bytes]:
    data, size = rows.numpy().tobytes(), rows.shape[1] * 4
    return [data[at : at + size] for at in range(0, len(data), size)]


class CheatingWorker:
    """Computes everything again for each token, as its cheat says."""

    def __init__(self, model: CheatModel, request: Request, at: int, cheat: Cheat) -> None:
        self._model, self._request, self._at, self._cheat = model, request, at, cheat
        self._tokens: list[int] = []
        self._rows: list[bytes] = []
        self.sent_rows: list[bytes] = []
        self.sent_tokens: list[int] = []

    @property
    def work(self) -> Work:
        """Up to now."""
        inputs: Inputs = CommittedTokens(self._tokens) if self._at == 0 else rows_tree(self._rows)
        if self._cheat.feeds is not None:
            inputs = self._cheat.feeds(inputs)
        count, hop = len(self._tokens or self._rows), self._request.path[self._at]
        prompt = self._request.promptCount
        shape = Shape(self._model.spec, hop.start, hop.end, count, prompt, count - prompt + 1)
        return Work(self._model, self._request, shape, inputs, shape.generated == self._request.maxTokens)

    def compute(self, work: Work) -> Trace:
        return work.honest if self._cheat.compute is None else self._cheat.compute(work)

    def rows(self, new: Sequence[int] | Sequence[bytes]) -> list[bytes]:
        work = self._take(new)
        rows = rows_of(self.compute(work))
        if self._cheat.rows is not None:
            rows = self._cheat.rows(work, rows)
        self.sent_rows += (sent := rows[len(self.sent_rows) :])
        return sent

    def token(self, new: Sequence[int] | Sequence[bytes], request: Request) -> int:
        work = self._take(new)
        if self._cheat.token is not None:
            token = self._cheat.token(work, request.promptCount + work.shape.generated - 1)
        else:
            token = tokens_of(self.compute(work))[-1]
        self.sent_tokens.append(token)
        return token

    def _take(self, new: Sequence[int] | Sequence[bytes]) -> Work:
        if self._at == 0:
            self._tokens += new  # type: ignore[arg-type]
        else:
            self._rows += new  # type: ignore[arg-type]
        return self.work


@dataclass
class Session:
    """What came of a request. inputs, outputs: by shard, as they went from worker to worker; receipts: of those that
    signed, from the first shard on."""

    model: CheatModel
    request: Request
    prompt: list[int]
    generated: list[int]
    inputs: list[Inputs]
    outputs: list[Inputs]
    receipts: list[Receipt]
    terms: Terms
    cheat: Cheat | None = None
    at: int = 0
    worker: CheatingWorker | None = None
    committed: Committed | None = None
    """Trees of the receipt of the one that cheats."""

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.generated

    def shape(self, at: int) -> Shape:
        hop, positions = self.request.path[at], len(self.tokens) - 1
        return Shape(self.model.spec, hop.start, hop.end, positions, len(self.prompt), len(self.generated))

    def descent(self, at: int) -> Descent:
        return Descent(self.shape(at))

    def own_at(self, at: int, positions: int, generated: int) -> Work:
        """The same when the request had come so far."""
        inputs, hop = self.inputs[at], self.request.path[at]
        shape = Shape(self.model.spec, hop.start, hop.end, positions, len(self.prompt), generated)
        if isinstance(inputs, CommittedTokens):
            return Work(self.model, self.request, shape, CommittedTokens(inputs.tokens[:positions]))
        return Work(self.model, self.request, shape, CommittedRows(positions, inputs.read))

    def own(self, at: int) -> Work:
        """What an honest worker does with what was sent to it; it is also what a verifier recomputes."""
        return Work(self.model, self.request, self.shape(at), self.inputs[at])

    def defence(self, kind: Defence) -> Trace:
        """The trace with which the cheat is defended."""
        assert self.worker is not None and self.cheat is not None
        work = self.worker.work
        match kind:
            case Defence.CONSISTENT:
                return self.worker.compute(work)
            case Defence.BRIDGED if self.worker.sent_tokens:
                return bridged_tokens(work, self.worker.sent_tokens)
            case Defence.BRIDGED:
                return bridged_rows(work, self.worker.sent_rows)
            case Defence.HONEST:
                return work.honest

    def receipt_at(self, at: int, positions: int, generated: int, epoch: int | None = None) -> Receipt:
        """What an honest worker signed when it had come so far."""
        upstream = ZERO_HASH
        if at:
            upstream = eip712.digest(self.terms.domain, self.receipt_at(at - 1, positions, generated, epoch))
        token_root = CommittedTokens(self.tokens[: len(self.prompt) + generated]).root
        outputs = generated if at == len(self.request.path) - 1 else positions
        roots = _first(self.inputs[at], positions), _first(self.outputs[at], outputs)
        progress = Progress(positions, generated, token_root, *roots)
        request_id = eip712.digest(self.terms.domain, self.request)
        return receipt_for(
            self.request, request_id, at, self.terms.epoch if epoch is None else epoch, progress, upstream
        )

    def records(self) -> list[Record]:
        """What each worker hands out."""
        domain = self.terms.domain
        signature = eip712.sign(domain, self.request, SESSION)
        records = []
        for at, receipt in enumerate(self.receipts):
            rows = b""
            if isinstance(inputs := self.inputs[at], CommittedRows):
                rows = b"".join(inputs.read(row) for row in range(inputs.count))
            signed = [(receipt, eip712.sign(domain, receipt, hot(self.terms.hand(at))))]
            records.append(Record(self.request, signature, SALT, self.prompt, self.generated, signed, rows))
        return records


def run(
    model: CheatModel,
    bounds: Sequence[int],
    prompt: Sequence[int],
    max_tokens: int,
    cheat: Cheat | None = None,
    at: int = 0,
    *,
    terms: Terms = Terms(),
    stop_ids: tuple[int, ...] = (),
    sampling: Sampling = WARM,
) -> Session:
    """Worker `at` of the path cheats; without a cheat nobody does. sampling: where the cheat does not say."""
    sampling = sampling if cheat is None else cheat.sampling
    request = terms.request(make_request(model.folder, prompt, bounds, max_tokens, sampling, stop_ids, terms.nonce))
    workers: list[HonestWorker | CheatingWorker] = [
        HonestWorker(model.shard_of(request, shard)) for shard in range(len(bounds) - 1)
    ]
    cheating = None
    if cheat is not None:
        workers[at] = cheating = CheatingWorker(model, request, at, cheat)
    between: list[list[bytes]] = [[] for _ in workers]
    generated: list[int] = []
    feed: Sequence[int] | Sequence[bytes] = list(prompt)
    while True:
        for shard, worker in enumerate(workers[:-1]):
            feed = worker.rows(feed)
            between[shard] += feed
        generated.append(workers[-1].token(feed, request))
        stopped = generated[-1] in stop_ids and not (cheat is not None and cheat.ignores_stop)
        if stopped or len(generated) == max_tokens:
            break
        feed = generated[-1:]
    tokens = [*prompt, *generated]
    inputs: list[Inputs] = [CommittedTokens(tokens[:-1]), *(rows_tree(rows) for rows in between[:-1])]
    outputs: list[Inputs] = [*inputs[1:], CommittedTokens(generated)]
    session = Session(model, request, list(prompt), generated, inputs, outputs, [], terms, cheat, at, cheating)
    _sign(session)
    return session


def _continues(session: Session, receipt: Receipt) -> bool:
    """Whether an honest worker signs this behind the last receipt: what does not match, it does not sign away."""
    upstream = session.receipts[-1]
    try:
        check_shape(session.request, receipt.requestId, upstream)
        check_link(upstream, receipt.upstream, receipt)
    except ReceiptError:
        return False
    return True


def _first(tree: Inputs, count: int) -> bytes:
    """The root of the first so many leaves."""
    if isinstance(tree, CommittedTokens):
        return tree_root([token_leaf(token) for token in tree.tokens[:count]])
    return tree_root([row_root(tree.read(at)) for at in range(count)])


def _sign(session: Session) -> None:
    domain, epoch = session.terms.domain, session.terms.epoch
    request_id, upstream = eip712.digest(domain, session.request), ZERO_HASH
    token_root = tree_root([token_leaf(token) for token in session.tokens])
    positions, generated = len(session.tokens) - 1, len(session.generated)
    for shard in range(len(session.request.path)):
        trees = Committed(session.inputs[shard], session.outputs[shard])
        cheats = session.cheat is not None and session.worker is not None and shard == session.at
        if cheats:
            work = session.worker.work
            trees = replace(trees, input=work.inputs)
            if session.cheat.commit is not None:
                trees = session.cheat.commit(work, trees)
            session.committed = trees
        progress = Progress(positions, generated, token_root, trees.input.root, trees.output.root)
        receipt = receipt_for(session.request, request_id, shard, epoch, progress, upstream)
        if cheats and session.cheat.sign is not None:
            receipt = session.cheat.sign(session.worker.work, receipt)
        elif not cheats and shard and not _continues(session, receipt):
            return
        session.receipts.append(receipt)
        upstream = eip712.digest(domain, receipt)
