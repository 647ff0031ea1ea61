"""Receipts: what a worker commits to while it works, and what the next worker, the client and the verifier compare."""

from dataclasses import dataclass

from efedllm.protocol.errors import ReceiptError
from efedllm.protocol.merkle import AppendTree, token_leaf
from efedllm.protocol.objects import Receipt, Request
from efedllm.protocol.pricing import fee_of
from efedllm.protocol.values import ZERO_HASH


@dataclass(frozen=True)
class Progress:
    """Counts and roots of one shard at one moment: everything a receipt says besides whom and for how much."""

    positions: int
    generated: int
    token_root: bytes
    input_root: bytes
    output_root: bytes


class Commitments:
    """The three append-only trees of a shard's session.

    `tokens` holds all prompt ids from the start and grows by one per generated token; `inputs` and `outputs` hold what
    entered and left, one leaf per position: token leaves at the two ends of the path, row roots between. The last
    shard's outputs begin at the last prompt position.
    """

    def __init__(self, prompt: list[int]) -> None:
        self.prompt_count = len(prompt)
        self.tokens, self.inputs, self.outputs = (
            AppendTree(),
            AppendTree(),
            AppendTree(),
        )
        for token in prompt:
            self.tokens.append(token_leaf(token))

    @property
    def generated(self) -> int:
        return self.tokens.count - self.prompt_count

    def progress(self) -> Progress:
        return Progress(
            self.inputs.count,
            self.generated,
            self.tokens.root(),
            self.inputs.root(),
            self.outputs.root(),
        )


def receipt_for(
    request: Request,
    request_id: bytes,
    shard: int,
    epoch: int,
    progress: Progress,
    upstream: bytes,
) -> Receipt:
    """The receipt that an honest worker signs at `progress`."""
    hop = request.path[shard]
    return Receipt(
        requestId=request_id,
        shard=shard,
        worker=hop.worker,
        payer=request.payer,
        epoch=epoch,
        positions=progress.positions,
        promptCount=request.promptCount,
        generated=progress.generated,
        tokenRoot=progress.token_root,
        inputRoot=progress.input_root,
        outputRoot=progress.output_root,
        upstream=upstream,
        fee=fee_of(hop, request.promptCount, progress.positions, progress.generated),
    )


def check_shape(request: Request, request_id: bytes, receipt: Receipt) -> None:
    """Everything about a receipt that follows from the request alone. Raises ReceiptError naming the field."""
    if receipt.requestId != request_id:
        raise ReceiptError("receipt.requestId is another request's")
    if receipt.shard >= len(request.path):
        raise ReceiptError(f"receipt.shard {receipt.shard} is outside the path of {len(request.path)}")
    hop = request.path[receipt.shard]
    expected = {
        "worker": hop.worker,
        "payer": request.payer,
        "promptCount": request.promptCount,
        "fee": fee_of(hop, request.promptCount, receipt.positions, receipt.generated),
    }
    for name, value in expected.items():
        if getattr(receipt, name) != value:
            raise ReceiptError(f"receipt.{name} is {getattr(receipt, name)}, the request gives {value}")
    if receipt.generated > request.maxTokens:
        raise ReceiptError(f"receipt.generated {receipt.generated} exceeds maxTokens {request.maxTokens}")
    if receipt.generated:
        wanted = request.promptCount + receipt.generated - 1
        if receipt.positions != wanted:
            raise ReceiptError(
                f"receipt.positions is {receipt.positions}, {receipt.generated} generated tokens need {wanted}"
            )
    elif not 0 < receipt.positions < request.promptCount:
        raise ReceiptError(f"receipt.positions {receipt.positions} without a generated token is outside the prompt")
    if (receipt.shard == 0) != (receipt.upstream == ZERO_HASH):
        raise ReceiptError("receipt.upstream must be zero in the first shard and only there")


def check_link(upstream: Receipt, upstream_digest: bytes, receipt: Receipt) -> None:
    """Whether `receipt` continues `upstream` at the same counts and on the same rows. Raises ReceiptError."""
    if receipt.upstream != upstream_digest:
        raise ReceiptError(f"receipt.upstream of shard {receipt.shard} is not the receipt of shard {upstream.shard}")
    for name in ("positions", "generated", "tokenRoot"):
        if getattr(receipt, name) != getattr(upstream, name):
            raise ReceiptError(f"receipt.{name} of shard {receipt.shard} differs from shard {upstream.shard}'s")
    if receipt.inputRoot != upstream.outputRoot:
        raise ReceiptError(f"shard {receipt.shard} received other rows than shard {upstream.shard} committed to")


class _Prefixes:
    """Roots of the first so many of some leaves; counts that grow cost what an append costs."""

    def __init__(self, leaves: list[bytes]) -> None:
        self._leaves = leaves
        self._tree = AppendTree()

    def root(self, count: int) -> bytes:
        if count < self._tree.count:
            self._tree = AppendTree()
        for leaf in self._leaves[self._tree.count : count]:
            self._tree.append(leaf)
        return self._tree.root()


class ShownTokens:
    """The tokens of a request that a reader of its receipts saw. Receipts are checked fastest in their order."""

    def __init__(self, prompt: list[int], generated: list[int]) -> None:
        self._prompt, self._generated = len(prompt), len(generated)
        leaves = [token_leaf(token) for token in prompt + generated]
        self._tokens, self._inputs = _Prefixes(leaves), _Prefixes(leaves)
        self._outputs = _Prefixes(leaves[len(prompt) :])

    def check(self, request: Request, receipt: Receipt) -> None:
        """Whether a receipt speaks of these tokens. Raises ReceiptError."""
        if receipt.generated > self._generated:
            raise ReceiptError(
                f"receipt.generated {receipt.generated} exceeds the {self._generated} tokens that were shown"
            )
        count = self._prompt + receipt.generated
        if receipt.tokenRoot != self._tokens.root(count):
            raise ReceiptError("receipt.tokenRoot is not that of the tokens that were shown")
        if receipt.shard == 0 and receipt.inputRoot != self._inputs.root(min(receipt.positions, count)):
            raise ReceiptError("receipt.inputRoot of the first shard is not that of the tokens that were shown")
        if receipt.shard == len(request.path) - 1 and receipt.outputRoot != self._outputs.root(receipt.generated):
            raise ReceiptError("receipt.outputRoot of the last shard is not that of the tokens that were shown")


def check_tokens(request: Request, receipt: Receipt, prompt: list[int], generated: list[int]) -> None:
    """Whether a receipt speaks of the tokens that its reader saw. Raises ReceiptError."""
    ShownTokens(prompt, generated).check(request, receipt)
