"""Honest receipts pass whatever the split; every cheat is named, with the worker and the position."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from torch import Tensor

from efedllm.model.load import Loaded
from efedllm.protocol import eip712
from efedllm.protocol.merkle import token_leaf, tree_root
from efedllm.protocol.objects import Receipt, Request, Sampling
from efedllm.protocol.records import Record
from verifier.blame import Judged, settle
from verifier.check import Case, check
from verifier.recompute import Recomputer, Shelf
from verifier.verdict import Fault, Missing, Outcome, Verdict

from . import path
from .path import Cheat, case, cold, flip_weight, hot, make_request, serve, setting

PROMPT = [int(byte) for byte in sha256(b"prompt").digest() * 3][:70]
SAMPLED = Sampling(60_000, 40, 60_000)
TOKENS = 19


@pytest.fixture(scope="module")
def request_of_three(model: Path) -> Request:
    return make_request(model, PROMPT, (0, 1, 2, 3), TOKENS, SAMPLED)


@pytest.fixture(scope="module")
def honest(model: Path, request_of_three: Request) -> list[Record]:
    return serve(model, request_of_three, PROMPT)


@pytest.fixture
def judge(model: Path, recomputer: Recomputer) -> Callable[[Case], Verdict]:
    return lambda given: check(setting(model), given, recomputer)


@pytest.mark.parametrize("bounds", [(0, 3), (0, 1, 3), (0, 2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("sampling", [Sampling(0, 0, 65536), SAMPLED])
def test_check_passes_every_receipt_of_every_split(
    model: Path, judge: Callable[[Case], Verdict], bounds: tuple[int, ...], sampling: Sampling
) -> None:
    records = serve(model, make_request(model, PROMPT, bounds, TOKENS, sampling), PROMPT)
    for shard, record in enumerate(records):
        assert len(record.receipts) == 4  # 64 positions, 1, 16 and 19 tokens
        for at in range(len(record.receipts)):
            assert judge(case(records, shard, at)) == Verdict(Outcome.OK, cold(shard).address)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_check_does_not_depend_on_its_chunks(model: Path, shelf: Shelf, honest: list[Record], chunk: int) -> None:
    for shard in range(3):
        verdict = check(setting(model), case(honest, shard), Recomputer(shelf, chunk))
        assert verdict.outcome is Outcome.OK


def test_check_does_not_depend_on_how_the_workers_chunked(
    model: Path, judge: Callable[[Case], Verdict], request_of_three: Request
) -> None:
    for chunk in (1, 70):
        records = serve(model, request_of_three, PROMPT, chunk=chunk)
        assert [judge(case(records, shard)).outcome for shard in range(3)] == [Outcome.OK] * 3


def test_check_needs_a_shelf_of_one_model_only(model: Path, shelf: Shelf, honest: list[Record]) -> None:
    room_for_two = Shelf(model, shelf._weights_root, shelf._backend, 2)
    recomputer = Recomputer(room_for_two)
    for shard in (0, 1, 2, 0):
        assert check(setting(model), case(honest, shard), recomputer).outcome is Outcome.OK
        assert len(room_for_two._shards) <= 2


# cheats of the computation


def from_position(position: int) -> Callable[[int, Tensor], Tensor]:
    """Adds one to one value of one row."""

    def alter(first: int, rows: Tensor) -> Tensor:
        if first <= position < first + len(rows):
            rows = rows.clone()
            rows[position - first, 11] += 1
        return rows

    return alter


@pytest.mark.parametrize("shard", [0, 1])
def test_check_names_one_flipped_weight_bit(
    model: Path, judge: Callable[[Case], Verdict], request_of_three: Request, shard: int
) -> None:
    records = serve(model, request_of_three, PROMPT, {shard: Cheat(weights=flip_weight)})
    verdicts = {at: judge(case(records, at)) for at in range(3)}
    assert [verdicts[at].outcome for at in range(3)].count(Outcome.FAULT) == 1
    found = verdicts[shard]
    assert (found.kind, found.worker) == (Fault.OUTPUT, cold(shard).address)
    assert found.position is not None and found.position < len(PROMPT)
    settled = settle([Judged(at, 88, verdicts[at]) for at in range(3)])
    assert [verdict.outcome for verdict in settled] == [
        *[Outcome.OK] * shard, Outcome.FAULT, *[Outcome.NOT_AT_FAULT] * (2 - shard)
    ]  # fmt: skip
    assert all(cold(shard).address in verdict.reason for verdict in settled[shard + 1 :])


def test_check_names_a_flipped_weight_bit_of_the_last_shard(
    model: Path, judge: Callable[[Case], Verdict], request_of_three: Request
) -> None:
    def flip_head(loaded: Loaded) -> None:
        assert loaded.final_norm is not None
        loaded.final_norm.g[7] ^= 1 << 13

    records = serve(model, request_of_three, PROMPT, {2: Cheat(weights=flip_head)})
    found = judge(case(records, 2))
    assert (found.kind, found.worker) == (Fault.TOKEN, cold(2).address)
    assert judge(case(records, 1)).outcome is Outcome.OK


@pytest.mark.parametrize("position", [0, 66, 70, 84])
def test_check_names_the_position_of_an_altered_row(
    model: Path, judge: Callable[[Case], Verdict], request_of_three: Request, position: int
) -> None:
    records = serve(model, request_of_three, PROMPT, {1: Cheat(rows=from_position(position))})
    given = case(records, 1)
    found = judge(given)
    assert (found.kind, found.position, found.worker) == (Fault.OUTPUT, position, cold(1).address)
    assert f"position {position}" in found.reason
    # Without the next worker's rows, the worker's own earlier receipts say from where on to look.
    alone = judge(replace(given, downstream=None))
    agreed = max([r.positions for r, _ in records[1].receipts if r.positions <= position], default=0)
    assert alone.kind is Fault.OUTPUT and alone.position is None
    assert (f"position {agreed} or later" in alone.reason) == (agreed > 0)
    assert judge(case(records, 2)).outcome is Outcome.OK


def test_check_passes_receipts_signed_before_the_cheat(
    model: Path, judge: Callable[[Case], Verdict], request_of_three: Request
) -> None:
    records = serve(model, request_of_three, PROMPT, {0: Cheat(rows=from_position(80))})
    outcomes = [judge(case(records, 0, at)).outcome for at in range(4)]
    assert outcomes == [Outcome.OK, Outcome.OK, Outcome.FAULT, Outcome.FAULT]


def test_check_names_a_changed_token(model: Path, judge: Callable[[Case], Verdict], request_of_three: Request) -> None:
    cheat = Cheat(token=lambda position, token: (token + 1) % 300 if position == 77 else token)
    records = serve(model, request_of_three, PROMPT, {2: cheat})
    found = judge(case(records, 2))
    assert (found.kind, found.position, found.worker) == (Fault.TOKEN, 77, cold(2).address)
    assert [judge(case(records, at)).outcome for at in (0, 1)] == [Outcome.OK] * 2


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": Sampling(0, 0, 65536)},
        {"sampling": Sampling(90_000, 40, 60_000)},
        {"sampling": Sampling(60_000, 0, 65536)},
        {"seed": bytes(32)},
    ],
    ids=["greedy", "hotter", "uncut", "other-seed"],
)
def test_check_names_a_wrong_sampler(
    model: Path, judge: Callable[[Case], Verdict], request_of_three: Request, change: dict[str, object]
) -> None:
    biased = serve(model, replace(request_of_three, **change), PROMPT)  # type: ignore[arg-type]
    tokens = biased[0].generated
    cheat = Cheat(token=lambda position, _: tokens[position - len(PROMPT)])
    records = serve(model, request_of_three, PROMPT, {2: cheat})
    found = judge(case(records, 2))
    assert (found.kind, found.worker) == (Fault.TOKEN, cold(2).address)


def test_check_names_tokens_after_a_stop_id(
    model: Path, judge: Callable[[Case], Verdict], honest: list[Record]
) -> None:
    stop = honest[0].generated[5]
    first = honest[0].generated.index(stop)
    request = make_request(model, PROMPT, (0, 1, 2, 3), TOKENS, SAMPLED, stop_ids=(stop,))
    records = serve(model, request, PROMPT)
    assert len(records[2].generated) == first + 1
    assert [judge(case(records, shard)).outcome for shard in range(3)] == [Outcome.OK] * 3
    records = serve(model, request, PROMPT, {2: Cheat(ignores_stop=True)})
    found = judge(case(records, 2))
    assert (found.kind, found.position) == (Fault.PAST_STOP, len(PROMPT) + first)
    assert judge(case(records, 2, 1)).outcome is Outcome.OK  # at one generated token
    assert [judge(case(records, shard)).outcome for shard in (0, 1)] == [Outcome.OK] * 2


def test_check_names_tokens_after_the_last_one_asked_for(
    model: Path, judge: Callable[[Case], Verdict], request_of_three: Request, honest: list[Record]
) -> None:
    more = replace(request_of_three, maxTokens=TOKENS - 2)
    receipts = {shard: _receipts_of(honest[shard], more, shard) for shard in range(3)}
    for shard in range(3):
        found = judge(
            case(
                [
                    replace(honest[at], request=more, request_signature=_signed(more), receipts=receipts[at])
                    for at in range(3)
                ],
                shard,
            )
        )
        assert (found.kind, found.worker) == (Fault.RECEIPT, cold(shard).address)
        assert "maxTokens" in found.reason


def _signed(request: Request) -> bytes:
    return eip712.sign(path.DOMAIN, request, path.SESSION)


def _receipts_of(record: Record, request: Request, shard: int) -> list[tuple[Receipt, bytes]]:
    """The record's receipts as if they were for another request."""
    other = [replace(receipt, requestId=eip712.digest(path.DOMAIN, request)) for receipt, _ in record.receipts]
    return [(receipt, eip712.sign(path.DOMAIN, receipt, hot(shard))) for receipt in other]


# cheats of the paper


WRONG = sha256(b"wrong").digest()


@pytest.mark.parametrize(
    ("shard", "changes", "kind"),
    [
        (0, {"outputRoot": WRONG}, Fault.OUTPUT),
        (1, {"outputRoot": WRONG}, Fault.OUTPUT),
        (2, {"outputRoot": WRONG}, Fault.OUTPUT),
        (0, {"inputRoot": WRONG}, Fault.INPUT),
        (1, {"inputRoot": WRONG}, Fault.LINK),
        (2, {"inputRoot": WRONG}, Fault.LINK),
        (1, {"upstream": WRONG}, Missing.UPSTREAM),
        (0, {"upstream": WRONG}, Fault.RECEIPT),
        (0, {"tokenRoot": WRONG}, Missing.TOKENS),
        (1, {"tokenRoot": WRONG}, Missing.TOKENS),
        (1, {"fee": 1}, Fault.RECEIPT),
        (1, {"positions": 90}, Fault.RECEIPT),
        (1, {"promptCount": 69}, Fault.RECEIPT),
        (1, {"generated": 18}, Fault.RECEIPT),
        (1, {"shard": 2}, Fault.RECEIPT),
        (1, {"shard": 9}, Fault.RECEIPT),
        (1, {"worker": cold(0).address}, Fault.FOREIGN),
        (1, {"payer": cold(0).address}, Fault.FOREIGN),
        (1, {"requestId": WRONG}, Missing.REQUEST),
    ],
)
def test_check_names_a_wrong_field_of_the_receipt(
    judge: Callable[[Case], Verdict],
    honest: list[Record],
    shard: int,
    changes: dict[str, object],
    kind: Fault | Missing,
) -> None:
    receipt = replace(honest[shard].receipts[-1][0], **changes)  # type: ignore[arg-type]
    records = list(honest)
    records[shard] = path.with_receipt(honest[shard], -1, receipt, hot(shard))
    found = judge(case(records, shard))
    assert found.kind is kind
    assert found.outcome is (Outcome.FAULT if isinstance(kind, Fault) else Outcome.UNAVAILABLE)
    assert found.worker == cold(shard - 1 if kind is Missing.UPSTREAM else shard).address
    assert found.reason and "\n" not in found.reason


def test_check_names_a_worker_that_signed_a_mismatch(
    model: Path, judge: Callable[[Case], Verdict], request_of_three: Request, honest: list[Record]
) -> None:
    """Worker 1 sends other rows than it commits to; worker 2 signs for what it received: the mismatch is worker 2's."""
    receipts = [receipt for receipt, _ in honest[1].receipts]
    cheat = Cheat(
        rows=from_position(72), receipt=lambda receipt: next(r for r in receipts if r.positions == receipt.positions)
    )
    tokens = honest[2].generated
    records = serve(model, request_of_three, PROMPT, {1: cheat, 2: Cheat(token=lambda at, _: tokens[at - len(PROMPT)])})
    assert judge(case(records, 1)).outcome is Outcome.OK
    found = judge(case(records, 2))
    assert (found.kind, found.worker) == (Fault.LINK, cold(2).address)


def test_check_names_an_upstream_receipt_of_another_request(
    model: Path, judge: Callable[[Case], Verdict], request_of_three: Request, honest: list[Record]
) -> None:
    other = serve(model, replace(request_of_three, nonce=2), PROMPT)
    named = eip712.digest(path.DOMAIN, other[0].receipts[-1][0])
    records = list(honest)
    records[1] = path.with_receipt(honest[1], -1, replace(honest[1].receipts[-1][0], upstream=named), hot(1))
    records[0] = replace(honest[0], receipts=[*honest[0].receipts, other[0].receipts[-1]])
    assert judge(case(records, 1)).kind is Fault.LINK


def test_check_names_what_was_claimed_beyond_the_fee(judge: Callable[[Case], Verdict], honest: list[Record]) -> None:
    given = case(honest, 1)
    leaf = replace(given.drawn.leaf, after=given.drawn.leaf.after + 1)
    assert judge(replace(given, drawn=replace(given.drawn, leaf=leaf))).kind is Fault.OVERCHARGED


@pytest.mark.parametrize(
    "changes",
    [{"kind": 1}, {"maxTokens": 200}, {"stopIds": (9, 4)}, {"stopIds": (400,)}, {"sampling": Sampling(1, 0, 65536)}],
)
def test_check_names_a_request_that_must_be_refused(
    judge: Callable[[Case], Verdict], honest: list[Record], request_of_three: Request, changes: dict[str, object]
) -> None:
    request = replace(request_of_three, **changes)  # type: ignore[arg-type]
    record = replace(
        honest[1], request=request, request_signature=_signed(request), receipts=_receipts_of(honest[1], request, 1)
    )
    found = judge(case([honest[0], record, honest[2]], 1))
    assert (found.kind, found.worker) == (Fault.REQUEST, cold(1).address)


def test_check_names_a_first_worker_that_fed_a_token_outside_the_vocabulary(
    judge: Callable[[Case], Verdict], honest: list[Record]
) -> None:
    record = honest[0]
    generated = [*record.generated[:3], 300, *record.generated[4:]]
    leaves = [token_leaf(token) for token in PROMPT + generated]
    receipt = record.receipts[-1][0]
    receipt = replace(receipt, tokenRoot=tree_root(leaves), inputRoot=tree_root(leaves[: receipt.positions]))
    records = [path.with_receipt(replace(record, generated=generated), -1, receipt, hot(0)), *honest[1:]]
    found = judge(case(records, 0))
    assert (found.kind, found.position) == (Fault.INPUT, len(PROMPT) + 3)


# answers that prove nothing


@pytest.mark.parametrize(
    ("alter", "kind"),
    [
        (lambda record: replace(record, receipts=[]), Missing.RECEIPT),
        (
            lambda record: replace(record, receipts=[(r, bytes(65)) for r, _ in record.receipts]),
            Missing.RECEIPT_SIGNATURE,
        ),
        (lambda record: path.with_receipt(record, -1, record.receipts[-1][0], hot(0)), Missing.RECEIPT_SIGNATURE),
        (lambda record: replace(record, request=replace(record.request, nonce=9)), Missing.REQUEST),
        (lambda record: replace(record, request_signature=bytes(65)), Missing.REQUEST_SIGNATURE),
        (
            lambda record: replace(record, request_signature=eip712.sign(path.DOMAIN, record.request, hot(1))),
            Missing.REQUEST_SIGNATURE,
        ),
        (lambda record: replace(record, generated=record.generated[:-1]), Missing.TOKENS),
        (lambda record: replace(record, generated=[*record.generated[:-1], 299]), Missing.TOKENS),
        (lambda record: replace(record, prompt=[1, *record.prompt[1:]]), Missing.TOKENS),
        (lambda record: replace(record, salt=bytes(32)), Missing.PROMPT),
        (lambda record: replace(record, rows=b""), Missing.ROWS),
        (lambda record: replace(record, rows=record.rows[:-1]), Missing.ROWS),
        (lambda record: replace(record, rows=bytes([record.rows[0] ^ 1]) + record.rows[1:]), Missing.ROWS),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shard", [1, 2])
def test_check_counts_what_does_not_fit_the_signatures_as_not_had(
    judge: Callable[[Case], Verdict], honest: list[Record], alter: Callable[[Record], Record], kind: Missing, shard: int
) -> None:
    given = case(honest, shard)
    found = judge(replace(given, record=alter(given.record)))
    assert (found.outcome, found.kind, found.worker) == (Outcome.UNAVAILABLE, kind, cold(shard).address)


@pytest.mark.parametrize(
    "alter",
    [
        lambda _: None,
        lambda record: replace(record, receipts=[]),
        lambda record: replace(record, receipts=[(receipt, bytes(65)) for receipt, _ in record.receipts]),
        lambda record: path.with_receipt(record, -1, record.receipts[-1][0], hot(1)),
    ],
)
def test_check_names_the_upstream_worker_that_withholds_its_receipt(
    judge: Callable[[Case], Verdict], honest: list[Record], alter: Callable[[Record], Record | None]
) -> None:
    given = case(honest, 1)
    found = judge(replace(given, upstream=alter(honest[0])))
    assert (found.outcome, found.kind, found.worker) == (Outcome.UNAVAILABLE, Missing.UPSTREAM, cold(0).address)


def test_check_finds_a_fault_although_the_upstream_receipt_is_withheld(
    model: Path, judge: Callable[[Case], Verdict], request_of_three: Request
) -> None:
    records = serve(model, request_of_three, PROMPT, {1: Cheat(weights=flip_weight)})
    assert judge(replace(case(records, 1), upstream=None)).kind is Fault.OUTPUT


def test_check_leaves_other_models_alone(
    model: Path, recomputer: Recomputer, honest: list[Record], request_of_three: Request
) -> None:
    ours = setting(model)
    others = replace(ours, model=replace(ours.model, model_id=WRONG))
    assert check(others, case(honest, 1), recomputer).outcome is Outcome.OTHER_MODEL


def test_settle_blames_the_first_of_the_path_only() -> None:
    right = [Judged(at, 80, Verdict(Outcome.OK, cold(at).address)) for at in range(4)]
    assert settle(right) == [one.verdict for one in right]
    fault = Judged(1, 64, Verdict(Outcome.FAULT, cold(1).address, Fault.OUTPUT, "wrong", 3))
    late = Judged(3, 80, Verdict(Outcome.FAULT, cold(3).address, Fault.TOKEN, "wrong too", 9))
    earlier = Judged(2, 63, Verdict(Outcome.OK, cold(2).address))
    settled = settle([late, right[2], earlier, fault, right[0]])
    assert [verdict.outcome for verdict in settled] == [
        Outcome.FAULT, Outcome.NOT_AT_FAULT, Outcome.OK, Outcome.FAULT, Outcome.OK
    ]  # fmt: skip
    greedy = Judged(0, 80, Verdict(Outcome.FAULT, cold(0).address, Fault.OVERCHARGED, "greedy"))
    assert settle([greedy, right[2]])[1] == right[2].verdict
