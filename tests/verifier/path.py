"""A path of workers in one process: what each of them keeps of a request, honest or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import torch
from eth_account import Account
from eth_account.signers.local import LocalAccount
from torch import Tensor

from efedllm.model.blocks import blocks_for
from efedllm.model.load import Loaded, load, read_manifest
from efedllm.model.shard import Shard, Slice
from efedllm.model.spec import model_spec
from efedllm.numerics.backend import select
from efedllm.numerics.sampling import sample
from efedllm.numerics.sampling_parameters import SamplingParameters
from efedllm.protocol import eip712
from efedllm.protocol.claims import channel_id
from efedllm.protocol.merkle import row_root, token_leaf
from efedllm.protocol.model_spec import model_id
from efedllm.protocol.objects import KIND_INFERENCE, Hop, Receipt, Request, Sampling
from efedllm.protocol.pricing import CHUNK_POSITIONS, is_due
from efedllm.protocol.receipts import Commitments, receipt_for
from efedllm.protocol.records import Record
from efedllm.protocol.requests import ModelLimits, prompt_root
from efedllm.protocol.values import ZERO_ADDRESS, ZERO_HASH
from efedllm.protocol.vouchers import Leaf
from verifier.check import Case, Drawn, Setting

DOMAIN = eip712.Domain(31337, "0x" + "c1" * 20)
SALT = sha256(b"salt").digest()
EPOCH = 3


def key(name: str) -> LocalAccount:
    """A key that is the same in every run."""
    account: LocalAccount = Account.from_key(sha256(name.encode()).digest())
    return account


PAYER, SESSION = key("payer"), key("session")


@dataclass
class Cheat:
    """How one worker of the path departs from the protocol; each hook defaults to honesty."""

    weights: Callable[[Loaded], None] | None = None
    """Alters the loaded weights, after they were checked."""
    rows: Callable[[int, Tensor], Tensor] | None = None
    """Alters the rows that leave the shard, given the position of the first."""
    token: Callable[[int, int], int] | None = None
    """Alters the token sampled for a position."""
    receipt: Callable[[Receipt], Receipt] | None = None
    """Alters every receipt before it is signed."""
    ignores_stop: bool = False
    record: Callable[[Record], Record] | None = None
    """Alters what is handed out afterwards."""


def flip_weight(loaded: Loaded) -> None:
    """One bit of one weight of the down projection."""
    loaded.layers[0].down.q[5, 3] ^= 1


@dataclass
class Worker:
    """State of one shard's session, and what the worker keeps."""

    index: int
    hot: LocalAccount
    shard: Shard
    commitments: Commitments
    cheat: Cheat
    rows: list[bytes] = field(default_factory=list)
    receipts: list[tuple[Receipt, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        dimensions = self.shard.dimensions
        self.cache = self.shard.cache_pool(blocks_for(dimensions.context)).sequence()


def cold(index: int) -> LocalAccount:
    return key(f"cold {index}")


def hot(index: int) -> LocalAccount:
    return key(f"hot {index}")


def limits(folder: Path, step_verifier: str = ZERO_ADDRESS) -> ModelLimits:
    manifest = read_manifest(folder)
    d = manifest.dimensions
    return ModelLimits(model_id(model_spec(manifest, step_verifier)), d.layers, d.vocab, d.context)


def setting(folder: Path) -> Setting:
    return Setting(DOMAIN, limits(folder), read_manifest(folder).dimensions.hidden)


def make_request(
    folder: Path,
    prompt: Sequence[int],
    bounds: Sequence[int],
    max_tokens: int,
    sampling: Sampling | None = None,
    stop_ids: tuple[int, ...] = (),
    nonce: int = 1,
    step_verifier: str = ZERO_ADDRESS,
) -> Request:
    """`bounds`: 0, the layers at which the path is cut, and the number of layers."""
    hops = tuple(Hop(cold(at).address, start, end, 5 + at, 7 + at) for at, (start, end) in enumerate(pairwise(bounds)))
    return Request(
        payer=PAYER.address,
        nonce=nonce,
        expiry=2_000_000_000,
        kind=KIND_INFERENCE,
        modelId=limits(folder, step_verifier).model_id,
        path=hops,
        promptRoot=prompt_root(SALT, list(prompt)),
        promptCount=len(prompt),
        maxTokens=max_tokens,
        stopIds=stop_ids,
        seed=sha256(b"seed").digest(),
        sampling=sampling or Sampling(0, 0, 65536),
    )


def serve(
    folder: Path,
    request: Request,
    prompt: list[int],
    cheats: dict[int, Cheat] | None = None,
    domain: eip712.Domain = DOMAIN,
    epoch: int = EPOCH,
    chunk: int = CHUNK_POSITIONS,
) -> list[Record]:
    """Run the request through all its workers; the record of each, by shard."""
    backend = select("exact")
    workers = []
    for at, hop in enumerate(request.path):
        cheat = (cheats or {}).get(at, Cheat())
        loaded = load(folder, hop.start, hop.end)
        if cheat.weights is not None:
            cheat.weights(loaded)
        workers.append(Worker(at, hot(at), Shard(loaded, backend), Commitments(prompt), cheat))
    request_id = eip712.digest(domain, request)
    generated: list[int] = []
    feed = list(prompt)
    while True:
        for start in range(0, len(feed), chunk):
            token = _step(workers, request, feed[start : start + chunk])
            positions = workers[0].commitments.inputs.count
            if not generated and positions < len(prompt) and is_due(len(prompt), positions, 0):
                _sign(workers, request, request_id, domain, epoch)
        if workers[-1].cheat.token is not None:
            token = workers[-1].cheat.token(len(prompt) + len(generated), token)
        generated.append(token)
        for worker in workers:
            worker.commitments.tokens.append(token_leaf(token))
        workers[-1].commitments.outputs.append(token_leaf(token))
        stopped = token in request.stopIds and not workers[-1].cheat.ignores_stop
        is_final = stopped or len(generated) == request.maxTokens
        if is_final or is_due(len(prompt), workers[0].commitments.inputs.count, len(generated)):
            _sign(workers, request, request_id, domain, epoch)
        if is_final:
            break
        feed = [token]
    signature = eip712.sign(domain, request, SESSION)
    records = []
    for worker in workers:
        record = Record(request, signature, SALT, prompt, list(generated), list(worker.receipts), b"".join(worker.rows))
        records.append(worker.cheat.record(record) if worker.cheat.record else record)
    return records


def _step(workers: list[Worker], request: Request, tokens: list[int]) -> int:
    rows = torch.tensor(tokens, dtype=torch.int64)
    for worker in workers:
        position = worker.cache.length
        if worker.index == 0:
            leaves = [token_leaf(token) for token in tokens]
        else:
            data = rows.numpy().tobytes()
            size = len(data) // len(tokens)
            leaves = [row_root(data[at : at + size]) for at in range(0, len(data), size)]
            worker.rows.append(data)
        for leaf in leaves:
            worker.commitments.inputs.append(leaf)
        rows = worker.shard.forward([Slice(worker.cache, len(tokens))], rows)
        if worker.cheat.rows is not None:
            rows = worker.cheat.rows(position, rows)
        if worker.index < len(workers) - 1:
            data = rows.numpy().tobytes()
            size = len(data) // len(tokens)
            for at in range(0, len(data), size):
                worker.commitments.outputs.append(row_root(data[at : at + size]))
    last = workers[-1]
    asked = request.sampling
    parameters = SamplingParameters(asked.temperature, asked.topP, asked.topK)
    logits = last.shard.logits(rows[-1:])
    return int(sample(logits, [parameters], [request.seed], [last.cache.length], last.shard.tables.exp2))


def _sign(workers: list[Worker], request: Request, request_id: bytes, domain: eip712.Domain, epoch: int) -> None:
    upstream = ZERO_HASH
    for worker in workers:
        receipt = receipt_for(request, request_id, worker.index, epoch, worker.commitments.progress(), upstream)
        if worker.cheat.receipt is not None:
            receipt = worker.cheat.receipt(receipt)
        worker.receipts.append((receipt, eip712.sign(domain, receipt, worker.hot)))
        upstream = eip712.digest(domain, receipt)


def case(records: list[Record], shard: int, at: int = -1, domain: eip712.Domain = DOMAIN) -> Case:
    """The case of one worker's receipt number `at`, with everything that honest neighbours hand out."""
    record = records[shard]
    receipt, _ = record.receipts[at]
    leaf = Leaf(receipt.requestId, eip712.digest(domain, receipt), 100, 100 + receipt.fee)
    drawn = Drawn(cold(shard).address, channel_id(PAYER.address, cold(shard).address, SESSION.address), leaf)
    return Case(
        drawn,
        record,
        {cold(other).address: frozenset({hot(other).address}) for other in range(len(records))},
        upstream=records[shard - 1] if shard else None,
        downstream=records[shard + 1] if shard + 1 < len(records) else None,
    )


def with_receipt(
    record: Record, at: int, receipt: Receipt, signer: LocalAccount, domain: eip712.Domain = DOMAIN
) -> Record:
    """The record with one receipt exchanged for a signed other one."""
    receipts = list(record.receipts)
    receipts[at] = (receipt, eip712.sign(domain, receipt, signer))
    return replace(record, receipts=receipts)
