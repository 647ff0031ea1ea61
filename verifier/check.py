"""Whether a drawn receipt tells the truth. Pure: what was fetched is an argument, computing goes through a seam."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Protocol

from efedllm.protocol import eip712
from efedllm.protocol.claims import channel_id
from efedllm.protocol.errors import ProtocolError, ReceiptError, RequestError
from efedllm.protocol.merkle import row_root, token_leaf, tree_root
from efedllm.protocol.objects import Receipt, Request
from efedllm.protocol.receipts import check_link, check_shape
from efedllm.protocol.records import Record
from efedllm.protocol.requests import ModelLimits, check_prompt, check_request, prompt_root
from efedllm.protocol.vouchers import Leaf

from .verdict import Fault, Finding, Missing, Outcome, Verdict, at_fault, not_had


class Compute(Protocol):
    """Recomputes layers `[start, end)` of the model; `inputs` are token ids from layer 0 on, else rows as bytes."""

    def row_roots(self, start: int, end: int, inputs: Sequence[int] | memoryview) -> list[bytes]:
        """Root of the row that leaves the layers at each position."""

    def rows(self, start: int, end: int, inputs: Sequence[int] | memoryview) -> bytes:
        """The rows themselves: int32 [positions, hidden], little-endian."""

    def sampled(self, start: int, end: int, inputs: Sequence[int] | memoryview, request: Request) -> list[int]:
        """Token that the last layers give after each position from the end of the prompt on."""


@dataclass(frozen=True)
class Drawn:
    """What a claim paid for: one leaf of one channel's book."""

    worker: str
    channel: bytes
    leaf: Leaf


@dataclass(frozen=True)
class Case:
    """A drawn receipt with all that could be had about it.

    `hot_keys`: of the keys that signed here, those that are or were a worker's own. `downstream` is only used to name
    the first differing position.
    """

    drawn: Drawn
    record: Record
    hot_keys: Mapping[str, Set[str]]
    upstream: Record | None = None
    downstream: Record | None = None


@dataclass(frozen=True)
class Setting:
    """What all checks of one verifier share. `hidden`: values in a row."""

    domain: eip712.Domain
    model: ModelLimits
    hidden: int


def check(setting: Setting, case: Case, compute: Compute) -> Verdict:
    """The verdict on one receipt, for itself: whether an earlier worker caused a wrong output is for `blame` to say."""
    try:
        receipt = _open(setting, case)
        _check_claims(setting, case, receipt)
        missing = [_open_tokens(setting, case, receipt)]
        _check_fed(setting, case, receipt)
        missing.append(_check_upstream(setting, case, receipt))
        if receipt.shard == len(case.record.request.path) - 1:
            _check_tokens(setting, case, receipt, compute)
        else:
            _check_rows(setting, case, receipt, compute)
    except Finding as finding:
        return finding.verdict
    return next((one for one in missing if one is not None), Verdict(Outcome.OK, receipt.worker))


def with_own_rows(setting: Setting, case: Case, compute: Compute) -> Case | None:
    """The case with rows that the model gives from the tokens, where they are those that the worker signed for: what it
    keeps to itself then hides nothing. The record opens the token root."""
    found = find_receipt(setting.domain, case.record, case.drawn.leaf.receipt_digest)
    if found is None:
        return None
    receipt, _ = found
    start = case.record.request.path[receipt.shard].start
    rows = compute.rows(0, start, _tokens(case.record, receipt)[: receipt.positions])
    record = replace(case.record, rows=rows)
    roots = _row_roots(setting, record, receipt.positions)
    return replace(case, record=record) if roots is not None and tree_root(roots) == receipt.inputRoot else None


def find_receipt(domain: eip712.Domain, record: Record, digest: bytes) -> tuple[Receipt, bytes] | None:
    """The receipt with this digest and its signature, if the record holds it."""
    for receipt, signature in record.receipts:
        if eip712.digest(domain, receipt) == digest:
            return receipt, signature
    return None


def signer_of(domain: eip712.Domain, receipt: Receipt, signature: bytes) -> str | None:
    """Who signed a receipt; None if nobody can have."""
    try:
        return eip712.recover(domain, receipt, signature)
    except ProtocolError:
        return None


def _open(setting: Setting, case: Case) -> Receipt:
    """The receipt that was paid for, once it is known whose it is and for which request."""
    drawn, record, request = case.drawn, case.record, case.record.request
    found = find_receipt(setting.domain, record, drawn.leaf.receipt_digest)
    if found is None:
        raise not_had(drawn.worker, Missing.RECEIPT, "the record does not hold the receipt that was paid for")
    receipt, signature = found
    if signer_of(setting.domain, receipt, signature) not in case.hot_keys.get(drawn.worker, frozenset()):
        raise not_had(drawn.worker, Missing.RECEIPT_SIGNATURE, "the receipt is not signed by a key of this worker")
    if eip712.digest(setting.domain, request) != receipt.requestId:
        raise not_had(drawn.worker, Missing.REQUEST, "the request handed out is not the one the receipt names")
    try:
        signer = eip712.recover(setting.domain, request, record.request_signature)
    except ProtocolError as error:
        raise not_had(drawn.worker, Missing.REQUEST_SIGNATURE, error) from error
    if channel_id(request.payer, drawn.worker, signer) != drawn.channel:
        reason = f"the request is signed by {signer}, not by the session key of the channel that paid"
        raise not_had(drawn.worker, Missing.REQUEST_SIGNATURE, reason)
    if request.modelId != setting.model.model_id:
        raise Finding(Verdict(Outcome.OTHER_MODEL, drawn.worker, reason=f"model {request.modelId.hex()}"))
    return receipt


def _check_claims(setting: Setting, case: Case, receipt: Receipt) -> None:
    """What the worker signed that is wrong whatever the tokens are and whatever the model computes."""
    drawn, request = case.drawn, case.record.request
    for name, ours in (("worker", drawn.worker), ("payer", request.payer)):
        if (theirs := getattr(receipt, name)) != ours:
            raise at_fault(drawn.worker, Fault.FOREIGN, f"claimed a receipt whose {name} is {theirs}, not {ours}")
    try:
        # Whether the request came in time is between client and worker: the clock is set so that it did.
        check_request(request, setting.model, request.expiry - 1)
    except RequestError as error:
        raise at_fault(drawn.worker, Fault.REQUEST, error) from error
    try:
        check_shape(request, receipt.requestId, receipt)
    except ReceiptError as error:
        raise at_fault(drawn.worker, Fault.RECEIPT, error) from error
    if (paid := drawn.leaf.after - drawn.leaf.before) > receipt.fee:
        raise at_fault(drawn.worker, Fault.OVERCHARGED, f"claimed {paid} base units for a receipt of {receipt.fee}")


def _open_tokens(setting: Setting, case: Case, receipt: Receipt) -> Verdict | None:
    """Whether the record holds the tokens, and the prompt that the client signed; the verdict to give if the latter
    cannot be told, which keeps nobody from computing what follows from the tokens."""
    drawn, record, request = case.drawn, case.record, case.record.request
    tokens = _tokens(record, receipt)
    if len(tokens) != receipt.promptCount + receipt.generated or tree_root(_leaves(tokens)) != receipt.tokenRoot:
        raise not_had(drawn.worker, Missing.TOKENS, "the tokens handed out do not have the token root that was signed")
    if len(record.prompt) != request.promptCount or prompt_root(record.salt, record.prompt) != request.promptRoot:
        reason = "the prompt handed out does not have the root that was signed"
        return not_had(drawn.worker, Missing.PROMPT, reason).verdict
    try:
        check_prompt(request, record.salt, record.prompt, setting.model.vocab)
    except RequestError as error:
        raise at_fault(drawn.worker, Fault.REQUEST, error) from error
    return None


def _check_fed(setting: Setting, case: Case, receipt: Receipt) -> None:
    """A first shard's input is that of its tokens."""
    drawn, record = case.drawn, case.record
    if receipt.shard == 0:
        fed = _tokens(record, receipt)[: receipt.positions]
        if receipt.inputRoot != tree_root(_leaves(fed)):
            raise at_fault(drawn.worker, Fault.INPUT, "the input root is not that of the tokens it also signed")
        for position, token in enumerate(fed):
            if token >= setting.model.vocab:
                raise at_fault(
                    drawn.worker, Fault.INPUT, f"fed token {token}, which is not in the vocabulary", position
                )


def _check_upstream(setting: Setting, case: Case, receipt: Receipt) -> Verdict | None:
    """Whether the receipt continues the one before it. Returns the verdict to give if that cannot be told."""
    if receipt.shard == 0:
        return None
    neighbour = case.record.request.path[receipt.shard - 1].worker
    if case.upstream is None:
        reason = "the upstream worker does not hand out its receipts"
        return not_had(neighbour, Missing.UPSTREAM, reason).verdict
    found = find_receipt(setting.domain, case.upstream, receipt.upstream)
    if found is None:
        reason = "the upstream worker does not hold the receipt that this one names"
        return not_had(neighbour, Missing.UPSTREAM, reason).verdict
    upstream, signature = found
    if (upstream.requestId, upstream.shard) != (receipt.requestId, receipt.shard - 1):
        raise at_fault(
            receipt.worker, Fault.LINK, "names a receipt that is not its upstream neighbour's for this request"
        )
    if signer_of(setting.domain, upstream, signature) not in case.hot_keys.get(neighbour, frozenset()):
        reason = "the upstream receipt is not signed by a key of that worker"
        return not_had(neighbour, Missing.UPSTREAM, reason).verdict
    try:
        check_link(upstream, receipt.upstream, receipt)
    except ReceiptError as error:
        raise at_fault(receipt.worker, Fault.LINK, error) from error
    return None


def _check_rows(setting: Setting, case: Case, receipt: Receipt, compute: Compute) -> None:
    """A shard that sends rows on: its outputs recompute from its inputs."""
    hop = case.record.request.path[receipt.shard]
    outputs = compute.row_roots(hop.start, hop.end, _inputs(setting, case.record, receipt))
    if tree_root(outputs) == receipt.outputRoot:
        return
    position = _first_difference(setting, case, receipt, outputs)
    where = f"; the first wrong row is at position {position}" if position is not None else ""
    if position is None and (agreed := _agreed_positions(case.record, receipt, outputs)):
        where = f"; the first wrong row is at position {agreed} or later"
    reason = f"the rows of layers {hop.start}:{hop.end} do not have the output root that it signed{where}"
    raise at_fault(receipt.worker, Fault.OUTPUT, reason, position)


def _check_tokens(setting: Setting, case: Case, receipt: Receipt, compute: Compute) -> None:
    """The shard that samples: its tokens are those that the logits give, and it stopped where it had to."""
    request, worker = case.record.request, receipt.worker
    generated = case.record.generated[: receipt.generated]
    if receipt.outputRoot != tree_root(_leaves(generated)):
        raise at_fault(worker, Fault.OUTPUT, "the output root is not that of the tokens it also signed")
    before_stop = len(list(takewhile(lambda token: token not in request.stopIds, generated)))
    if before_stop < len(generated) - 1:
        position = receipt.promptCount + before_stop
        reason = f"went on for {len(generated) - 1 - before_stop} tokens after stop id {generated[before_stop]}"
        raise at_fault(worker, Fault.PAST_STOP, f"{reason} at position {position}", position)
    inputs = _inputs(setting, case.record, receipt)  # opened even where nothing is sampled yet: they are signed for
    if not generated:
        return
    hop = request.path[receipt.shard]
    for at, (signed, sampled) in enumerate(
        zip(generated, compute.sampled(hop.start, hop.end, inputs, request), strict=True)
    ):
        if signed != sampled:
            position = receipt.promptCount + at
            reason = f"signed token {signed} where the request's sampling gives {sampled}, at position {position}"
            raise at_fault(worker, Fault.TOKEN, reason, position)


def _inputs(setting: Setting, record: Record, receipt: Receipt) -> Sequence[int] | memoryview:
    """What entered the shard up to the receipt: tokens, or rows that open the signed input root."""
    if receipt.shard == 0:
        return _tokens(record, receipt)[: receipt.positions]
    roots = _row_roots(setting, record, receipt.positions)
    if roots is None:
        raise not_had(receipt.worker, Missing.ROWS, f"the rows of {receipt.positions} positions were not handed out")
    if tree_root(roots) != receipt.inputRoot:
        raise not_had(receipt.worker, Missing.ROWS, "the rows handed out do not have the input root that was signed")
    return memoryview(record.rows)[: receipt.positions * setting.hidden * 4]


def _first_difference(setting: Setting, case: Case, receipt: Receipt, outputs: list[bytes]) -> int | None:
    """Where the rows sent differ from those recomputed, told from the rows that the next worker received."""
    if case.downstream is None:
        return None
    sent = _row_roots(setting, case.downstream, receipt.positions)
    if sent is None or tree_root(sent) != receipt.outputRoot:
        return None
    return next(at for at, (theirs, ours) in enumerate(zip(sent, outputs, strict=True)) if theirs != ours)


def _agreed_positions(record: Record, receipt: Receipt, outputs: list[bytes]) -> int:
    """Positions up to which an earlier receipt of the same worker still has the recomputed root."""
    earlier = [other for other, _ in record.receipts if other.positions < receipt.positions]
    return max((r.positions for r in earlier if r.outputRoot == tree_root(outputs[: r.positions])), default=0)


def _row_roots(setting: Setting, record: Record, positions: int) -> list[bytes] | None:
    """Roots of the first rows of a record; None if it has too few of them."""
    size = setting.hidden * 4
    if len(record.rows) < positions * size:
        return None
    view = memoryview(record.rows)
    return [row_root(view[at * size : (at + 1) * size]) for at in range(positions)]


def _tokens(record: Record, receipt: Receipt) -> list[int]:
    return record.prompt + record.generated[: receipt.generated]


def _leaves(tokens: Sequence[int]) -> list[bytes]:
    return [token_leaf(token) for token in tokens]
