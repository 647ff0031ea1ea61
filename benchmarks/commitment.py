"""Claim: committing to a computation costs less than 0.5 % of it.

Measured is what a worker in the middle of a path does besides computing: roots of the rows that come and go, the three
trees, and every 16 tokens a receipt, which is compared with the upstream one, hashed, signed and kept on disk. In the
worker no step waits for the disk: processor time is what commitments take away, time on the wall the stricter number.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter, thread_time

import torch

from efedllm.model.blocks import blocks_for
from efedllm.model.shard import Shard, Slice
from efedllm.numerics.backend import select
from efedllm.protocol import eip712
from efedllm.protocol.merkle import row_root, token_leaf
from efedllm.protocol.objects import Receipt
from efedllm.protocol.pricing import RECEIPT_TOKENS
from efedllm.protocol.receipts import Commitments, check_link, receipt_for
from worker.store import Store

from .integer import IntegerModel, random_prompts
from .report import SCRATCH, Result, below, reported
from .requests import DOMAIN, EPOCH, Payer, hop, new_key
from .shapes import HIDDEN_1024, HIDDEN_2048, TOY, Shape
from .timing import Cost, one_thread, steps

LIMIT_PERCENT = 0.5
PARTS = ("row roots", "trees", "upstream receipt", "receipt hash and signature", "disk")
SHARD = 1  # in the middle of a path of three


@dataclass(frozen=True)
class Size:
    """`rounds`: of 16 tokens and the receipt behind them."""

    shapes: tuple[Shape, ...]
    prompt: int
    rounds: int


FULL = Size((HIDDEN_1024, HIDDEN_2048), 64, 7)
QUICK = Size((TOY,), 8, 2)


def run(quick: bool, tell: Callable[[str], None]) -> list[Result]:
    """Share of decode time at batch 1, and where it goes."""
    size = QUICK if quick else FULL
    with one_thread():
        return [result for shape in size.shapes for result in _shape(shape, size, tell)]


def _shape(shape: Shape, size: Size, tell: Callable[[str], None]) -> list[Result]:
    tell(f"{shape.name}: {size.rounds} rounds of {RECEIPT_TOKENS} tokens")
    quarter = shape.layers // 4
    whole, part = IntegerModel(shape.loaded()), Quarter(shape, quarter, 2 * quarter)
    whole.start(random_prompts(1, size.prompt, shape.vocab), size.prompt + 1 + size.rounds * RECEIPT_TOKENS)
    part.start(size.prompt, size.rounds * RECEIPT_TOKENS)
    decodes: list[Cost] = []
    quarters: list[Cost] = []
    rounds: list[dict[str, Cost]] = []
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        committer = Committer(shape, size.prompt, Path(folder))
        for _ in range(size.rounds):
            decodes.append(Cost.of(partial(steps, whole, RECEIPT_TOKENS)))
            quarters.append(Cost.of(partial(steps, part, RECEIPT_TOKENS)))
            rounds.append(committer.round(part.taken()))
        committer.close()
    decode, fourth = Cost.median(decodes), Cost.median(quarters)
    total = Cost.median(sum(parts.values(), Cost()) for parts in rounds)
    per_token = 1e3 / RECEIPT_TOKENS
    return [
        reported(f"{shape.name}: decode", per_token * decode.wall, "ms/token"),
        reported(f"{shape.name}: decode, processor time", per_token * decode.processor, "ms/token"),
        reported(f"{shape.name}: commitments", per_token * total.wall, "ms/token"),
        reported(f"{shape.name}: commitments, processor time", per_token * total.processor, "ms/token"),
        *(
            reported(
                f"{shape.name}: {name}, processor time",
                per_token * Cost.median(parts[name] for parts in rounds).processor,
                "ms/token",
            )
            for name in PARTS
        ),
        below(f"{shape.name}: share of time on the wall", 100 * total.wall / decode.wall, "%", LIMIT_PERCENT),
        below(f"{shape.name}: share of processor time", 100 * total.processor / decode.processor, "%", LIMIT_PERCENT),
        reported(
            f"{shape.name}: share of processor time with {quarter} of {shape.layers} layers",
            100 * total.processor / fourth.processor,
            "%",
        ),
    ]


class Quarter:
    """Some layers in the middle, fed with rows as a worker of a longer path is."""

    def __init__(self, shape: Shape, start: int, end: int) -> None:
        self._shard = Shard(shape.loaded(start, end), select())
        self._rows = torch.randint(-(1 << 17), 1 << 17, (1, shape.hidden), dtype=torch.int32)
        self._taken: list[tuple[bytes, bytes]] = []

    def start(self, prompt: int, tokens: int) -> None:
        self._cache = self._shard.cache_pool(blocks_for(prompt + tokens)).sequence()
        self._shard.forward([Slice(self._cache, prompt)], self._rows.expand(prompt, -1).contiguous())

    def step(self) -> None:
        out = self._shard.forward([Slice(self._cache, 1)], self._rows)
        self._taken.append((self._rows.numpy().tobytes(), out.numpy().tobytes()))

    def taken(self) -> list[tuple[bytes, bytes]]:
        """Rows that came and went since the last call."""
        taken, self._taken = self._taken, []
        return taken


class Committer:
    """Does and times what `worker.session` does for an inner shard, one receipt at a time."""

    def __init__(self, shape: Shape, prompt: int, folder: Path) -> None:
        self._payer, self._hot, self._upstream_hot = Payer(), new_key(), new_key()
        cuts = [0, shape.layers // 4, shape.layers // 2, shape.layers]
        path = tuple(hop(new_key().address, *cuts[at : at + 2]) for at in range(3))
        ids = list(range(prompt))
        self._open = self._payer.open(path, ids, shape.context - prompt)
        self._commitments = Commitments(ids)
        self._store = Store(folder / "store.sqlite")
        self._costs: dict[str, Cost] = {}
        self._generated: list[int] = []
        row = bytes(4 * shape.hidden)
        for _ in range(prompt):
            self._commitments.inputs.append(row_root(row))
            self._commitments.outputs.append(row_root(row))
        opened = self._open
        self._store.begin_request(
            opened.request_id,
            opened.request,
            opened.signature,
            opened.salt,
            opened.prompt,
            SHARD,
            self._payer.session.address,
            EPOCH,
        )
        self._token()

    def close(self) -> None:
        self._store.close()

    def round(self, rows: list[tuple[bytes, bytes]]) -> dict[str, Cost]:
        """Commit to these rows (in, out), a token behind each, and sign a receipt. Cost by part."""
        self._costs = dict.fromkeys(PARTS, Cost())
        for row_in, row_out in rows:
            with self._timed("row roots"):
                roots = row_root(row_in), row_root(row_out)
            with self._timed("trees"):
                self._commitments.inputs.append(roots[0])
                self._commitments.outputs.append(roots[1])
                self._token()
        self._receipt(b"".join(row_in for row_in, _ in rows))
        return self._costs

    def _token(self) -> None:
        token = len(self._generated)
        self._commitments.tokens.append(token_leaf(token))
        self._generated.append(token)

    def _receipt(self, rows: bytes) -> None:
        request, request_id = self._open.request, self._open.request_id
        with self._timed("trees"):
            progress = self._commitments.progress()
        upstream, signature = self._upstream_receipt()
        with self._timed("upstream receipt"):
            digest = eip712.digest(DOMAIN, upstream)
            signer = eip712.recover(DOMAIN, upstream, signature)
        assert signer == self._upstream_hot.address
        with self._timed("receipt hash and signature"):
            receipt = receipt_for(request, request_id, SHARD, EPOCH, progress, digest)
            check_link(upstream, digest, receipt)
            own = eip712.digest(DOMAIN, receipt)
            own_signature = eip712.sign(DOMAIN, receipt, self._hot)
        with self._timed("disk"):
            self._store.keep_receipt(
                receipt, own, own_signature, list(self._generated), rows, (upstream, digest, signature)
            )

    def _upstream_receipt(self) -> tuple[Receipt, bytes]:
        """What the honest worker before this one sends; making it is that worker's cost."""
        progress = self._commitments.progress()
        theirs = replace(progress, output_root=progress.input_root)
        receipt = receipt_for(self._open.request, self._open.request_id, SHARD - 1, EPOCH, theirs, bytes(32))
        return receipt, eip712.sign(DOMAIN, receipt, self._upstream_hot)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        wall, processor = perf_counter(), thread_time()
        yield
        self._costs[part] += Cost(perf_counter() - wall, thread_time() - processor)
